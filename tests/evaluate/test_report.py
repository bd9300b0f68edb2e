"""What runs come to: intervals, differences, shards together, costs, published numbers."""

import json
import random
import time
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infinipot import ResultsError
from infinipot.evaluate import BENCHMARKS, Problem, Scored, find_protocol
from infinipot.evaluate.core import statistics
from infinipot.evaluate.core.estimates import Difference, Estimate
from infinipot.evaluate.core.statistics import Average, difference, estimate, over_groups, over_questions, over_tasks
from infinipot.evaluate.core.tables import markdown, notes_on, percent
from infinipot.evaluate.engines.base import WatchTime
from infinipot.evaluate.published import published
from infinipot.evaluate.reading import read_runs
from infinipot.evaluate.render import draw, write
from infinipot.evaluate.report import report, tables
from infinipot.evaluate.reproduce import CELLS, PATCHES, Hardware, entries, gpu_hours
from infinipot.evaluate.results import beside
from infinipot.evaluate.run import evaluate
from perf.interval_coverage import covered
from support.runs import SETUPS, Canned, plan


def clusters(*videos: str) -> dict[str, list[Scored]]:
    """Videos as texts: "1101" is one with four questions of which one was wrong; "-" has no score."""
    return {
        f"v{number}": [
            Scored(f"q{number}-{index}", f"task{index % 2}", None, None if digit == "-" else float(digit))
            for index, digit in enumerate(video)
        ]
        for number, video in enumerate(videos)
    }


# Statistics


def paired(*given: Any, **how: Any) -> Difference:
    """A difference that there is."""
    found = difference(*given, **how)
    assert found is not None
    return found


def ends(of: Estimate | Difference) -> tuple[float, float]:
    """The ends of an interval that there is."""
    assert of.low is not None
    assert of.high is not None
    return of.low, of.high


def test_the_interval_of_single_questions_is_the_binomial_one() -> None:
    scores = clusters(*("1" * 60 + "0" * 40))
    (one,) = [value for name, value in estimate(scores, over_questions, draws=4000).items() if name == "overall"]
    spread = 1.96 * np.sqrt(0.6 * 0.4 / 100)
    assert one.value == 0.6
    assert (one.low, one.high) == (pytest.approx(0.6 - spread, abs=0.015), pytest.approx(0.6 + spread, abs=0.015))


def test_questions_of_one_video_do_not_count_as_independent() -> None:
    """Four questions a video that are all right or all wrong tell as much as one."""
    wide = estimate(clusters(*["1111"] * 15 + ["0000"] * 10), over_questions)["overall"]
    one = estimate(clusters(*"1" * 15 + "0" * 10), over_questions)["overall"]
    (low, high), (first, last) = ends(wide), ends(one)
    assert high - low == pytest.approx(last - first, abs=0.03)
    assert high - low > 1.7 * 2 * 1.96 * np.sqrt(0.6 * 0.4 / 100)


def test_the_average_is_the_protocols_on_every_draw() -> None:
    scores = clusters("10", "10", "11", "00", "1")
    assert estimate(scores, over_tasks)["overall"].value == pytest.approx((4 / 5 + 1 / 4) / 2)
    assert estimate(scores, over_questions)["overall"].value == pytest.approx(5 / 9)


def test_nothing_is_said_of_one_video_or_of_none() -> None:
    alone = estimate(clusters("110"), over_questions)["overall"]
    assert (alone.low, alone.high) == (None, None)
    of_tasks = estimate(clusters("11", "0", "1"), over_tasks)  # task1 is in the first video alone
    assert (of_tasks["task1"].low, of_tasks["task1"].high) == (None, None)
    assert of_tasks["task0"].low == 0.0
    unscored = estimate(clusters("110", "-", "--"), over_questions)["overall"]
    assert (unscored.low, unscored.high) == (None, None)
    assert estimate(clusters("--"), over_questions) == {}
    assert difference(clusters("--"), clusters("11"), over_questions) is None


def test_an_average_of_groups_that_no_video_has_all_of_has_an_interval() -> None:
    scores = {f"{n}": [Scored(f"{n}", "t", "xy"[n % 2], float(n % 3 == 0))] for n in range(40)}
    both = estimate(scores, OFFICIAL)["both groups"]
    assert both.videos == 40
    assert ends(both)[0] < both.value < ends(both)[1]


