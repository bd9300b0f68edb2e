"""The demo: what it asks, what it measures, and what it leaves behind."""

import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import infinipot
from infinipot import policies
from infinipot.cli import main
from infinipot.cli.meter import StreamMeter
from infinipot.embedded.demo import Demo, Reply, moments, plot, run
from infinipot.embedded.words import KINDS
from infinipot.embedded.world import Clip, Question
from support.video_files import encode


def demo(*args: str) -> Result:
    return CliRunner().invoke(main, ["demo", "--minutes", "1", *args])


@pytest.fixture(scope="module")
def result() -> Demo:
    chosen = [policies.make("infinipot-v"), policies.make("sliding-window")]
    clip = Clip(10_000, 120, 2.0, 6, cast="varied")
    return run(infinipot.load("embedded"), chosen, clip=clip, memory=300)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_full_cache_would_pass_the_cap_many_times_over_and_the_stream_never_does(result: Demo) -> None:
    for stats in result.stats:
        assert stats.full_tokens > 6 * stats.cap
        assert stats.compressions > 10
        assert stats.peak_tokens <= stats.cap == 300
    assert all(max(held) <= 300 for _, held, _ in result.history)
    assert [full for *_, full in result.history] == sorted(full for *_, full in result.history)


def test_questions_of_every_kind_are_asked_with_and_without_a_shape_in_view(result: Demo) -> None:
    assert {reply.question.kind for reply in result.replies} == set(KINDS) - {"odd"}
    assert {reply.question.answer for reply in result.replies if reply.question.kind == "now"} == {"yes", "no"}


@pytest.mark.parametrize("minutes", [0.5, 2, 10, 60])
@pytest.mark.parametrize("seed", [0, 10_000, 10_001])
def test_questions_are_asked_at_frame_times_up_to_the_last(seed: int, minutes: float) -> None:
    clip = Clip(seed, 60 * minutes, 2.0, 6, cast="varied")
    due = moments(clip)
    assert due <= {index / 2 for index in range(len(clip))}
    assert max(due) == (len(clip) - 1) / 2
    assert len(due) >= 5


def test_scores_count_right_answers_of_each_policy_against_chance() -> None:
    now, count = (
        Question("now", "?", "no", ("yes", "no")),
        Question("count", "?", "two", ("one", "two", "three", "four")),
    )
    replies = (Reply(1, now, ("no", "yes")), Reply(1, count, ("two", "two")), Reply(2, now, ("no", "no.")))
    scores = {score.kind: score for score in Demo(("a", "b"), replies, (), ()).scores()}
    assert scores.keys() == {"now", "count", "all"}
    assert (scores["now"].asked, scores["now"].chance, scores["now"].right) == (2, 0.5, (2, 0))
    assert (scores["all"].asked, scores["all"].chance, scores["all"].right) == (3, 1.25 / 3, (3, 1))


def test_policies_side_by_side_answer_as_they_do_alone(result: Demo) -> None:
    clip = Clip(10_000, 120, 2.0, 6, cast="varied")
    alone = run(infinipot.load("embedded"), [policies.make("sliding-window")], clip=clip, memory=300)
    assert [reply.answers[0] for reply in alone.replies] == [reply.answers[1] for reply in result.replies]


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_picture_is_written_in_the_format_of_its_suffix(result: Demo, suffix: str, magic: bytes) -> None:
    plot(result, Path(f"demo.{suffix}"))
    assert Path(f"demo.{suffix}").read_bytes().startswith(magic)


def test_the_command_prints_right_and_wrong_answers_and_says_where_the_picture_is() -> None:
    printed = demo()
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert "✓" in printed.stdout
    assert "✗" in printed.stdout
    assert "sliding-window" in printed.stdout
    assert "The picture is in infinipot-demo.png" in printed.stdout
    assert Path("infinipot-demo.png").exists()


def test_the_shapes_are_drawn_into_a_video_of_ones_own_which_goes_on_as_long_as_it_must(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Root may write anywhere, so a folder that is read-only is only said to be.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    shades = [np.full((48, 64, 3), 60 + 4 * index, np.uint8) for index in range(20)]
    encode(Path("mine.mp4"), shades, rate=4)
    printed = CliRunner().invoke(main, ["demo", "--video", "mine.mp4", "--compare", "none"])
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert "1:00 of coloured shapes drawn into mine.mp4" in printed.stdout
    assert f"No picture was drawn, since nothing can be written into {Path.cwd()}: see --plot" in printed.stdout
    assert not Path("infinipot-demo.png").exists()
    refused = CliRunner().invoke(main, ["demo", "--plot", "demo.PNG"])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--plot demo.PNG: nothing can be written into .; give another folder" in refused.stderr


def test_json_has_an_object_per_question_and_a_summary() -> None:
    *answers, summary = map(json.loads, demo("--json", "--compare", "none", "--plot", "a.svg").stdout.splitlines())
    assert {answer["type"] for answer in answers} == {"answer"}
    assert len(answers) == next(score["asked"] for score in summary["scores"] if score["kind"] == "all")
    right = sum(answer["answers"]["infinipot-v"] == answer["answer"] for answer in answers)
    assert summary["scores"][-1]["right"] == {"infinipot-v": right}
    assert summary["stats"]["infinipot-v"]["cap"] == 512


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--memory", "100"), 1, "the smallest that works is"),
        (("--policy", "none"), 2, "unknown policy"),
        (("--compare", "sliding"), 2, 'did you mean "sliding-window"?'),
        (("--policy", "full"), 1, "never evicts"),
        (("--plot", "demo.txt"), 2, ".png"),
        (("--plot", "no/folder/demo.png"), 2, "existing folder"),
        (("--minutes", "0"), 2, "--minutes"),
        (("--minutes", "nan"), 2, "nan is not a finite number"),
        (("--minutes", "inf"), 2, "inf is not a finite number"),
        (("--video", "missing.mp4"), 1, "missing.mp4"),
        (("--background", "sea"), 2, "still"),
    ],
)
def test_what_cannot_be_is_said_and_draws_nothing(args: tuple[str, ...], code: int, said: str) -> None:
    printed = demo(*args)
    assert printed.exit_code == code
    assert said in printed.stderr
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("duration", "end", "told"), [(100.0, 30.0, (5.0, 20.0)), (100.0, None, (5.0, 90.0)), (None, math.inf, (5.0, None))]
)
def test_progress_is_of_the_part_of_a_video_that_is_watched(
    duration: float | None, end: float | None, told: tuple[float, float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(StreamMeter, "tell", lambda self, *given: seen.append(given))
    stats: Any = SimpleNamespace(time=15.0, modality="video", frames=3, tokens=5, cap=9, compressions=0)
    StreamMeter(duration, False, 10.0, end).update(stats)
    assert seen[0][1:] == told
