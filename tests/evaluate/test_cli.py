"""`infinipot eval` on the command line: what is printed where, exit codes, one clear line for what goes wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import infinipot
from infinipot.cli import eval_options, eval_reproduce, main
from infinipot.cli.eval import _outputs
from infinipot.cli.meter import _line
from infinipot.config import StreamConfig
from infinipot.evaluate import BENCHMARKS, FrameSampling
from infinipot.evaluate.reading import read_run
from infinipot.evaluate.reproduce import entries
from infinipot.evaluate.run import Progress
from support.benchmark_layouts import egoschema, mlvu

pytestmark = pytest.mark.usefixtures("libraries_as_before")
SMALL = ("--memory", "768", "--reserve", "500", "--frames", "4", "--min-pixels", "4096", "--max-pixels", "4096")
PLOT, JUDGED = "mlvu/json/1_plotQA.json", ("--judge-url", "http://x", "--judge-model", "m")
EMBEDDED = ("--model", "embedded", "--device", "cpu")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return mlvu(tmp_path / "mlvu")


def call(*args: str) -> Result:
    return CliRunner().invoke(main, ["eval", *args])


def test_the_list_says_of_each_benchmark_what_one_needs_to_get_it() -> None:
    text = call("--list").stdout
    listed = {one["name"]: one for one in json.loads(call("--list", "--json").stdout)}
    assert set(listed) == set(BENCHMARKS)
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.licence in text
        assert benchmark.source in text
        assert all(line.strip() in text for line in benchmark.layout.splitlines())
        assert benchmark.default_protocol in listed[name]["protocols"]


def test_a_run_prints_its_table_and_is_gone_on_with(data: Path) -> None:
    arguments = ("mlvu", "--data", "mlvu", *EMBEDDED, *SMALL)
    first = call(*arguments, "--limit", "2", "--json")
    assert first.exit_code == 0, first.stderr
    (section,) = json.loads(first.stdout)
    assert section["runs"][0]["answered"] == section["runs"][0]["asked"] == 3
    assert "2 of 2 videos, 3 of 3 questions" in first.stderr
    output = Path("mlvu-dev-infinipot-v.jsonl")
    before = output.read_bytes()
    assert call(*arguments, "--limit", "2").exit_code == 0
    assert output.read_bytes() == before
    refused = call(*arguments, "--limit", "2", "--policy", "van", "--output", str(output))
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ")
    assert 'policy: "infinipot-v" there, "van" now' in refused.stderr
    Path("mlvu-dev-infinipot-v.verdicts.jsonl").write_text('{"type": "judge"}\n')
    given = sorted(map(str, Path().glob("mlvu-*.jsonl")))  # as a shell gives them
    assert given == [
        "mlvu-dev-infinipot-v.jsonl",
        *(f"mlvu-dev-infinipot-v.{kind}.jsonl" for kind in ("times", "verdicts")),
    ]
    report = call("report", *given, "--output", "out")
    assert report.exit_code == 0, report.stderr
    assert "one watch a question would take" in report.stdout
    assert {path.name for path in Path("out").iterdir()} == {"report.md", "report.json", "report.png"}


def test_several_policies_are_run_side_by_side_each_into_a_file_of_its_own(data: Path) -> None:
    arguments = ("mlvu", "--data", "mlvu", *EMBEDDED, *SMALL, "--limit", "1", "--json")
    chosen = ("--policy", "uniform", "--policy", "tar:reference=recent", "--policy", "uniform")
    both = call(*arguments, *chosen)
    assert both.exit_code == 0, both.stderr
    (section,) = json.loads(both.stdout)
    assert [run["files"] for run in section["runs"]] == [
        ["mlvu-dev-uniform.jsonl"],
        ["mlvu-dev-tar-reference=recent.jsonl"],
    ]
    assert section["runs"][1]["against_the_first"]
    assert _outputs(Path("a/run.jsonl"), "mlvu", ["van", "tar"], (1, 2)) == [
        Path("a/run-van.jsonl"),
        Path("a/run-tar.jsonl"),
    ]
    refused = call(*arguments, *chosen, "--engine", "ray")
    assert refused.exit_code == 2
    assert "--engine ray takes one --policy" in refused.stderr


def test_a_gate_and_second_looks_are_part_of_a_run(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    asked, ask = [], infinipot.Stream.ask

    def noting(self: infinipot.Stream, question: str, **how: Any) -> str:
        asked.append((self.config.gate, self.config.look_again, how["look_again"]))
        return ask(self, question, **how)

    monkeypatch.setattr(infinipot.Stream, "ask", noting)
    arguments = ("mlvu", "--data", "mlvu", *EMBEDDED, *SMALL, "--limit", "1")
    assert call(*arguments, "--gate", "otsu", "--look-again", "2", "--output", "gated.jsonl").exit_code == 0
    assert set(asked) == {("otsu", 2, 2)}
    assert 'gate: "otsu" there, none now' in call(*arguments, "--output", "gated.jsonl").stderr.replace("null", "none")
    assert call(*arguments).exit_code == 0
    told = call("report", "gated.jsonl", "mlvu-dev-infinipot-v.jsonl").stdout
    assert "gate=otsu look=2" in told
    refused = call(*arguments, "--gate", "0.1", "--policy", "recent-frames", "--output", "other.jsonl")
    assert refused.exit_code != 0
    assert "needs whole patches" in refused.stderr


def test_the_help_says_what_the_runs_file_is_called() -> None:
    assert "mlvu-VARIANT-POLICY.jsonl" in "".join(call("mlvu", "--help").stdout.split())


def test_a_file_of_another_run_is_refused_before_a_model_is_loaded(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Path("mlvu-dev-infinipot-v.jsonl")
    arguments = ("mlvu", "--data", "mlvu", *EMBEDDED, *SMALL, "--limit", "2", "--output", str(output))
    assert call(*arguments).exit_code == 0
    before = output.read_bytes()
    monkeypatch.setattr(eval_options, "load_quietly", lambda *_, **__: pytest.fail("loaded"))
    for changed, named in (
        (("--policy", "van"), 'policy: "infinipot-v" there, "van" now'),
        (("--model", "./nowhere"), 'model: "embedded" there, "./nowhere" now'),
        (("--dtype", "float16"), '"float16" now'),
        (("--seed", "7"), "seed: 0 there, 7 now"),
        (("--seed", "7", "--retry"), "seed: 0 there, 7 now"),
        (("--limit", "1"), "limit: 2 there, 1 now"),
        (("--limit", "1", "--retry"), "limit: 2 there, 1 now"),
    ):
        refused = call(*arguments, *changed)
        assert refused.exit_code == 1
        assert named in refused.stderr
        assert refused.stderr.count("\n") == 1
    (data / "json" / "1_plotQA.json").write_text((data / "json" / "1_plotQA.json").read_text().replace("?", "!"))
    assert "which this run does not ask" in call(*arguments, "--retry").stderr
    other = Path("notes.jsonl")
    other.write_text("notes")
    assert "something other than a run" in call(*arguments, "--output", str(other)).stderr
    assert output.read_bytes() == before
    assert other.read_text() == "notes"


def test_where_labels_are_withheld_the_file_for_the_authors_server_is_written(tmp_path: Path) -> None:
    egoschema(tmp_path / "ego", "full")
    arguments = ("egoschema", "--variant", "full", "--data", "ego", *EMBEDDED, *SMALL, "--output", "ego.jsonl")
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    answers = read_run(Path("ego.jsonl")).answers
    written = Path("ego.submission.json").read_text()
    assert "ego.submission.json" in result.stderr
    assert all(line.question in written for line in answers)


def test_the_file_for_the_authors_server_is_written_for_all_shards_or_not_at_all(tmp_path: Path) -> None:
    egoschema(tmp_path / "ego", "full")
    arguments = ("egoschema", "--variant", "full", "--data", "ego", *EMBEDDED, *SMALL)
    whole = call(*arguments, "--output", "whole.jsonl")
    assert whole.exit_code == 0, whole.stderr
    for number in (1, 2):
        part = call(*arguments, "--shard", f"{number}/2", "--output", f"part{number}.jsonl")
        assert f"shard {3 - number}/2 is not here" in part.stderr
    assert [path.name for path in Path().glob("*.submission.json")] == ["whole.submission.json"]
    assert call("report", "part1.jsonl", "--output", "one").exit_code == 0
    assert not list(Path("one").glob("*.submission.json"))
    said = call("report", "part1.jsonl", "part2.jsonl", "--output", "both").stderr
    (merged,) = Path("both").glob("*.submission.json")
    assert merged.name == "egoschema-full-infinipot-v-@768.submission.json"
    assert merged.name in said
    assert json.loads(merged.read_text()) == json.loads(Path("whole.submission.json").read_text())
    lines = Path("part2.jsonl").read_text().splitlines(keepends=True)
    Path("part2.jsonl").write_text("".join(lines[:-1]))  # it is still going on
    said = call("report", "part1.jsonl", "part2.jsonl", "--output", "both").stderr
    assert f"but 1 of the {len(json.loads(Path('whole.submission.json').read_text()))} answers is missing" in said


def test_what_could_not_be_used_is_told_counted_and_exit_code_3(data: Path) -> None:
    (data / "video" / "1_plotQA" / "plotQA_1.mp4").write_bytes(b"broken")
    result = call("mlvu", "--data", "mlvu", *EMBEDDED, *SMALL, "--limit", "2", "--output", "a.jsonl")
    assert result.exit_code == 3
    assert "problem: video/1_plotQA/plotQA_1.mp4" in result.stderr
    assert "\n1 problem, in a.jsonl" in result.stderr
    assert "(2 questions not asked)" in result.stderr
    assert "no answer to 2 of 3 questions" in result.stdout
    assert len(read_run(Path("a.jsonl")).answers) == 1


def test_annotations_that_cannot_be_used_are_told_once_and_by_the_first_shard_alone(data: Path) -> None:
    lost = data / "json" / "7_topic_reasoning.json"
    lost.write_text("no JSON")
    arguments = ("mlvu", "--data", "mlvu", *EMBEDDED, *SMALL, "--limit", "2")
    first = call(*arguments, "--output", "whole.jsonl")
    assert first.exit_code == 3
    assert first.stderr.count("problem: json/7_topic_reasoning.json: cannot be read as JSON") == 1
    again = call(*arguments, "--output", "whole.jsonl")
    assert again.exit_code == 3
    assert "problem: json" not in again.stderr
    assert "problem: json/7" in call(*arguments, "--output", "whole.jsonl", "--retry").stderr
    parts = [call(*arguments, "--shard", f"{number}/2", "--output", f"{number}.jsonl") for number in (1, 2)]
    assert [part.exit_code for part in parts] == [3, 0]
    assert ["problem: json/7" in part.stderr for part in parts] == [True, False]


def test_all_files_of_the_layout_that_are_missing_are_named_at_once(data: Path) -> None:
    for task in ("2_needle", "5_order"):
        (data / "json" / f"{task}.json").unlink()
    result = call("mlvu", "--data", "mlvu", *EMBEDDED)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: MLVU: mlvu does not hold json/2_needle.json, json/5_order.json;")


def test_the_reserve_that_every_question_would_have_room_in_is_said_at_the_end(data: Path) -> None:
    small = ("--memory", "768", "--frames", "4", "--min-pixels", "4096", "--max-pixels", "4096", "--limit", "2")
    arguments = ("mlvu", "--data", "mlvu", *EMBEDDED, *small)
    result = call(*arguments, "--reserve", "100", "--output", "a.jsonl")
    assert result.exit_code == 3
    needed = sorted({line.reserve for line in read_run(Path("a.jsonl")).problems if line.reserve})
    assert all(f"need --reserve {number} (1 question not asked)" in result.stderr for number in needed)
    assert result.stderr.splitlines()[-1].startswith(f"--reserve {needed[-1]} would have room for every question")
    assert call(*arguments, "--reserve", str(needed[-1]), "--output", "b.jsonl").exit_code == 0
    assert call(*arguments, "--reserve", str(needed[-1] - 1), "--output", "c.jsonl").exit_code == 3


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("mlvu", "--data", "nowhere", *EMBEDDED), 1, "there is no data folder nowhere"),
        (("mlvu", "--data", ".", *EMBEDDED), 1, "json/1_plotQA.json"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--policy", "infinipot"), 2, "did you mean"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--memory", "50"), 1, "too small"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--memory", "300", "--reserve", "500"), 1, "reserve=500"),
        (("mlvu", "--data", "mlvu", "--model", "embeded", "--memory", "300"), 1, 'did you mean "embedded"?'),
        (("mlvu", "--data", "mlvu", "--model", "./nowhere", "--memory", "12XB"), 2, "memory='12XB'"),
        (("mlvu", "--data", "mlvu", "--model", "./nowhere", "--keep", "1.5"), 2, "keep=1.5"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--shard", "0/3"), 2, "is not a shard"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--shard", "¹/²"), 2, "is not a shard"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--fps", "-1"), 2, "fps=-1.0: give a number"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--frames", "4", "--fps", "nan"), 2, "fps=nan: give a number"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--workers", "2"), 2, "--engine ray"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--engine", "ray", "--gpus-per-worker", "1.5"), 2, "or a whole number"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--judge-url", "http://x"), 2, "--judge-model"),
        (("judge", PLOT, *JUDGED, "--judge-prompt", PLOT), 2, "put {reference} in it"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--judge-prompt", PLOT), 2, "give --judge-url and --judge-model, too"),
        (("mlvu", "--data", "mlvu", *EMBEDDED, "--min-pixels", "9"), 2, "--max-pixels"),
        (("mlvu", "--data", "mlvu"), 2, "--model"),
        (("nlvu",), 2, "nlvu"),
        (("report", "mlvu/json/1_plotQA.json"), 1, "not the header of a run"),
        (("reproduce", "--data", "nowhere", "--model", "x"), 1, "holds no folder mlvu"),
    ],
)
def test_what_cannot_be_is_one_clear_line(args: tuple[str, ...], code: int, said: str) -> None:
    result = call(*args)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert code == 2 or result.stderr.count("\n") == 1


def test_the_published_tables_are_listed_with_their_cost_and_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = call("reproduce", "--data", ".", "--model", "x", "--dry-run")
    assert listed.exit_code == 0
    assert "27 runs" in listed.stdout
    assert "Nobody has run this yet" in listed.stdout
    small = [
        replace(
            entry,
            setup=replace(
                entry.setup,
                config=StreamConfig(memory=768, reserve=500),
                sampling=FrameSampling("uniform", 4, None, (4096, 4096)),
            ),
        )
        for entry in entries()
        if entry.benchmark == "mlvu" and entry.label in ("uniform", "infinipot-v", "TaR alone")
    ]
    monkeypatch.setattr(eval_reproduce, "entries", lambda: small)
    result = call("reproduce", "--data", ".", *EMBEDDED, "--limit", "1", "--output", "out")
    assert result.exit_code == 0, result.stderr
    assert "published  measured" in " ".join(result.stdout.split()).replace("published measured", "published  measured")
    assert "mlvu, infinipot-v none" in " ".join(result.stdout.split())  # what was published is of the published code
    assert {path.name for path in Path("out").glob("*.jsonl") if "times" not in path.name} == {
        "mlvu-uniform.jsonl",
        "mlvu-infinipot-v.jsonl",
        "mlvu-TaR-alone.jsonl",
    }
    assert "Measured: 1 video alone, the first." in result.stdout
    before = Path("out/mlvu-uniform.jsonl").read_bytes()
    assert call("reproduce", "--data", ".", *EMBEDDED, "--limit", "1", "--output", "out").exit_code == 0
    assert Path("out/mlvu-uniform.jsonl").read_bytes() == before
    questions = Path("mlvu/json/2_needle.json")
    questions.write_text(questions.read_text().replace("needle_1.mp4", "needle_9.mp4"))
    Path("mlvu/video/2_needle/needle_9.mp4").write_bytes(b"no video")
    monkeypatch.setattr(eval_reproduce, "entries", lambda: small[:1])
    result = call("reproduce", "--data", ".", *EMBEDDED, "--limit", "2", "--output", "broken")
    assert result.exit_code == 3
    assert "2 of 3 answered" in result.stdout
    whole = Path("mlvu/video/2_needle/needle_1.mp4").read_bytes()
    Path("mlvu/video/2_needle/needle_9.mp4").write_bytes(whole)
    result = call("reproduce", "--data", ".", *EMBEDDED, "--limit", "2", "--output", "broken", "--retry")
    assert result.exit_code == 0, result.stderr
    assert "answered" not in result.stdout


def test_time_left_is_that_of_the_videos_left_at_this_processes_pace() -> None:
    progress = Progress(videos=15, of_videos=20, questions=30, of_questions=40, now=5, problems=2)
    assert _line(progress, 100.0) == "15 of 20 videos, 30 of 40 questions, 2 problems, 1:40 left"
    assert "left" not in _line(replace(progress, now=0), 100.0)
