"""Questions that have one score together, further partitions, and scores between 0 and 1: against sums done by hand."""

import random
from dataclasses import replace
from fnmatch import fnmatch
from itertools import product

import numpy as np
import pytest

from infinipot.config import StreamConfig
from infinipot.evaluate import FrameSampling, Question, Scored, find_benchmark, find_protocol
from infinipot.evaluate.core.statistics import (
    Average,
    difference,
    estimate,
    over_groups,
    over_questions,
    over_tasks,
    unite,
)
from infinipot.evaluate.engines.base import RunConfig
from infinipot.evaluate.plan import read_plan
from infinipot.evaluate.reading import read_runs
from infinipot.evaluate.records import Unit, mean
from infinipot.evaluate.report import report, tables
from infinipot.evaluate.run import evaluate
from support.row_layouts import LAYOUTS
from support.runs import Canned

# What is right of four questions, ? being either -> the score; from the tables of the paper's scoring.
BY_HAND = {
    "[1,2,3,4]": (16, {"0???": 0, "10??": 1, "110?": 4, "1110": 9, "1111": 16}),
    "[1,[2,3],4]": (12, {"0???": 0, "100?": 1, "101?": 4, "110?": 4, "1110": 7, "1111": 12}),
    "[[1,2],3,4]": (10, {"00??": 0, "01??": 1, "10??": 1, "110?": 2, "1110": 5, "1111": 10}),
}


def four(kind: str, right: str, name: str = "v", size: int = 4) -> list[Scored]:
    """The questions of a group, "1" for each that is right and "-" for one without a score."""
    return [
        Scored(f"{name}-{place}", "t", "g", None if digit == "-" else float(digit), unit=Unit(name, place, size, kind))
        for place, digit in enumerate(right)
    ]


def average(protocol: str, benchmark: str) -> Average:
    return find_protocol(protocol).average(find_benchmark(benchmark))


@pytest.mark.parametrize("protocol", ["official", "lmms-eval"])
@pytest.mark.parametrize("kind", [*BY_HAND, "relevance"])
def test_groups_of_four_are_scored_as_published_for_each_pattern_of_right_answers(kind: str, protocol: str) -> None:
    for pattern in map("".join, product("01", repeat=4)):
        if kind == "relevance":
            expected = {0: 0, 1: 1 / 16, 2: 4 / 16, 3: 9 / 16, 4: 1}[pattern.count("1")]
        else:
            whole, scores = BY_HAND[kind]
            (points,) = [score for form, score in scores.items() if fnmatch(pattern, form)]
            expected = points / whole
        found = average(protocol, "video-mme-v2")(four(kind, pattern))
        assert found == pytest.approx(
            {"overall": expected, "t": expected, "g": expected, "each question for itself": pattern.count("1") / 4}
        )


def test_a_group_is_scored_in_the_order_of_its_questions_however_they_come() -> None:
    scored = four("[1,2,3,4]", "1101")
    for seed in range(6):
        random.Random(seed).shuffle(scored)
        assert average("official", "video-mme-v2")(scored)["overall"] == 4 / 16


def test_a_unit_has_a_score_only_where_each_of_its_questions_has_one() -> None:
    assert [one.correct for one in unite(four("", "11"), mean)] == [None]
    assert [one.correct for one in unite(four("", "11-1"), mean)] == [None]
    both = [*four("relevance", "111-", "a"), *four("relevance", "1100", "b"), Scored("alone", "t", None, 1.0)]
    assert [(one.question_id, one.correct) for one in unite(both, mean)] == [("alone", 1), ("a", None), ("b", 0.5)]
    assert average("official", "video-mme-v2")(both)["overall"] == pytest.approx((4 / 16 + 1) / 2)


def groups(seed: int, videos: int = 9) -> dict[str, list[Scored]]:
    draw = random.Random(seed)
    kinds = [*BY_HAND, "relevance"]
    return {
        f"v{video}": four(
            draw.choice(kinds), "".join(draw.choice("0111-"[: 4 + (video == 3)]) for _ in range(4)), f"v{video}"
        )
        for video in range(videos)
    }


