"""Who goes into the next step: answers that somebody waits for ahead of frames, and frames not never."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinipot.serve import engine
from infinipot.serve.lane import AskJob, FrameJob
from infinipot.serve.metrics import Metrics
from infinipot.serve.schedule import Schedule
from infinipot.serve.worker import Worker
from support.serving import MEMORY, clip, embedded

URGENT, OTHERS = ("ask",), tuple(range(64))


def test_steps_with_frames_are_as_short_as_a_tick_where_there_are_more_to_go() -> None:
    schedule = Schedule(tick=0.02)
    for _ in range(50):
        schedule.took(len(schedule.choose((), OTHERS)), 0.001 + 0.002 * schedule.most)
    assert schedule.choose((), OTHERS) == list(OTHERS[: schedule.most])
    assert 0.015 < 0.001 + 0.002 * schedule.most <= 0.0201
    for _ in range(50):
        schedule.took(len(schedule.choose((), OTHERS)), 0.1 * schedule.most)  # one alone takes longer than a tick
    assert schedule.choose((), OTHERS) == [0]


@given(st.lists(st.tuples(st.floats(0.001, 0.1), st.floats(0.0005, 0.02)), min_size=40, max_size=120))
def test_neither_kind_waits_for_longer_than_the_other_and_one_step_takes(steps: list[tuple[float, float]]) -> None:
    schedule, spent = Schedule(), {"answers": 0.0, "frames": 0.0}
    assert schedule.choose(URGENT, OTHERS) == ["ask"], "an answer goes first"
    for answer, frame in steps:
        chosen = schedule.choose(URGENT, OTHERS)
        kind = "answers" if chosen == ["ask"] else "frames"
        seconds = answer if kind == "answers" else frame * len(chosen)
        assert kind == "answers" or chosen == list(OTHERS[: len(chosen)])
        schedule.took(len(chosen), seconds)
        spent[kind] += seconds
    longest = max(max(each) for each in steps) * 64
    assert spent["answers"] - spent["frames"] <= longest
    assert spent["frames"] - spent["answers"] <= longest


def test_what_waits_alone_goes() -> None:
    schedule = Schedule()
    for _ in range(5):
        assert schedule.choose(URGENT, ()) == ["ask"]
        schedule.took(1, 1.0)
    schedule.took(len(schedule.choose((), OTHERS)), 0.01)
    assert schedule.choose(URGENT, OTHERS) == ["ask"], "frames were not waiting while answers went on"


@pytest.mark.parametrize(("urgent", "most"), [(True, 4), (False, None)])
def test_a_question_is_not_put_behind_the_frames_of_other_streams(
    urgent: bool, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody waits for, a standing one, goes with the frames."""
    frames, steps, real = clip()[:24], [], engine.step

    def noting(model: Any, calls: Any, tokens: int) -> None:
        steps.append(len(calls := list(calls)))
        real(model, calls, tokens)

    worker = Worker(embedded(), Metrics(), 2048)
    worker.start()
    lanes = [worker.open(lambda: embedded().stream(MEMORY), 64).result(10) for _ in range(12)]
    asked, rest = lanes[0], lanes[1:]
    for frame in frames[:2]:
        worker.push(asked, job := FrameJob(frame))
    job.watched.result(10)
    first: list[int] = []
    monkeypatch.setattr(engine, "step", noting)

    def put() -> None:
        """All at once, on the worker's thread."""
        for frame in frames:
            for lane in rest:
                worker.push(lane, FrameJob(frame))
        worker.ask(asked, question)

    def heard(_: str) -> None:
        first.append(len(steps))

    question = AskJob("Is there a shape now?", {}, heard, urgent)
    worker.call(put).result(10)
    with embedded().stream(MEMORY) as library:
        for frame in frames[:2]:
            library.watch(frame)
        assert question.answered.result(60).text == library.ask("Is there a shape now?")
    for lane in lanes:
        worker.close(lane).result(10)
    worker.stop(10)
    if most is not None:
        assert first[0] <= most
        assert steps[: first[0]].count(1) == first[0], "an answer shares its step with no frame"
    else:
        assert first[0] >= 1
