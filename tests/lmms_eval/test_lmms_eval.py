"""lmms-eval itself, started as a user starts it, on a task of local videos: the model was found, and it answered.

Its loader turns an import error into a warning, so what counts here is what stands in the results.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import infinipot
from support import clips

MEMORY, FPS = 320, 2
POLICY, R1 = "infinipot-v:combine=two-stage", 0.2
ARGUMENTS = f"pretrained=embedded,memory={MEMORY},fps={FPS},policy={POLICY},r1={R1}"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    return clips.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def by_hand(rows: list[dict[str, str]]) -> list[str]:
    """The answers of the library alone, each question on a stream of its own."""
    model = infinipot.load("embedded")
    answers: list[str] = []
    for row in rows:
        with model.stream(memory=MEMORY, policy=f"{POLICY},r1={R1}") as stream:
            for frame in infinipot.open_video(row["video"], fps=FPS):
                stream.watch(frame)
            answers.append(stream.ask(row["question"], max_new_tokens=8))
            assert stream.stats().compressions
    return answers


def run(rows: list[dict[str, str]], output: Path, *launcher: str) -> tuple[dict, list[dict], str]:
    """Runs lmms-eval beside the videos; returns its results, its samples in order, and all that it said."""
    command = [sys.executable, *launcher, "-m", "lmms_eval", "--model", "infinipot", "--model_args", ARGUMENTS]
    command += ["--tasks", "shapes", "--include_path", str(Path(__file__).parent / "task")]
    command += ["--output_path", str(output), "--log_samples"]
    done = subprocess.run(
        command,
        cwd=Path(rows[0]["video"]).parent,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "1", "HF_HOME": str(output / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    found = list(output.glob("*/*_results.json"))
    assert len(found) == 1, done.stdout
    (samples,) = output.glob("*/*_samples_shapes.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(found[0].read_text()), sorted(lines, key=lambda line: line["doc_id"]), done.stdout


@pytest.mark.parametrize(
    "launcher", [(), ("-m", "torch.distributed.run", "--nproc-per-node", "2")], ids=["one process", "two processes"]
)
def test_lmms_eval_finds_the_model_and_its_answers_are_those_of_the_library(
    rows: list[dict[str, str]], by_hand: list[str], tmp_path: Path, launcher: tuple[str, ...]
) -> None:
    results, samples, said = run(rows, tmp_path, *launcher)
    assert results["config"]["model"] == "infinipot"
    assert results["config"]["model_backend"] == "infinipot.lmms_eval.model.Infinipot (chat)"
    assert results["config"]["model_args"] == ARGUMENTS
    assert [sample["filtered_resps"] for sample in samples] == by_hand
    right = [answer == row["answer"] for answer, row in zip(by_hand, rows, strict=True)]
    assert results["results"]["shapes"]["right,none"] == sum(right) / len(right) > 0.5
    assert "entry-point" not in said  # the loader's warning