@pytest.mark.parametrize("seed", range(4))
def test_intervals_and_differences_of_units_are_those_of_their_scores_alone(seed: int) -> None:
    """Videos are drawn with the groups that they hold: as if each group were one question with the group's score."""
    rules = average("official", "video-mme-v2")
    one, other = groups(seed), groups(seed + 100)

    def alone(videos: dict[str, list[Scored]]) -> dict[str, list[Scored]]:
        return {name: unite(scored, rules.unit) for name, scored in videos.items()}

    found = estimate(one, rules, draws=200)
    singly = found.pop("each question for itself")
    assert found == estimate(alone(one), over_questions, draws=200)
    own = {name: [replace(each, unit=None) for each in scored] for name, scored in one.items()}
    assert singly == estimate(own, over_questions, draws=200)["overall"]
    gap = difference(one, other, rules, draws=200)
    assert gap == difference(alone(one), alone(other), over_questions, draws=200)


def test_nothing_is_said_of_units_none_of_which_is_whole() -> None:
    rules = average("official", "video-mme-v2")
    videos = {"a": four("relevance", "11-1", "a"), "b": four("relevance", "110", "b")}
    assert (estimate(videos, rules), difference(videos, videos, rules), rules(videos["a"])) == ({}, None, {})


@pytest.mark.parametrize("whole", [over_questions, over_tasks, over_groups])
def test_further_parts_are_averaged_beside_and_change_nothing_else(whole: Average) -> None:
    draw = random.Random(3)
    plain = [
        Scored(str(name), draw.choice("abc"), draw.choice(["x", "y", None]), draw.choice([0, 1, 0.25, None]))
        for name in range(80)
    ]
    parted = [replace(one, parts=tuple(draw.sample(["old", "new", "level 1"], draw.randint(0, 3)))) for one in plain]
    expected, found = whole(plain), whole(parted)
    for part in ("old", "new", "level 1"):
        own = [one.correct for one in parted if part in one.parts and one.correct is not None]
        assert found.pop(part) == pytest.approx(sum(own) / len(own))
    assert found == pytest.approx(expected)


# Counts


def accuracy(right: float, said: str) -> float | None:
    question = Question("q", "How many?", (), f"{right}", "t")
    protocol, benchmark = find_protocol("lmms-eval"), find_benchmark("vsi-super-count")
    return protocol.score(benchmark, question, protocol.read_answer(benchmark, question, said))


@pytest.mark.parametrize(
    ("right", "said", "expected"),
    [
        (12, "12", 1),
        (12, "12.0 chairs", 1),
        (8, "4", 0.1),  # off by half: within the widest threshold alone
        (8, "12", 0.1),
        (8, "3", 0),
        (8, "16", 0),
        (8, "7", 0.8),  # off by 0.125: 0.5, 0.55 ... 0.85
        (100, "96", 1),
        (100, "106", 0.9),
        (12, "many", 0),
        (12, "-12", 0),
        (0, "0", 1),
        (0, "none", 1),
        (0, "1", 0),
        (12, "9" * 400, 0),
    ],
)
def test_mean_relative_accuracy_by_hand(right: float, said: str, expected: float) -> None:
    assert accuracy(right, said) == pytest.approx(expected)


def test_mean_relative_accuracy_is_numpys_to_the_last_bit_at_every_edge() -> None:
    """Thresholds lie on fractions that counts meet exactly, or miss by a rounding."""
    thresholds = np.linspace(0.5, 0.95, int((0.95 - 0.5) / 0.05) + 2)
    assert len(thresholds) == 10
    for right in (*range(1, 41), 100, 200):
        for said in range(2 * right + 2):
            assert accuracy(right, str(said)) == np.mean(abs(said - right) / right <= 1 - thresholds), (right, said)


# From the layout to the table


