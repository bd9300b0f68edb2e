"""The benchmark: which cases, how they are asked, how a run goes on, and what is counted."""

import ast
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import islice, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from infinipot import CapError, InfinipotError, Model, ModelError, PolicyError, Stats, policies, versions
from infinipot.cli import main
from infinipot.cli.bench import _size
from infinipot.config import LoadConfig
from infinipot.embedded.facts import HELD_OUT_SEEDS, SIZE
from infinipot.embedded.words import KINDS
from infinipot.evaluate.core import statistics
from infinipot.evaluate.core.estimates import Difference, Estimate
from infinipot.evaluate.core.journal import Journal
from infinipot.evaluate.needle import cost, layouts, memories, pictures, plan, processes, rows
from infinipot.evaluate.needle import needle as needle_module
from infinipot.evaluate.needle.case import CELLS, Case, Holder, Scene, usual_block
from infinipot.evaluate.needle.memories import GivenAnswer, Outcome
from infinipot.evaluate.needle.needle import Needle
from infinipot.evaluate.needle.plan import DEFAULT, FULL, QUICK, SECTIONS, Extent, make_plan

SCENE = Scene(10_000, 20.0, 2.0, 4, "still", "varied", moments=3)
TINY = replace(QUICK, lengths=((60.0, 1),), native=60.0, policies=("infinipot-v", "uniform"), long=("infinipot-v",))


COSTS = {"infinipot-v": "", "uniform": "uniform=1"}