def test_a_difference_is_of_the_questions_that_both_have() -> None:
    gap = paired(clusters("11", "10", "0-"), clusters("11", "11", "1"), over_questions)
    assert (gap.questions, gap.videos) == (5, 3)
    assert gap.value == pytest.approx(1 - 3 / 5)
    same = paired(clusters("10", "01"), clusters("10", "01"), over_questions)
    assert (same.value, same.p) == (0, 1)


def test_significance_is_that_of_the_exact_sign_test() -> None:
    """Six videos that all get better: swaps that look as extreme are 2 in 64."""
    gap = paired(clusters(*"0" * 6), clusters(*"1" * 6), over_questions, draws=4000)
    assert gap.p == pytest.approx(2 / 64, rel=0.35)
    back = paired(clusters(*"1" * 6), clusters(*"0" * 6), over_questions, draws=4000)
    assert (back.value, back.p) == (-gap.value, gap.p)


OFFICIAL = replace(over_groups, means={"both groups": ("x", "y")})
AVERAGES = [over_questions, over_tasks, over_groups, OFFICIAL]


def mixed(seed: int, videos: int = 7) -> dict[str, list[Scored]]:
    """Videos of none to four questions of some tasks, one of which has no group, scored 0, 1, in between or not."""
    draw = random.Random(seed)

    def one(name: str) -> Scored:
        task = draw.choice("abc")
        return Scored(name, task, None if task == "c" else draw.choice("xy"), draw.choice([0, 1, 0.25, None]))

    return {f"v{video}": [one(f"{video}-{index}") for index in range(draw.randint(0, 4))] for video in range(videos)}


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("at_once", [1, 50, 1 << 20])
def test_estimates_are_those_of_averaging_the_questions_of_each_draw(
    average: Average, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_AT_ONCE", at_once)
    for seed in range(4):
        scores = mixed(seed)
        videos = [video for video in scores.values() if any(one.correct is not None for one in video)]
        drawn: dict[str, list[float]] = {}
        for chosen in np.random.default_rng(seed).integers(0, len(videos), (60, len(videos))):
            for name, value in average([one for index in chosen for one in videos[index]]).items():
                drawn.setdefault(name, []).append(value)
        found = estimate(scores, average, draws=60, seed=seed)
        scored = [[one for one in video if one.correct is not None] for video in videos]
        whole = average([one for video in videos for one in video])
        assert list(found) == list(whole)
        for name, one in found.items():
            assert one.value == pytest.approx(whole[name])
            named = {"both groups": "xy"}.get(name, name)
            of_it = [any(name == "overall" or {each.task, each.group} & set(named) for each in v) for v in scored]
            assert (one.low is None) == (sum(of_it) < 2)
            if one.low is not None and np.ptp(drawn[name]):
                assert (one.low, one.high) == pytest.approx(tuple(np.quantile(drawn[name], [0.025, 0.975])))


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_differences_are_those_of_averaging_the_questions_of_each_draw_and_swap(
    average: Average, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_AT_ONCE", at_once)
    for seed in range(4):
        one = mixed(seed)
        right = random.Random(-seed)
        other = {name: [replace(each, correct=right.choice([0, 1, 1, None])) for each in one[name]] for name in one}
        pairs = []
        for name in one:
            both = [
                (first, second)
                for first, second in zip(one[name], other[name], strict=True)
                if first.correct is not None and second.correct is not None
            ]
            pairs += [tuple(zip(*both, strict=True))] if both else []

        def gap(sides: list) -> float:
            first, second = ([one for pair in sides for one in pair[side]] for side in (0, 1))
            return average(second)["overall"] - average(first)["overall"]

        found = paired(one, other, average, draws=60, seed=seed)
        choices = np.random.default_rng(seed).integers(0, len(pairs), (60, len(pairs)))
        drawn = [gap([pairs[index] for index in chosen]) for chosen in choices]
        swaps = np.random.default_rng(seed).random((60, len(pairs))) < 0.5
        far = [gap([pair[::-1] if swap else pair for pair, swap in zip(pairs, row, strict=True)]) for row in swaps]
        assert found.value == pytest.approx(gap(pairs))
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
        assert found.p == (1 + sum(abs(one) >= abs(found.value) - 1e-12 for one in far)) / 61


def test_2700_questions_take_no_time_and_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_AT_ONCE", 1 << 14)
    runs = [clusters(*("".join(random.Random(seed + n).choices("01", k=3)) for n in range(900))) for seed in (0, 9)]
    tracemalloc.start()
    begun = time.process_time()
    estimate(runs[0], over_tasks)
    paired(*runs, over_tasks)
    spent, (_, peak) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 3  # a loop over draws and questions takes over ten times as long
    assert peak < 10 * 2**20


def test_answers_that_are_all_right_are_not_said_to_be_certain() -> None:
    """Of 20 videos, the exact binomial interval begins at 0.025^(1/20)."""
    right = estimate(clusters(*"1" * 20), over_questions)["overall"]
    assert (right.value, right.low, right.high) == (1.0, pytest.approx(0.025 ** (1 / 20)), 1.0)
    least = ends(right)[0]
    wrong = estimate(clusters(*"0" * 20), over_questions)["overall"]
    assert (wrong.value, wrong.low, wrong.high) == (0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    many = estimate(clusters(*["111"] * 20), over_questions)["overall"]
    assert many.low == pytest.approx(least)  # it is videos that count, not questions
    uneven = estimate(clusters("11", *"1" * 9), over_tasks)["overall"]  # one of two tasks is in the first video alone
    assert uneven.low == pytest.approx(0.025 ** ((1 + 1 / 10) / 2))
    same = paired(clusters(*"10" * 10), clusters(*"10" * 10), over_questions)
    assert (same.value, same.low, same.high, same.p) == (
        0,
        pytest.approx(least - 1),
        pytest.approx(1 - least),
        1,
    )
    better = paired(clusters(*"0" * 20), clusters(*"1" * 20), over_questions)
    assert (better.low, better.high) == (pytest.approx(1 - 2 * (1 - least)), 1)


@given(
    seed=st.integers(0, 10_000),
    shares=st.lists(st.sampled_from([0, 0, 0.1, 1]), min_size=7, max_size=7).filter(sum),
    of=st.sampled_from(AVERAGES),
)
def test_all_right_leaves_out_no_chances_under_which_that_is_to_be_expected(
    seed: int, shares: list[float], of: Average
) -> None:
    """Chances of the videos that make "all right" at least as likely as 1 in 40 average to no less than the bound."""
    chances = [0.025 ** (share / sum(shares)) for share in shares]
    scores = {name: [replace(one, correct=1.0) for one in own] for name, own in mixed(seed).items()}
    assume(sum(map(bool, scores.values())) > 1)
    expected = [
        replace(one, correct=chance) for own, chance in zip(scores.values(), chances, strict=True) for one in own
    ]
    assert of(expected)["overall"] >= ends(estimate(scores, of, draws=2)["overall"])[0] - 1e-9


def test_where_no_video_differs_the_table_says_so_and_what_that_leaves_open() -> None:
    right = estimate(clusters(*"1" * 20), over_questions)["overall"]
    same = paired(clusters(*"10" * 2), clusters(*"10" * 2), over_questions)
    alone, spread = (estimate(clusters(*own), over_questions)["overall"] for own in ("1", "1" * 9 + "0"))
    assert (percent(right), percent(same, signed=True)) == ("100.0 (all alike)", "+0.0 (all alike)")
    assert percent(alone) == "100.0"
    assert percent(spread).startswith("90.0 [")
    note = notes_on([right, None, alone, same, spread], "clip")[0]
    assert f"up to {1 - 0.025 ** (1 / 4):.0%} where 4 were seen, up to {1 - 0.025 ** (1 / 20):.0%} where 20" in note
    (narrow,) = notes_on([alone, spread, None], "clip")
    assert narrow.startswith("An interval from 10 clips is narrower than 95%: from 6 to 19 clips it holds the true")
    assert notes_on([replace(spread, videos=20), alone], "clip") == ()


def test_the_largest_share_that_is_left_open_is_said_of_as_many_videos() -> None:
    even, uneven = (estimate(clusters(*own), over_questions)["overall"] for own in ("111", ("11111111", "1", "1")))
    assert even.unseen is not None
    assert uneven.unseen == pytest.approx(1 - 0.025 ** (8 / 10))
    for both in ([even, uneven], [uneven, even]):
        assert "up to 95% where 3 were seen (" in notes_on(both, "video")[0]


def test_intervals_of_few_videos_hold_the_true_value_no_more_often_than_is_said() -> None:
    chance, held = np.random.default_rng(0), dict.fromkeys((2, 3, 5), 0)
    for videos in held:
        for _ in range(200):
            shares = chance.random(videos)  # their mean is a half
            scores = {f"{video}": [Scored("q", "", None, share)] for video, share in enumerate(shares)}
            low, high = ends(found := estimate(scores, over_questions, draws=200)["overall"])
            held[videos] += low <= 0.5 <= high
        (note,) = notes_on([found], "video")
        assert f"from {videos} videos holds the true value {found.covered:.0%} of the time at the most" in note
        assert held[videos] / 200 <= found.covered + 0.06  # two standard errors
    assert held[2] / 200 > 0.4


@pytest.mark.parametrize(("videos", "least", "most"), [(8, 0.80, 0.92), (48, 0.92, 0.96)])
def test_intervals_of_some_more_hold_it_as_often_as_the_page_says(videos: int, least: float, most: float) -> None:
    assert least <= covered(videos, 0.9, 0.1, sets=300) <= most


# Runs together


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plan(tmp_path)
    return tmp_path


def run(folder: Path, name: str, said: dict[str, str] | None = None, shard: tuple[int, int] = (1, 1)) -> Path:
    output = folder / f"{name}.jsonl"
    evaluate(plan(folder, shard=shard), SETUPS["mlvu"], Canned(said), output)
    return output


def test_shards_are_one_run(folder: Path) -> None:
    (whole,) = read_runs([run(folder, "whole")])
    files = [run(folder, f"part{number}", shard=(number, 3)) for number in (1, 2, 3)]
    assert len(list(folder.glob("part*.jsonl"))) == 6
    (merged,) = read_runs(sorted(folder.glob("part*.jsonl")))  # with the files of times
    assert sorted(line.question for line in merged.answers) == sorted(line.question for line in whole.answers)
    assert merged.average([s for video in merged.scored().values() for s in video]) == pytest.approx(
        whole.average([s for video in whole.scored().values() for s in video])
    )
    assert (merged.missing, merged.asked) == ((), 8)
    (part,) = read_runs(files[:2])
    assert part.missing == ("3/3",)
    assert any("shard 3/3 is missing" in note for table in tables(report([part])[0]) for note in table.notes)
    (folder / "again.jsonl").write_bytes(files[0].read_bytes())
    with pytest.raises(ResultsError, match="are both shard 1 of 3 of the same run"):
        read_runs([*files, folder / "again.jsonl"])


def test_runs_that_do_not_compare_are_refused_with_what_differs(folder: Path) -> None:
    one, other = run(folder, "one"), run(folder, "other")
    lines = other.read_text().splitlines(keepends=True)
    header = json.loads(lines[0])
    header["settings"]["protocol"] = "lmms-eval"
    other.write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    with pytest.raises(ResultsError, match='protocol: "paper" there, "lmms-eval" now'):
        read_runs([one, other])


def test_a_report_says_shares_costs_and_differences(folder: Path) -> None:
    """Labels of the miniature: plot A and D, needle B, ego C, count D, order A, anomaly B, topic C."""
    first = run(folder, "first")
    second = run(folder, "second", {"needle-0": "B", "ego-0": "(C)", "count-0": "nothing"})
    lines = second.read_text().splitlines(keepends=True)
    header = json.loads(lines[0])
    header["settings"]["policy"] = "other"
    second.write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    (section,) = report(read_runs([first, second]))
    overall = [one.estimates["overall"].value for one in section.runs]
    assert overall == [pytest.approx((0.5 + 1) / 7), pytest.approx((0.5 + 1 + 2) / 7)]
    against = section.runs[1].against
    assert against is not None
    assert against.value == pytest.approx(2 / 7)
    spent = section.runs[0].spent
    assert (spent.patches, spent.alone, spent.watching, spent.answer) == (14, 16, 7.0, 0.5)
    assert spent.saved == pytest.approx(1 / 8)
    text = markdown(tables(section))
    assert "| saved | 12% | 12% |" in text
    assert "| unparsed | 0 | 1 |" in text
    assert "not made with" not in text
    three = replace(section, runs=(*section.runs, section.runs[1]))
    assert "Of 2 intervals of 95% chance alone has at least one of them up to 10% of the time" in markdown(
        tables(three)
    )
    header["made_by"] |= {"torch": "1.0", "code": "0"}
    second.write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    text = markdown(tables(report(read_runs([first, second]), draws=10)[0]))
    assert "other @1 was not made with the torch and code that none @1 was made with" in text
    paths = write([section], folder / "report")
    assert [path.name for path in paths] == ["report.md", "report.json", "report.png"]
    assert json.loads(paths[1].read_text())[0]["runs"][1]["against_the_first"]["questions"] == 8
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    (axes,) = draw([section]).axes
    assert [text.get_text() for text in axes.texts] == ["21.4", "50.0"]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [np.concatenate(line.get_data()).tolist() for line in points] == [
        [pytest.approx(100 * value), bar] for bar, value in enumerate(overall)
    ]
    assert "95% interval" in axes.get_xlabel()


def test_a_question_that_two_runs_answered_counts_once_and_so_does_each_problem(folder: Path) -> None:
    path = run(folder, "a")
    (once,) = report(read_runs([path]), draws=10)
    lost = [Problem("a.mp4", "no frame has come", (name,)) for name in ("p", "q", "q")]
    lines = path.read_text().splitlines(keepends=True)
    told = [json.dumps({"type": "problem", **asdict(one)}) + "\n" for one in lost]
    path.write_text("".join([*lines, lines[-1], *told]))
    (twice,) = report(read_runs([path]), draws=10)
    assert twice.runs[0].estimates == once.runs[0].estimates
    rows = {row[0]: row[1] for row in tables(twice)[1].rows}
    assert (rows["questions answered"], rows["problems"]) == ("8 of 8", "2")


def test_costs_are_of_the_run_alone_and_name_every_device_that_it_went_on_on(folder: Path) -> None:
    path = run(folder, "a")
    path.unlink()  # the times beside it are there still
    evaluate(plan(folder, limit=2), SETUPS["mlvu"], Canned(), path)
    with beside(path, "times").open("a") as times:
        times.write(json.dumps({"type": "watched", **asdict(WatchTime("gpu", "again", {"wall": 2.0}, 1))}) + "\n")
    (section,) = report(read_runs([path]), draws=10)
    assert section.runs[0].spent.watching == 2 + 2.0
    rows = {row[0]: row[1] for row in tables(section)[1].rows}
    assert rows["computed on"] == "nowhere, gpu"


def test_tasks_whose_questions_have_no_answer_are_in_the_table_with_how_many_have_one(folder: Path) -> None:
    path = run(folder, "a")
    lines = path.read_text().splitlines(keepends=True)
    (lost,) = [line for line in lines if '"task": "needle"' in line]
    one = next(line for line in lines if '"task": "plotQA"' in line)
    path.write_text("".join(line for line in lines if line not in (lost, one)))
    (section,) = report(read_runs([path]))
    rows = {row[0]: row[1] for row in tables(section)[0].rows}
    assert rows["needle"] == "0 of 1 answered"
    assert rows["plotQA"].endswith(", 1 of 2 answered")
    assert rows["overall"].endswith(", 6 of 8 answered")
    assert "answered" not in rows["ego"]
    assert tables(section)[0].rows[0][0] == "overall"
    assert "count nowhere" in tables(section)[0].notes[-1]
    assert section.runs[0].estimates.keys().isdisjoint({"needle"})
    path.write_text(lines[0])  # not one answer yet
    assert ("overall", "0 of 8 answered") in tables(*report(read_runs([path])))[0].rows


def test_runs_of_one_policy_and_cap_are_named_by_what_tells_them_apart(folder: Path) -> None:
    first = run(folder, "a/ego")
    others = [folder / name for name in ("b/ego.jsonl", "b/other.jsonl")]
    others[0].parent.mkdir()
    for path, keep in zip(others, (0.5, 0.25), strict=True):
        path.write_text(first.read_text().replace('"keep": 0.75', f'"keep": {keep}'))
    names = [each.name for each in read_runs([first, *others])]
    assert names == [f"none @1 (keep={keep})" for keep in (0.75, 0.5, 0.25)]
    for path in others:
        path.write_text(first.read_text().replace('"cache_bytes": 1', '"cache_bytes": 2'))
    assert [each.name for each in read_runs([first, others[1]])] == ["none @1 (ego)", "none @1 (other)"]
    names = [each.name for each in read_runs([first, others[0]])]
    assert names == [f"none @1 ({path})" for path in (first, others[0])]


def test_annotations_that_could_not_be_used_are_counted_below_the_table(folder: Path) -> None:
    for missing in sorted((folder / "mlvu" / "video").rglob("*.mp4"))[:2]:
        missing.unlink()
    (section,) = report(read_runs([run(folder, "a", shard=(1, 2))]), draws=10)
    left = section.runs[0].run.left_out
    assert left >= 2
    (note,) = [note for note in tables(section)[0].notes if "could not be used" in note]
    assert note == f"none @1: {left} annotations could not be used and count nowhere."
    (both,) = read_runs([folder / "a.jsonl", run(folder, "b", shard=(2, 2))])
    assert both.left_out == left  # of all shards together, each annotation once
    assert plan(folder, limit=2).left_out == 0  # what is behind a limit may change, and its run goes on


def test_published_numbers_are_marked_and_only_of_the_same_setting(folder: Path) -> None:
    output = run(folder, "one")
    lines = output.read_text().splitlines(keepends=True)
    header = json.loads(lines[0])
    header["settings"] |= {"model": "Qwen/Qwen2-VL-7B-Instruct"}
    output.write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    assert report(read_runs([output]))[0].published == ()  # six frames were watched, not 768
    for setting in ({"frames": 768}, {"fps": 2.0}):
        header["settings"]["sampling"] |= setting
        output.write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
        assert report(read_runs([output]))[0].published == ()  # their pictures were larger
    header["settings"] |= {"sampling": asdict(find_protocol("paper").frames(BENCHMARKS["mlvu"])), "limit": 7}
    output.write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    assert report(read_runs([output]))[0].published == ()  # a part of what was asked then
    header["settings"] |= {"limit": None, "shard": [1, 2]}
    output.write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    assert report(read_runs([output]))[0].published == ()  # a part, too, while the other shard is missing
    header["settings"] |= {"shard": [1, 1], "left_out": 1}
    output.write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    assert report(read_runs([output]))[0].published == ()  # a part: one annotation could not be used
    header["settings"]["left_out"] = 0
    output.write_text(json.dumps(header) + "\n" + "".join(lines[1:-1]))
    assert report(read_runs([output]))[0].published == ()  # a part, while one question has no answer
    output.write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    (section,) = report(read_runs([output]))
    text = markdown(tables(section))
    assert "InfiniPot-V 6K (published)" in text
    assert "arXiv 2506.15745v2, table 1, Qwen2-VL-7B-Instruct, not measured here" in text
    (row, *_) = section.published
    assert [row.may_be_of(frames) for frames in (768, 32, None)] == [True, False, False]


def test_published_rows_name_benchmarks_and_tasks_that_there_are() -> None:
    for name, benchmark in BENCHMARKS.items():
        for variant in benchmark.variants:
            for model in ("a/Qwen2-VL-7B-Instruct", "Qwen2.5-VL-3B-Instruct", "Qwen2.5-VL-7B-Instruct"):
                for row in published(name, variant, model):
                    assert (row.frames is None) == ("frames" in row.unstated)
                    assert "overall" in row.values
                    assert all(0 < value < 100 for value in row.values.values())
    mlvu = [row for row in published("mlvu", "dev", "Qwen2-VL-7B-Instruct") if len(row.values) > 1]
    assert len(mlvu) == 6
    for row in mlvu:  # the published average is that of the published tasks
        tasks = [value for name, value in row.values.items() if name != "overall"]
        assert np.mean(tasks) == pytest.approx(row.values["overall"], abs=0.06)
    (ours,) = [row for row in published("ovo-bench", "all", "Qwen2.5-VL-7B-Instruct") if row.method == "InfiniPot-V"]
    assert ours.values["overall"] == 53.6
    modes = [ours.values[mode] for mode in ("backward", "real-time", "forward")]
    assert np.mean(modes) != pytest.approx(ours.values["overall"], abs=0.06)
    assert "not the means of the three modes" in ours.where  # so that a table says it
    assert ours.source.endswith("Qwen2.5-VL-7B-Instruct, frames not stated")
    (streamed, _) = published("streaming-bench", "real-time", "Qwen2.5-VL-7B-Instruct")
    assert streamed.source.endswith("frames and how much of the video before a question was watched not stated")
    assert published("mlvu", "dev", "Qwen2.5-VL-7B-Instruct") == []


# The published tables


def test_the_tables_are_all_there_each_with_a_file_of_its_own() -> None:
    listed = entries()
    assert len({entry.file for entry in listed}) == len(listed) == 27
    assert {entry.benchmark for entry in listed} == {"mlvu", "video-mme", "longvideobench", "egoschema"}
    assert {entry.setup.sampling.frames for entry in listed} == {768}


def test_gpu_hours_are_the_arithmetic_that_the_page_shows() -> None:
    tokens = PATCHES * CELLS
    one = Hardware(decoder=1e9, encoder=0, layers=0, flops=1e12, share=1.0)
    assert gpu_hours(1, 0, evicts=True, hardware=one) * 3600 == pytest.approx(2e9 * tokens / 1e12)
    assert gpu_hours(0, 10, evicts=True, hardware=one) * 3600 == pytest.approx(2e9 * 2560 / 1e12)
    assert gpu_hours(10, 10, evicts=False) > gpu_hours(10, 10, evicts=True)