def run(tmp_path, name: str, said: dict[str, str], variant: str | None = None):
    benchmark = find_benchmark(name)
    variant = variant or benchmark.variants[0]
    plan = read_plan(benchmark, LAYOUTS[name](tmp_path / "data", variant), variant)
    assert plan.problems == ()
    setup = RunConfig(name, benchmark.default_protocol, FrameSampling("uniform", 6), config=StreamConfig(memory=768))
    evaluate(plan, setup, Canned(said), tmp_path / "run.jsonl")
    (section,) = report(read_runs([tmp_path / "run.jsonl"]), draws=50)
    return {row[0]: row[1] for row in tables(section)[0].rows}, section.runs[0].estimates


def test_a_run_of_video_mme_v2_from_its_rows_to_its_table(tmp_path) -> None:
    """Right are A, B, G, H. Canned says A, so that the first question of each group is right."""
    said = {"002-3": "G", "003-1": "no", "003-2": "B", "004-2": "B", "004-3": "G"}
    shares, estimates = run(tmp_path, "video-mme-v2", said)
    by_hand = [1 / 16, 4 / 12, 1 / 10, 9 / 16]
    assert estimates["overall"].value == pytest.approx(sum(by_hand) / 4)
    assert estimates["logic"].value == pytest.approx(sum(by_hand[:3]) / 3)
    assert estimates["relevance"].value == pytest.approx(9 / 16)
    assert estimates["level 1"].value == pytest.approx((1 / 16 + 9 / 16) / 2)
    assert estimates["third head: Counting 1"].value == pytest.approx((4 / 12 + 9 / 16) / 2)
    assert estimates["each question for itself"].value == (1 + 2 + 1 + 3) / 16
    assert shares["relevance"] == "56.2"
    assert estimates["overall"].low < estimates["overall"].value < estimates["overall"].high


def test_a_run_of_streaming_counts_averages_a_rows_moments_first(tmp_path) -> None:
    said = {"10mins_streaming-0_0": "0", "10mins_streaming-0_1": "2", "10mins_streaming-0_2": "2"}
    said |= {"30mins_streaming-1_0": "3", "30mins_streaming-1_1": "6"}
    _, estimates = run(tmp_path, "vsi-super-count", said, "streaming")
    unparsed = [line.answer for line in read_runs([tmp_path / "run.jsonl"])[0].answers].count(None)
    assert unparsed == 5  # what Canned says where it is told nothing holds no number, and counts as 0
    first = (1 + 1 + 0.1 + 0) / 4  # of four moments; the rows of the other lengths have two
    assert estimates["10mins_streaming"].value == pytest.approx(first)
    assert estimates["30mins_streaming"].value == 1
    assert estimates["overall"].value == pytest.approx((first + 1 + 0 + 0) / 4)


def test_a_run_of_ovo_s_bench_takes_any_right_answer_and_tells_the_evidences_age(tmp_path) -> None:
    shares, estimates = run(tmp_path, "ovo-s-bench", {"1.1.1_0_q0": "C", "4.1_0_q0": "Answer: B"})
    assert estimates["overall"].value == pytest.approx(5 / 7)
    assert estimates["1.1.1"].value == estimates["level 3"].value == 1
    assert estimates["evidence on show"].value == 1
    assert estimates["evidence up to 10 s old"].value == 0.5
    assert [name for name in shares if name.startswith("evidence")] == [
        "evidence up to 10 s old",
        "evidence on show",
    ]


def test_a_table_says_of_each_part_how_many_of_its_questions_were_answered(tmp_path) -> None:
    run(tmp_path, "ovo-s-bench", {})
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    assert '"1.1.1_0_q0"' in lines[1]
    (tmp_path / "run.jsonl").write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    (whole,) = read_runs([tmp_path / "run.jsonl"])
    assert whole.lacking() == {
        "overall": (6, 7), "1.1.1": (0, 1), "level 1": (0, 1), "evidence up to 10 s old": (1, 2)
    }  # fmt: skip