class StubTask:
    """A call that is done at the first step; what goes wrong in it comes out of its result."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call, self.done, self.outcome = call, False, None
        self.error: Exception | None = None

    def step(self) -> None:
        self.done = True
        try:
            self.outcome = self.call()
        except Exception as error:
            self.error = error

    def result(self) -> Any:
        if self.error:
            raise self.error
        return self.outcome


class StubStream:
    """Says "no" to everything, or what it was asked about the last time; remembers how it was treated."""

    def __init__(self, **options: Any) -> None:
        self.options, self.frames = options, 0
        self.asked: list[tuple[int, str, bool]] = []

    def __enter__(self) -> "StubStream":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def watch(self, frame: Any) -> None:
        self.frames += 1

    def begin_watch(self, frame: Any) -> StubTask:
        return StubTask(lambda: self.watch(frame))

    def feed(self, given: Any) -> None:
        self.watch(given)

    begin_feed = begin_watch

    def ask(self, question: str, *, max_new_tokens: int, remember: bool) -> str:
        self.asked.append((self.frames, question, remember))
        return "no"

    def begin_ask(self, question: str, **options: Any) -> StubTask:
        return StubTask(lambda: self.ask(question, **options))

    def stats(self) -> Stats:
        seconds = {"vision": 1.0, "prefill": 1.0, "compress": 1.0, "answer": 1.0}
        cap = self.options["memory"]
        return Stats(
            "video",
            self.frames,
            self.frames // 2,
            0,
            0.0,
            self.frames,
            0,
            0,
            0,
            0,
            cap,
            0,
            8 * self.frames,
            0,
            0,
            0,
            seconds,
        )


class Stub:
    """A model whose streams know nothing; one of a policy that it refuses cannot be opened."""

    def __init__(self, refused: str = "", frame: int = SIZE) -> None:
        self.adapter = SimpleNamespace(
            chat=lambda system: SimpleNamespace(opening="o", reopening="r"),
            tokenize=list,
            position_rule=lambda: SimpleNamespace(offset=lambda patches, seconds: round(2 * seconds)),
            position_range=512,
            processor=SimpleNamespace(video_processor=SimpleNamespace(size={"shortest_edge": frame**2})),
        )
        self.refused = refused
        self.opened: list[StubStream] = []

    def stream(self, **options: Any) -> StubStream:
        if options["policy"] == self.refused:
            raise CapError("too small")
        self.opened.append(StubStream(**options))
        return self.opened[-1]

    def step(self, tasks: list[StubTask]) -> None:
        for task in tasks:
            task.step()


def test_a_model_of_larger_frames_keeps_the_same_share_of_its_full_cache() -> None:
    scene = Scene(HELD_OUT_SEEDS.start, 16.0, 2.0, 3, "still", "varied")
    small, large = (Stub(frame=size) for size in (SIZE, 3 * SIZE // 2))
    for holder in (Holder("full"), Holder(DEFAULT, 64, usual_block(64))):
        rooms = []
        for model in (small, large):
            made = memories.options(model, holder, scene)  # type: ignore[arg-type]
            rooms.append(made["memory"] - len("or") - memories.RESERVE)
            if holder.kept:
                assert int(made["keep"] * rooms[-1]) == holder.kept * memories.cells_of(model) // CELLS  # type: ignore[arg-type]
        assert rooms[1] == rooms[0] * 9 // 4
    assert memories.make_clip(scene, size=96).draw([0.0])[0].shape == (1, 96, 96, 3)


def outcomes(*policies: str, right: dict[str, set[int]], clips: int = 4, share: int = 8) -> list[Outcome]:
    """A question a clip, at 1/share of the full cache; `right` names the clips on which each policy answers it."""
    scene = Scene(10_000, 64.0, 2.0, 3, "still", "varied")
    return [
        Outcome(
            Case(replace(scene, seed=10_000 + clip), holder_of(policy, share)),
            (GivenAnswer("now", 63.5, 8.0 * clip, 0.5, "yes", "yes" if clip in right[policy] else "no"),),
            cap=100,
        )
        for policy, clip in product(policies, range(clips))
    ]


def holder_of(policy: str, share: int = 8) -> Holder:
    return Holder(policy) if policy == "full" else Holder(policy, FULL // share, usual_block(FULL // share))


# Statistics


Tally = dict[int, tuple[int, int]]  # by the clip's seed: right answers, and answers


def scores(counts: Tally) -> statistics.Clusters:
    return statistics.clustered(
        (seed, number < right) for seed, (right, asked) in counts.items() for number in range(asked)
    )


def share(counts: Tally) -> Estimate | None:
    return statistics.estimate(scores(counts), statistics.over_questions, 4000).get("overall")


def ahead(ours: Tally, theirs: Tally) -> Difference | None:
    return statistics.difference(scores(theirs), scores(ours), statistics.over_questions, 4000)


def test_a_share_is_that_of_all_answers_and_its_interval_that_of_all_ways_to_draw_the_clips() -> None:
    counts = {5: (1, 4), 7: (4, 4), 9: (2, 2)}
    found = share(counts)
    every = [np.sum([counts[seed] for seed in drawn], axis=0) for drawn in product(counts, repeat=3)]
    shares = np.repeat([right / asked for right, asked in every], 1000)
    assert found is not None
    assert (found.value, found.videos, found.questions) == (7 / 10, 3, 10)
    assert found.low == pytest.approx(np.quantile(shares, 0.025), abs=0.03)
    assert found.high == pytest.approx(np.quantile(shares, 0.975), abs=0.03)


def test_clips_that_are_all_right_leave_open_what_others_would_be() -> None:
    """The exact binomial interval of Clopper and Pearson, where every clip counts alike."""
    right = share(dict.fromkeys(range(20), (3, 3)))
    assert right is not None
    assert (right.value, right.low, right.high) == (1.0, pytest.approx(0.025 ** (1 / 20)), 1.0)


def test_a_difference_is_paired_by_clip() -> None:
    easy = dict.fromkeys(range(0, 20, 2), (9, 10)) | dict.fromkeys(range(1, 20, 2), (2, 10))
    better = {seed: (right + 1, asked) for seed, (right, asked) in easy.items()}
    found, alone = ahead(better, easy), share(easy)
    assert found is not None
    assert alone is not None
    # On each clip the same, so that only clips not seen may differ: of 20 that agree, one in six at the most.
    unseen = 1 - 0.025 ** (1 / 20)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1 - 1.1 * unseen, 0.1 + 0.9 * unseen))
    assert alone.low is not None
    assert alone.high is not None
    assert alone.high - alone.low > 0.2


def test_clips_that_only_one_of_two_answered_do_not_count() -> None:
    found = ahead({1: (2, 2), 2: (0, 2)}, {1: (1, 2), 3: (2, 2), 2: (0, 3)})
    assert found is not None
    assert (found.value, found.low, found.high, found.videos, found.questions) == (0.5, None, None, 1, 2)
    assert share({}) is None


def test_intervals_are_the_same_whatever_the_order_of_the_clips() -> None:
    counts = {seed: (seed % 3, 3) for seed in range(9)}
    assert share(counts) == share(dict(reversed(counts.items())))


def test_a_table_whose_clips_are_all_alike_says_so_below() -> None:
    alike = {"right": share(dict.fromkeys(range(4), (3, 3))), "against_default": ahead({1: (1, 1)}, {1: (1, 1)})}
    apart = {"right": share(dict(enumerate([(3, 3), (2, 3), (1, 3)]))), "against_default": None}
    common = {
        "background": "still",
        "chance": 0.3,
        "blind": 0.4,
        "bytes": 0,
        "against_full": None,
        "share": 2,
        "kept": 5,
    }
    full, policy = ({**common, **one, "policy": name} for one, name in ((alike, "full"), (apart, "tar")))
    (table,) = layouts.tables({"caps": [full, policy]})
    guesses = "guessing 30, always the commonest answer 40"
    said = f"3 to 4 clips, 9 to 12 answers each, {guesses}. Percent right (95% interval)."
    assert table.title.endswith(f"{said} Full cache, 5 tokens: 100 (all alike).")
    assert table.rows == (("tar", "67 (33–100)"),)
    assert ["up to 60% where 4 were seen" in table.notes[0], "from 3 clips" in table.notes[1]] == [True, True]


@pytest.mark.parametrize(
    ("sizes", "told"),
    [(1, None), (3, "at least one of them up to 15% of the time leave"), (40, "about 2 leave the true difference out")],
)
def test_of_several_differences_a_table_says_what_chance_alone_would_do(sizes: int, told: str | None) -> None:
    apart = ahead({seed: (seed % 2, 1) for seed in range(6)}, dict.fromkeys(range(6), (0, 1)))
    row = {
        "background": "still",
        "policy": "tar",
        "chance": 0.3,
        "blind": 0.4,
        "bytes": 0,
        "against_full": None,
        "right": apart,
    }
    found = [{**row, "share": share, "kept": 9, "against_default": apart} for share in range(sizes)]
    _, against = layouts.tables({"caps": found})
    of_chance = [note for note in against.notes if note.startswith(f"Of {sizes} intervals of 95% ")]
    assert [told in note for note in of_chance if told] == ([True] if told else [])


# Cases and sections


def test_every_section_has_cases_on_seeds_of_the_reported_range_and_no_two_scenes_share_one() -> None:
    made = make_plan(plan.full_size(20), HELD_OUT_SEEDS.start, "footage:0")
    scenes = {case.scene for cases in made.values() for case in cases}
    assert set(made) == set(SECTIONS)
    assert all(made[section] for section in SECTIONS if section != "cost")
    assert {scene.seed for scene in scenes} <= set(HELD_OUT_SEEDS)
    plain = {(scene.seed, scene.kind, scene.seconds) for scene in scenes}
    assert len(plain) == len({(seed, seconds) for seed, _, seconds in plain})


def test_a_case_is_the_same_after_json() -> None:
    made = make_plan(QUICK, 0)
    cases = {case for of_section in made.values() for case in of_section}
    assert {Case.from_fields(**json.loads(json.dumps(asdict(case)))) for case in cases} == cases


def test_quick_is_a_part_of_the_whole() -> None:
    sections = ["caps", "dozens", "overlapping", "lookalikes", "night", "hard", "ablations"]
    whole, quick = (make_plan(size, 0, sections=sections) for size in (Extent(), replace(QUICK, moments=4)))
    for section in sections:
        own = {case for case in quick[section] if not case.scene.samples}  # long streams are shorter
        assert own <= set(whole[section]), section


def test_the_number_of_clips_counts_in_the_short_form_too() -> None:
    assert [_size(quick, clips, None).clips for quick, clips in ((True, None), (True, 3), (False, 3))] == [1, 3, 3]
    assert _size(False, None, None) == Extent()
    assert _size(True, None, "van; tar").policies == ("van", "tar")


def test_the_full_cache_stands_beside_the_policies_in_each_section_and_is_none_of_them() -> None:
    named, plain = (_size(False, 1, specs) for specs in ("full; uniform", "uniform"))
    assert make_plan(named, 0) == make_plan(plain, 0)
    assert cost.cases(named, 0, {}) == cost.cases(plain, 0, {})
    assert cost.cases(named, 0, {})["full"].holder == Holder("full")


@pytest.mark.parametrize("wrong", [{"sections": ["caps", "speed"]}, {"size": replace(QUICK, policies=("best",))}])
def test_what_there_is_not_is_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(InfinipotError, match=r"speed.*caps|best"):
        make_plan(**{"size": QUICK, "first_seed": 0, **wrong})


def test_the_engine_takes_every_memory_and_a_compression_leaves_as_many_tokens_as_the_case_says(qwen: Model) -> None:
    cases = [case for of_section in make_plan(Extent(), 0).values() for case in of_section]
    for policy in {case.holder.policy for case in cases}:
        policies.make(policy)
    for holder in {replace(case.holder, policy=DEFAULT) for case in cases if case.holder.kept}:
        with qwen.stream(**memories.options(qwen, holder, SCENE)) as stream:
            question = "Which came first, the yellow triangle or the purple diamond?"
            stream.answer_limit(question, max_new_tokens=memories.LONGEST_ANSWER, remember=holder.turns == "remembered")
    holders = [Holder(DEFAULT, kept, usual_block(kept)) for kept in (32, 64, 128)]
    for record in memories.run(qwen, [Case(SCENE, holder) for holder in [*holders, Holder("full")]]):
        assert not record.error
        holder, stats = record.case.holder, record.stats
        if holder.kept:
            assert stats["compressions"] > 0
            assert (stats["video_tokens"] - holder.kept) % (holder.block * CELLS) == 0
        else:
            assert stats["video_tokens"] >= (SCENE.patches - 8) * CELLS


# Watching and asking


def test_every_memory_is_asked_the_same_at_the_same_moments() -> None:
    model: Any = Stub()
    found = memories.run(model, [Case(SCENE, holder_of(policy)) for policy in ("full", "uniform", DEFAULT)])
    assert model.opened[0].asked == model.opened[1].asked == model.opened[2].asked
    assert len({frames for frames, _, _ in model.opened[0].asked}) == SCENE.moments  # all of a moment behind one frame
    assert [answer.at for answer in found[0].answers] == sorted(answer.at for answer in found[0].answers)
    assert found[0].answers[-1].at == (len(memories.make_clip(SCENE)) - 1) / SCENE.fps
    assert {answer.kind for answer in found[0].answers} <= set(KINDS)
    assert all(answer.delay is None or 0 <= answer.delay <= answer.at for answer in found[0].answers)


@pytest.mark.parametrize("seed", range(5))
def test_moments_end_temporal_patches_and_begin_after_a_quarter(seed: int) -> None:
    clip = memories.make_clip(replace(SCENE, seed=seed, seconds=64.0))
    due = memories.moments(clip, 10, np.random.default_rng(seed))
    assert due == sorted(set(due))
    assert len(due) >= 9
    assert all((time * clip.fps) % 2 == 1 for time in due)
    assert due[0] >= 16
    assert due[-1] == 63.5


def test_a_question_asked_alone_has_a_stream_of_its_own() -> None:
    model: Any = Stub()
    scene = replace(SCENE, seconds=64.0, moments=5, single=True)
    forgotten, alone, remembered = memories.run(
        model,
        [
            Case(scene, Holder(DEFAULT, 64, 1, dialogue=128, turns=turns))
            for turns in ("forgotten", "alone", "remembered")
        ],
    )
    one, *each, kept = model.opened
    assert len(each) == len(forgotten.answers) == len(alone.answers) == len(remembered.answers)
    assert [stream.asked for stream in each] == [[turn] for turn in one.asked]
    assert [stream.frames for stream in each] == [turn[0] for turn in one.asked]
    assert [(frames, question, True) for frames, question, _ in one.asked] == kept.asked


def test_a_policy_that_knows_the_question_is_told_each_by_a_stream_of_its_own() -> None:
    model: Any = Stub()
    holders = [Holder("fastv:after=1", 64, 1, turns=turns) for turns in ("forgotten", "told")]
    blind, told = memories.run(model, [Case(SCENE, holder) for holder in holders])
    one, *each = model.opened
    assert len(each) == len(one.asked) == len(blind.answers) == len(told.answers) > 4
    for stream, (frames, question, _) in zip(each, one.asked, strict=True):
        assert stream.options["policy"] == policies.FastV(after=1, question=question)
        assert stream.options["memory"] == one.options["memory"]
        assert stream.asked == [(frames, question, False)]
        assert stream.frames == frames
    assert told.answers == blind.answers
    assert "takes no question" in memories.run(model, [Case(SCENE, Holder("tar", 64, 1, turns="told"))])[0].error


def test_rows_say_which_policies_were_told_the_question() -> None:
    blind = outcomes("full", DEFAULT, "fastv", right={"full": {0, 1}, DEFAULT: {0}, "fastv": {0}})
    told = [
        replace(one, case=replace(one.case, holder=replace(one.case.holder, turns="told")))
        for one in outcomes("fastv", right={"fastv": {0, 1}})
    ]
    (table, *_) = layouts.tables({"told": list(rows.told(blind + told, QUICK))})
    assert [row[0] for row in table.rows] == [DEFAULT, "fastv", "fastv, question told"]
    assert table.rows[1] != table.rows[2]
    sections = make_plan(replace(QUICK, policies=("fastv", "uniform")), 0, sections=["told"])["told"]
    assert {(case.holder.policy, case.holder.turns) for case in sections} == {
        ("full", "forgotten"),
        (DEFAULT, "forgotten"),
        ("unusual", "forgotten"),
        ("fastv", "forgotten"),
        ("fastv", "told"),
    }


def test_a_memory_that_the_engine_refuses_is_told_and_disturbs_no_other() -> None:
    model: Any = Stub(refused="tar")
    refused, other = memories.run(model, [Case(SCENE, holder_of("tar")), Case(SCENE, holder_of("uniform"))])
    assert (refused.error, refused.answers) == ("too small", ())
    assert other.answers
    assert Outcome.from_fields(**json.loads(json.dumps(asdict(refused)))) == refused
    assert Outcome.from_fields(**json.loads(json.dumps(asdict(other)))) == other


def test_a_policy_that_refuses_at_its_first_compression_disturbs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stream: StubStream, frame: Any) -> None:
        stream.frames += 1
        if stream.options["policy"] == "tar" and stream.frames > 3:
            raise PolicyError("too few patches")

    monkeypatch.setattr(StubStream, "watch", refuse)
    model: Any = Stub()
    refused, other = memories.run(model, [Case(SCENE, holder_of("tar")), Case(SCENE, holder_of("uniform"))])
    assert (refused.error, refused.answers) == ("too few patches", ())
    assert other.answers


def test_a_memory_that_fails_is_told_and_run_again_and_disturbs_no_other(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(stream: StubStream, frame: Any) -> None:
        stream.frames += 1
        if stream.options["policy"] == "uniform" and stream.frames > 3:
            raise IndexError("out of range")

    monkeypatch.setattr(StubStream, "watch", fail)
    first = needle(tmp_path, sections=("caps",))
    assert list(first.run(1))[-1].left == 0
    errors = {record.case.holder.policy: record.error for record in first.outcomes.values()}
    assert errors == {"full": "", DEFAULT: "", "uniform": "failed: IndexError: out of range"}
    again = needle(tmp_path, sections=("caps",))
    assert first.unfinished == again.unfinished == sum(map(len, again.left()[0])) > 0
    assert {case.holder.policy for group in again.left()[0] for case in group} == {"uniform"}


def test_a_cost_that_cannot_be_measured_is_told_and_measured_again_and_ends_no_run(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measured(measure: Any, name: str, *given: Any) -> cost.Cost:
        if name == DEFAULT:
            raise IndexError("out of range")
        return cost.Cost(name, {}, 1.0, 1.0, 0, 0, ())

    monkeypatch.setattr(processes, "alone", measured)
    first = needle(tmp_path, sections=("cost",))
    assert list(first.run(1))[-1].left == 0
    assert {*first.left()[1]} == {DEFAULT}
    assert first.report({})["refused"] == {f"cost of {DEFAULT}": "failed: IndexError: out of range"}
    again = needle(tmp_path, sections=("cost",))
    assert again.costs.keys() == first.costs.keys()
    assert [*again.left()[1]] == [DEFAULT]
    monkeypatch.setattr(processes, "alone", lambda *given: (_ for _ in ()).throw(ModelError("no such folder")))
    with pytest.raises(ModelError):
        list(again.run(1))


# Clips that are unlike the usual


def test_a_quiet_stream_is_asked_the_same_about_its_events_after_each_gap_and_shows_nothing_new() -> None:
    scene = replace(SCENE, seconds=128.0, fps=0.5, events=5, quiet=700.0)
    clip = memories.make_clip(scene)
    asked = memories.questions(clip, scene)
    assert len(clip) == 2 * scene.patches == 414
    assert [round(at - 128) for at in asked] == [-2, 58, 598]
    first, *others = asked.values()
    assert len(first) > 2
    assert all([question.text for question in other] == [question.text for question in first] for other in others)
    assert max(event.end for event in clip.events) <= 128
    assert not clip.showing(500.0)


def test_half_a_clip_is_dark_and_nothing_else_changes() -> None:
    scene = replace(SCENE, seconds=64.0)
    plain, dark = memories.make_clip(scene), memories.make_clip(replace(scene, light=0.25))
    day, night = [10.0, 31.5], [32.0, 63.5]
    assert plain.events == dark.events
    assert np.array_equal(plain.draw(day)[0], dark.draw(day)[0])
    assert np.abs(dark.draw(night)[0] - plain.draw(night)[0] / 4).max() <= 1


def test_overlapping_events_are_seen_together_and_counted_alone() -> None:
    clip = memories.make_clip(replace(SCENE, seconds=64.0, events=12, staging="overlapping"))
    times = np.arange(len(clip)) / clip.fps
    together = max(times, key=lambda time: len(clip.showing(time)))
    assert len(clip.showing(together)) > 1
    assert len({int(event.start) for event in clip.events}) == len(clip.events) == 12
    both, alone = (
        clip.draw([together])[1].sum(),
        clip.draw([next(time for time in times if len(clip.showing(time)) == 1)])[1].sum(),
    )
    assert both > 1.2 * alone > 0


def test_lookalikes_share_colours_and_shapes() -> None:
    clip = memories.make_clip(replace(SCENE, seconds=64.0, events=8, staging="lookalikes"))
    assert len({event.colour for event in clip.events}) == 2
    assert len({event.shape for event in clip.events}) == 3
    assert {event.start for event in clip.events} == {
        event.start for event in memories.make_clip(replace(SCENE, seconds=64.0, events=8)).events
    }


def test_what_is_told_of_quiet_hours_is_by_gap_and_has_the_bytes_and_the_time_of_each_memory() -> None:
    model: Any = Stub()
    scene = replace(SCENE, seconds=128.0, fps=0.5, events=5, quiet=600.0)
    found = memories.run(model, [Case(scene, holder_of(policy)) for policy in (DEFAULT, "uniform")])
    made = list(rows.after(found, QUICK))
    assert {(row["policy"], row["gap"]) for row in made} == set(product((DEFAULT, "uniform"), (0.0, 60.0, 600.0)))
    assert {row["patch_seconds"] for row in made} == {3.0 / found[0].stats["patches"]}
    assert {row["answer_seconds"] for row in made} == {1.0 / len(found[0].answers)}


def test_events_of_the_night_are_those_that_begin_in_the_second_half() -> None:
    scene = replace(SCENE, seconds=64.0, light=0.5)
    answers = (GivenAnswer("where", 63.5, 63.5, 0.25, "a", "a"), GivenAnswer("where", 63.5, 10.0, 0.25, "a", "b"))
    count = GivenAnswer("count", 63.5, None, 0.25, "a", "b")
    made = list(rows.night([Outcome(Case(scene, holder_of(DEFAULT)), (*answers, count))], QUICK))
    assert {(row["part"], row["right"].value, row["right"].questions) for row in made} == {
        ("day", 1, 1),
        ("night", 0, 1),
    }


# Going on


def put_stub(patch: pytest.MonkeyPatch) -> Stub:
    """A stub in place of what a run loads."""
    model = Stub()
    patch.setattr(memories, "resident", lambda: 1000)
    patch.setattr(processes, "_load", lambda loading, footage: (model, None))
    return model


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    return put_stub(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Needle:
    """A run that went on to its end."""
    made = needle(tmp_path_factory.mktemp("whole"))
    with pytest.MonkeyPatch.context() as patch:
        put_stub(patch)
        assert list(made.run(1))[-1].left == 0
    return made


@pytest.fixture(scope="module", autouse=True)
def stubs_have_an_adapter_of_this_package() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(needle_module, "code_of_adapter", lambda adapter: "")
        patch.setattr(needle_module, "Checkpoint", lambda name: SimpleNamespace(adapter=lambda: None))
        yield


def needle(folder: Path, **changes: Any) -> Needle:
    given: dict[str, Any] = {
        "loading": LoadConfig("stub"),
        "size": TINY,
        "first_seed": 0,
        "sections": ("caps", "length", "turns"),
    } | changes
    return Needle(folder, **given)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_answers(
    whole: Needle, stub: Stub, tmp_path: Path
) -> None:
    stopped = needle(tmp_path / "stopped")
    list(islice(stopped.run(1), 3))  # two groups of cases, and no more
    answers = stopped.path
    lines = answers.read_bytes().splitlines(keepends=True)
    finished = len(lines) - 2
    answers.write_bytes(b"".join(lines[:-1]) + lines[-1][:50])  # the last one was cut off
    again = needle(tmp_path / "stopped")
    assert len(again.outcomes) == finished > 5
    list(again.run(1))
    assert answers.read_text() == whole.path.read_text()
    assert needle(tmp_path / "stopped").outcomes == whole.outcomes
    assert next(needle(tmp_path / "stopped").run(1)).left == 0


@pytest.mark.slow
def test_parts_of_a_run_share_its_cases_and_make_the_whole_together(whole: Needle, stub: Stub, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    parts = [needle(folder, shard=(number, 3)) for number in (1, 2, 3)]
    shares = [{case for group in part.left()[0] for case in group} for part in parts]
    assert all(shares)
    assert sum(map(len, shares)) == len(set().union(*shares)) == len(whole.outcomes)
    for part, share in zip(parts, shares, strict=True):
        before = part.unfinished
        list(part.run(1))
        assert part.unfinished == before - len(share) == len(whole.outcomes) - len(share)  # as far as it knows
    assert parts[0].rows() == whole.rows()  # once it looks again
    assert parts[0].unfinished == 0
    assert next(needle(folder, shard=(2, 3)).run(1)).left == 0
    assert next(needle(folder).run(1)).left == 0  # what the parts have finished is not run again
    together = needle(folder, reads=True)
    assert together.outcomes == whole.outcomes
    assert together.rows() == whole.rows()


def test_two_runs_do_not_write_to_one_file_but_may_look_at_it(stub: Stub, tmp_path: Path) -> None:
    first, second = needle(tmp_path), needle(tmp_path)
    steps = first.run(1)
    next(steps)
    with pytest.raises(InfinipotError, match=r"another run is writing to it; give this one another --out"):
        next(second.run(1))
    assert needle(tmp_path, reads=True).outcomes == {}
    steps.close()
    assert next(second.run(1)).left > 0


def test_results_of_another_version_are_read_but_not_gone_on_with(whole: Needle, tmp_path: Path) -> None:
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "answers.jsonl"
    file.write_text(file.read_text().replace('"format": 2', '"format": 0'))
    with pytest.raises(InfinipotError, match="format: 0 there, 2 now"):
        needle(tmp_path)
    assert needle(tmp_path, reads=True).rows()["caps"]
    with pytest.raises(InfinipotError, match="no results yet"):
        needle(tmp_path / "elsewhere", reads=True)


def test_what_stands_above_tables_is_of_what_made_the_answers(stub: Stub, tmp_path: Path) -> None:
    next(needle(tmp_path).run(1))
    file = tmp_path / "answers.jsonl"
    made = json.loads(file.read_text())
    made["settings"] |= {"device": "a card", "code": "c0de", "model": "0123", "versions": {"torch": "0.1"}}
    file.write_text(json.dumps(made) + "\n")
    run = needle(tmp_path, reads=True)
    assert run.heading() == (
        f"sections caps, length, turns; policies {'; '.join(TINY.policies)}",
        f"clips of each background {TINY.clips}, from seed 0, asked at {TINY.moments} moments, "
        f"{run.unfinished:,} cases unfinished",
        "versions torch 0.1",
        "model 0123, device a card, dtype auto, code c0de",
    )


def test_results_of_another_model_are_not_mixed(stub: Stub, tmp_path: Path) -> None:
    list(islice(needle(tmp_path).run(1), 2))
    before = (tmp_path / "answers.jsonl").read_bytes()
    with pytest.raises(InfinipotError, match=r'model: "stub" there, "other" now.*--out'):
        needle(tmp_path, loading=LoadConfig("other"))
    assert (tmp_path / "answers.jsonl").read_bytes() == before


def test_a_policy_whose_code_has_changed_is_run_anew_and_the_others_are_not(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bench(code: str = "", **changes: Any) -> Needle:
        monkeypatch.setattr(needle_module, "code_of", lambda size: {"uniform": code})
        return needle(tmp_path, sections=("caps", "cost"), **changes)

    def answered(run: Needle) -> set[str]:
        return {case.holder.policy for case in run.plan["caps"] if case in run.outcomes}

    list(islice(bench("uniform=1").run(1), 2))  # one scene
    with Journal(tmp_path / "answers.jsonl", Outcome, cost.Cost) as journal:
        journal.append(*(cost.Cost(name, {}, 1.0, 1.0, 0, 0, (), code) for name, code in COSTS.items()))
    edited = bench("uniform=2")
    assert answered(edited) == {"full", "infinipot-v"}
    assert {*edited.costs} == {"infinipot-v"}
    assert {*edited.left()[0][0]} == {case for case in edited.plan["caps"][:5] if case.holder.policy == "uniform"}
    list(islice(edited.run(1), 2))
    read = bench(reads=True)  # the last code that answered, whatever is there now
    assert answered(edited) == answered(read) == {"full", "infinipot-v", "uniform"}
    assert read.heading()[-1] == "policies of other packages: uniform=2"


@pytest.mark.parametrize("content", ["a note\n", '{"header": 3}\n', '{"case": {}}\n'])
def test_a_file_that_is_no_journal_is_left_alone(content: str, tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text(content)
    with pytest.raises(InfinipotError, match="--out"):
        Journal(tmp_path / "answers.jsonl", option="--out")
    assert (tmp_path / "answers.jsonl").read_text() == content


def test_what_two_sections_need_is_run_once(stub: Stub, tmp_path: Path) -> None:
    bench = needle(tmp_path, sections=("caps", "delay", "kinds", "ablations"))
    list(bench.run(1))
    lines = [json.dumps(json.loads(line)["case"]) for line in (tmp_path / "answers.jsonl").read_text().splitlines()[1:]]
    assert max(Counter(lines).values()) == 1
    assert set(bench.rows()) == {"caps", "delay", "kinds", "ablations"}


def test_all_that_a_clip_its_questions_and_its_memories_are_made_of_counts_as_code() -> None:
    """What the file that runs cases imports, itself or through others, of the folders that else change no answer."""
    root, found, left = Path(versions.__file__).parent, set[str](), ["evaluate/needle/memories.py"]
    while left:
        name = left.pop()
        found.add(name)
        for node in ast.walk(ast.parse((root / name).read_text())):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            path = f"{module.partition('.')[2].replace('.', '/')}.py"
            if module.startswith("infinipot.") and path.startswith(versions._ASIDE) and path not in found:
                left.append(path)
    assert found == {*versions.OF_NEEDLE, "evaluate/core/machine.py"}  # that one only counts bytes


def test_code_is_the_same_with_other_comments_and_not_with_other_numbers() -> None:
    plain = 'def double(x):\n    """Twice."""\n    return 2 * x\n'
    assert versions.meaning(plain) == versions.meaning("# twice\ndef double(x):\n    return 2*x\n")
    assert versions.meaning(plain) != versions.meaning(plain.replace("2", "3"))


# Results


def test_rows_count_right_answers_against_the_default_and_the_full_cache() -> None:
    right = {"full": {0, 1, 2, 3}, DEFAULT: {0, 1, 2}, "uniform": {0}}
    made = list(rows.caps(outcomes("full", DEFAULT, "uniform", right=right), QUICK))
    by_policy = {row["policy"]: row for row in made}
    assert {row["background"] for row in made} == {"still"}
    assert by_policy["uniform"]["right"].value == 0.25
    assert by_policy["uniform"]["against_default"].value == -0.5
    assert by_policy["uniform"]["against_full"].value == -0.75
    assert by_policy[DEFAULT]["against_default"] is None
    assert (by_policy[DEFAULT]["share"], by_policy[DEFAULT]["kept"], by_policy["full"]["share"]) == (8, FULL // 8, 1)


def test_delays_fall_between_their_bounds() -> None:
    right = {"full": {0, 1, 2, 3}, DEFAULT: {0, 1}}
    made = [row for row in rows.delay(outcomes("full", DEFAULT, right=right), QUICK) if row["policy"] == DEFAULT]
    assert [(*row["delay"], row["right"].value, row["right"].questions) for row in made] == [
        (0, 8, 1.0, 1),
        (8, 16, 1.0, 1),
        (16, 32, 0.0, 2),
    ]


@pytest.mark.parametrize("section", ["delay", "kinds"])
def test_delays_and_kinds_are_told_at_each_size_beside_the_full_cache(section: str) -> None:
    right = {"full": {0, 1, 2, 3}, DEFAULT: {0, 1}}
    found = outcomes("full", DEFAULT, right=right) + outcomes(DEFAULT, right={DEFAULT: {0}}, share=16)
    made = list(getattr(rows, section)(found, QUICK))
    told = {table.title: table.rows for table in layouts.tables({section: made})}
    lines = [next(rows for title, rows in told.items() if f"1/{share} of the tokens" in title) for share in (8, 16)]
    assert len(told) == 2
    assert all([row[0] for row in of_share] == ["full", DEFAULT] for of_share in lines)
    assert lines[0][0] == lines[1][0]
    assert lines[0][1] != lines[1][1]
    if section == "delay":
        figure = pictures._by_delay(made)
        line = next(line for line in figure.axes[0].lines if line.get_label() == DEFAULT)
        assert np.asarray(line.get_ydata()).tolist() == [100, 0, 0]


def test_a_full_cache_of_a_length_holds_what_that_length_shows() -> None:
    short = outcomes("full", DEFAULT, right={"full": {0}, DEFAULT: {0}})
    long = [replace(one, case=replace(one.case, scene=replace(one.case.scene, seconds=600.0))) for one in short]
    held = {(row["policy"], row["seconds"]): row["kept"] for row in rows.length([*short, *long], QUICK)}
    assert held["full", 64.0] == FULL
    assert held["full", 600.0] == 600 * FULL // 64
    assert held[DEFAULT, 64.0] == held[DEFAULT, 600.0] == FULL // 8


def test_long_streams_are_told_by_question_of_the_default_alone() -> None:
    found = outcomes("full", DEFAULT, "uniform", right={"full": {0}, DEFAULT: {0, 1, 2}, "uniform": set()})
    size = replace(QUICK, lengths=((64.0, 4), (600.0, 1)))
    (row,) = rows.long_kinds(found, size)
    assert (row["policy"], row["seconds"], row["kind"], row["right"].value) == (DEFAULT, 64.0, "now", 0.75)


def test_the_large_model_needs_what_its_shape_says() -> None:
    assert cost.large_full() == 49_152
    assert cost.large_bytes("full") == 49_152 * 57_344
    assert cost.large_bytes("cap 4096") == 4096 * 57_344
    assert cost.large_bytes("tar") is None


def test_a_measurement_tells_what_the_stream_took() -> None:
    case = Case(replace(SCENE, samples=4), Holder(DEFAULT, 64, 1))
    found = asdict(cost.measure("a", LoadConfig(), case))
    assert found["stats"]["frames"] == 40
    assert found["patch_seconds"] > 0
    assert found["peak_bytes"] >= found["idle_bytes"] > 0
    assert [sample[1] for sample in found["history"]] == sorted(sample[1] for sample in found["history"])
    json.dumps(found)


# The command


def command(*args: str) -> Result:
    return CliRunner().invoke(main, ["bench", "needle", "--quick", "--jobs", "1", *args])


def test_the_command_answers_with_tables_a_summary_and_pictures(stub: Stub, tmp_path: Path) -> None:
    printed = command("--out", str(tmp_path), "--sections", "caps,delay", "--policies", "infinipot-v,uniform")
    assert printed.exit_code == 0, printed.output
    assert "Accuracy by tokens kept, background still. 1 clip, " in printed.stdout
    assert "Against infinipot-v at the same tokens" in printed.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["unfinished"] == 0
    assert {row["policy"] for row in summary["sections"]["caps"]} == {"full", "infinipot-v", "uniform"}
    assert summary["pictures"] == ["accuracy-by-tokens.png", "accuracy-by-delay.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in summary["pictures"])
    text = (tmp_path / "tables.txt").read_text()
    assert text.startswith("# sections caps, delay; policies infinipot-v; uniform\n")
    assert printed.stdout.startswith(text)
    again = command("--out", str(tmp_path), "--sections", "caps", "--policies", "infinipot-v,uniform", "--json")
    assert json.loads(again.stdout)["sections"]["caps"] == summary["sections"]["caps"]
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"machine": "another one"}))
    printed = command("--out", str(tmp_path), "--sections", "caps", "--policies", "infinipot-v,uniform", "--tables")
    assert printed.exit_code == 0
    assert json.loads((tmp_path / "summary.json").read_text())["machine"] == "another one"


def test_a_picture_shows_every_policy_where_few_are_compared_and_the_usual_ones_where_many_are() -> None:
    few = {"full", DEFAULT, "keydiff:newest=0.125", "merged"}
    colours = pictures._colours(few)
    assert colours.keys() == few
    assert len(set(colours.values())) == len(few)
    assert pictures._colours({*few, *plan.every_policy()}).keys() == pictures.COLOURS.keys()


def test_a_picture_has_a_panel_for_each_background_by_its_name_and_a_band_where_clips_differ() -> None:
    shares = {64: Estimate(0.8, 0.7, 0.9, None, 3, 30), 128: Estimate(1.0, 0.3, 1.0, 0.7, 3, 30)}
    rows = [
        {"background": background, "policy": DEFAULT, "kept": kept, "right": share, "chance": 0.2, "blind": 0.4}
        for background in ("still", "cuts")
        for kept, share in shares.items()
    ]
    panels = pictures._by_tokens(rows).axes
    assert [axes.get_title() for axes in panels] == ["still", "cuts"]
    for axes in panels:
        ((band,),) = (collection.get_paths() for collection in axes.collections)
        assert sorted(set(np.asarray(band.vertices)[:, 1].round(6))) == [70, 90, 100]


def test_a_model_that_does_not_know_the_world_is_told_before_anything_is_written(tmp_path: Path) -> None:
    printed = command("--out", str(tmp_path / "out"), "--model", "embeded")
    assert (printed.exit_code, printed.stdout) == (1, "")
    assert "not the folder of a model that knows the synthetic world; there are embedded, witness" in printed.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_prints_what_is_there_and_says_how_to_go_on(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = processes._run

    def interrupted(loaded: Any, cases: list[Case]) -> list[Outcome]:
        if len(stub.opened) > 10:
            raise KeyboardInterrupt
        return real(loaded, cases)

    monkeypatch.setattr(processes, "_run", interrupted)
    printed = command("--out", str(tmp_path), "--sections", "caps", "--policies", "infinipot-v,uniform,tar,van")
    assert printed.exit_code == 130
    assert "same --out" in printed.stderr
    assert "cases unfinished" in printed.stdout
    assert json.loads((tmp_path / "summary.json").read_text())["unfinished"] > 0


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--sections", "caps, speed"), 1, "no section is called 'speed'"),
        (("--policies", "sliding"), 2, 'did you mean "sliding-window"?'),
        (("--model", "./nowhere"), 1, "not the folder of a model"),
        (("--clips", "0"), 2, "--clips"),
        (("--quick", "--sections", "dozens", "--seed", "9999"), 2, "those from 10000 on serve other ends"),
        (("--quick", "--seed", "998000"), 2, "those from 1000000 on serve other ends"),
        (("--shard", "5/4"), 2, "such as 2/4"),
        (("--tables",), 1, "no results yet"),
        (("--video", "nowhere.mp4"), 2, "nowhere.mp4"),
    ],
)
def test_what_cannot_be_is_said(args: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    printed = command("--out", str(tmp_path), *args)
    assert printed.exit_code == code
    assert said in printed.stderr


def test_tables_say_what_they_rest_on() -> None:
    right = {"full": {0, 1, 2, 3}, DEFAULT: {0, 1, 2}, "uniform": {0}}
    found = outcomes("full", DEFAULT, "uniform", right=right)
    titles = [table.title for table in layouts.tables({"caps": list(rows.caps(found, QUICK))})]
    assert "4 clips, 4 answers each, guessing 50" in titles[0]


def test_what_is_right_without_the_video_is_the_better_guess_for_each_kind() -> None:
    answers = [GivenAnswer("count", 1.0, None, 0.25, right, "") for right in ("many", "many", "many", "two")]
    answers += [GivenAnswer("first", 1.0, 0.5, 0.5, right, "") for right in ("red", "blue", "green", "gray")]
    row = rows.Answers([Outcome(Case(SCENE, holder_of(DEFAULT)), tuple(answers))]).row(holder_of(DEFAULT))
    assert row is not None
    assert (row["chance"], row["blind"]) == ((4 * 0.25 + 4 * 0.5) / 8, (3 + 4 * 0.5) / 8)


def test_there_is_no_table_of_differences_from_a_policy_that_did_not_run() -> None:
    found = outcomes("full", "uniform", "random", right={"full": {0, 1}, "uniform": {0}, "random": {0}})
    titles = [table.title for table in layouts.tables({"caps": list(rows.caps(found, QUICK))})]
    assert not [title for title in titles if DEFAULT in title]
    assert any(title.startswith("Accuracy by tokens kept") for title in titles)


def test_a_table_tells_what_a_policy_stores_beside_keys_and_values() -> None:
    bytes_of = {"full": 4096, DEFAULT: 1536, "uniform": 1024}
    found = outcomes("full", DEFAULT, "uniform", right={"full": {0}, DEFAULT: {0}, "uniform": {0}})
    found = [replace(record, stats={"bytes": bytes_of[record.case.holder.policy]}) for record in found]
    made = {table.title: table for table in layouts.tables({"caps": list(rows.caps(found, QUICK))})}
    title = next(title for title in made if title.startswith("Memory in KiB"))
    assert title.endswith("Full cache: 4.")
    assert [row[1] for row in made[title].rows] == ["2 (+50.0)", "1 (+0.0)"]


# Processes


@pytest.fixture
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that begin as copies of this one, rather than to load everything again."""
    forked = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: forked)


@pytest.mark.usefixtures("_forked")
def test_a_process_that_cannot_load_its_model_says_so_instead_of_ending() -> None:
    with pytest.raises(InfinipotError, match="no such folder"):
        list(processes.run(LoadConfig("./nowhere"), [[Case(SCENE, holder_of(DEFAULT))]] * 2, None, 2))


@pytest.mark.usefixtures("_forked")
def test_a_process_that_is_killed_ends_the_run_with_an_error_rather_than_to_be_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "_load_once", lambda *given: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(InfinipotError, match="fewer --jobs"):
        list(processes.run(LoadConfig("m"), [[Case(SCENE, holder_of(DEFAULT))]] * 3, None, 2))
    with pytest.raises(InfinipotError, match="died"):
        processes.alone(os._exit, 1)


@pytest.mark.usefixtures("_forked")
def test_processes_end_with_a_run_that_is_interrupted_whatever_they_are_at(monkeypatch: pytest.MonkeyPatch) -> None:
    others = set(multiprocessing.active_children())
    monkeypatch.setattr(processes, "_run_loaded", slow_but_for_the_first)
    going = processes.run(LoadConfig("m"), [[], [Case(SCENE, holder_of(DEFAULT))], []], None, 2)
    assert next(going) == []
    begun = time.monotonic()
    going.close()
    assert set(multiprocessing.active_children()) <= others
    assert time.monotonic() - begun < 60


def slow_but_for_the_first(cases: list[Case], *_: Any) -> list[Outcome]:
    if cases:
        time.sleep(600)
    return []
