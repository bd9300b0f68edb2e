"""Who goes into the next step: answers that somebody waits for ahead of frames, and frames not never."""

import asyncio
import time
import weakref
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infinipot.errors import QuestionError
from infinipot.model import Model
from infinipot.serve import engine
from infinipot.serve.errors import ApiError
from infinipot.serve.health import health, ready
from infinipot.serve.lane import AskJob, FrameJob, GoneError, Lane
from infinipot.serve.metrics import Metrics
from infinipot.serve.room import Room
from infinipot.serve.schedule import Schedule
from infinipot.serve.worker import Worker
from infinipot.stream import Stream
from support.serving import MEMORY, alone, clip, embedded

URGENT, OTHERS = ("ask",), tuple(range(64))
COUNT = "How many shapes have appeared so far?"
ASKED = (COUNT, "What colour was the circle?", "Is there a shape now?", "Which shape was red?")


@given(st.floats(0, 0.1), st.floats(1e-5, 0.02), st.lists(st.integers(1, 400), min_size=30, max_size=60))
def test_steps_with_frames_take_a_tick_or_twice_what_an_empty_one_does(
    fixed: float, each: float, wanted: list[int]
) -> None:
    """Whatever a token costs, and however much waits: what a step takes is found out from those before it."""
    schedule = Schedule(2048, tick=0.02)
    for number in range(3 * len(wanted)):
        _, most = schedule.choose((), OTHERS)
        tokens = max(1, min(wanted[number % len(wanted)], most))
        schedule.took(1, tokens, fixed + each * tokens)
    _, most = schedule.choose((), OTHERS)
    bound = max(0.02, 2 * fixed, fixed + each)
    assert fixed + each * most <= bound * 1.05 or most == 1
    if max(wanted) >= most < 2048:
        assert fixed + each * (most + 1) >= min(bound, 0.02) * 0.5, "less than there is time for"


def test_calls_that_run_over_nothing_are_as_many_as_a_tick_has_time_for() -> None:
    schedule = Schedule(2048, tick=0.02)
    for _ in range(50):
        calls, _ = schedule.choose((), OTHERS)
        schedule.took(len(calls), 0, 0.002 * len(calls))
    assert 0.015 < 0.002 * len(schedule.choose((), OTHERS)[0]) <= 0.0201


@given(st.lists(st.tuples(st.floats(0.001, 0.1), st.floats(0.0005, 0.02)), min_size=40, max_size=120))
def test_neither_kind_waits_for_longer_than_the_other_and_one_step_takes(steps: list[tuple[float, float]]) -> None:
    schedule, spent = Schedule(2048), {"answers": 0.0, "frames": 0.0}
    assert schedule.choose(URGENT, OTHERS) == (["ask"], 2048), "an answer goes first"
    for answer, frame in steps:
        chosen, _ = schedule.choose(URGENT, OTHERS)
        kind = "answers" if chosen == ["ask"] else "frames"
        seconds = answer if kind == "answers" else frame * len(chosen)
        assert kind == "answers" or chosen == list(OTHERS[: len(chosen)])
        schedule.took(len(chosen), 0, seconds)
        spent[kind] += seconds
    longest = max(max(each) for each in steps) * 64
    assert spent["answers"] - spent["frames"] <= longest
    assert spent["frames"] - spent["answers"] <= longest


def test_what_waits_alone_goes() -> None:
    schedule = Schedule(2048)
    for _ in range(5):
        assert schedule.choose(URGENT, ())[0] == ["ask"]
        schedule.took(1, 20, 1.0)
    schedule.took(len(schedule.choose((), OTHERS)[0]), 20, 0.01)
    assert schedule.choose(URGENT, OTHERS)[0] == ["ask"], "frames were not waiting while answers went on"


@pytest.mark.parametrize(
    ("given", "cores", "torchs", "expected"), [(None, 4, 8, 3), (None, 1, 8, 1), (None, 8, 2, 2), (5, 2, 2, 5)]
)
def test_a_core_is_left_to_requests_unless_one_says_otherwise(
    given: int | None, cores: int, torchs: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: torchs)
    monkeypatch.setattr("torch.set_num_threads", used.append)
    engine.run_in(given)
    assert used == [expected]


@pytest.mark.parametrize("lost", [False, True])
def test_a_step_takes_until_the_devices_are_done_with_it(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """Launching is a part of it: a thread that went on would launch steps without end ahead of a question."""
    gpu, waited, told = torch.device("cuda", 1), [], []

    def synchronize(device: torch.device) -> None:
        waited.append(device)
        time.sleep(0.05)
        if lost:
            raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.accelerator, "synchronize", synchronize)
    monkeypatch.setattr(engine, "accelerators", lambda model: (gpu,))
    monkeypatch.setattr(Schedule, "took", lambda self, calls, tokens, seconds: told.append(seconds))
    worker = Worker(embedded(), Metrics(), 2048)
    lane = opened(worker, 8)
    assert lane.stream.stats().frames == 8
    assert waited == [gpu] * len(told)
    assert told
    assert min(told) >= 0.05


def test_on_a_cpu_a_step_takes_what_its_thread_did() -> None:
    assert engine.accelerators(embedded()) == ()
    assert engine.timed((), lambda: time.sleep(0.05))[1] < 0.04


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls each step carried on."""
    noted, real = [], Model.step

    def noting(model: Any, calls: Any, tokens: int) -> int:
        noted.append(len(calls := list(calls)))
        return real(model, calls, tokens)

    monkeypatch.setattr(Model, "step", noting)
    return noted


@pytest.fixture
def worker() -> Worker:
    """One whose turns a test takes, in room for a stream and three forks of it."""
    size = embedded().stream_bytes(MEMORY)
    made = Worker(embedded(), Metrics(), 2048, Room(5 * size - 1))
    assert asyncio.run(made.room.reserve(size))
    return made


def opened(worker: Worker, frames: int) -> Lane:
    """A lane whose stream has watched so many frames."""
    opening = worker.open(lambda: embedded().stream(MEMORY), 64)
    worker.turn()
    lane = opening.result(0)
    for frame in clip()[:frames]:
        worker.push(lane, FrameJob(frame))
    while worker.turn():
        pass
    return lane


def asked(worker: Worker, lane: Lane, questions: Iterable[str], **how: Any) -> list[AskJob]:
    """Questions that wait in a row."""
    jobs = [AskJob(question, how, lambda _: None, urgent=False) for question in questions]
    for job in jobs:
        worker.ask(lane, job)
    return jobs


def test_the_text_of_an_answer_can_be_kept_without_what_its_evidence_is_worked_out_from(worker: Worker) -> None:
    lane = opened(worker, 4)
    (job,) = asked(worker, lane, [COUNT], evidence=True)
    while worker.turn():
        pass
    answered = job.answered.result(0)
    gaze, text = weakref.ref(answered.answer._gaze), answered.text
    assert gaze() is not None
    del job, answered
    assert gaze() is None
    assert text


def test_questions_in_a_row_are_answered_together_on_forks_and_alike(
    worker: Worker, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fifth has no room for a fork: it waits for the stream. A frame behind them all is seen by none."""
    lane, encode, encoded = opened(worker, 12), type(embedded().adapter).encode, []
    monkeypatch.setattr(type(embedded().adapter), "encode", lambda *args: encoded.append(len(args[1])) or encode(*args))
    jobs = asked(worker, lane, [*ASKED, COUNT])
    worker.push(lane, FrameJob(clip()[12]))
    assert lane.waiting() == (1, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Schedule, "tokens", 8)  # what waits is encoded in a step, and run over in another one
        while not lane.beside:
            worker.turn()
    assert (len(lane.beside), lane.waiting()) == (3, (1, 5)), "those under way are counted, too"
    worker.turn()
    assert steps[-2:] == [1, 4]
    while not jobs[-1].answered.done():
        worker.turn()
    assert len(encoded) == 1, "what waits is encoded once for all of them"
    while worker.turn():
        pass
    found = [job.answered.result(0) for job in jobs]
    assert [each.text for each in found] == alone(clip()[:12], *ASKED, COUNT)
    assert {each.time for each in found} == {clip()[11].time}
    assert len({(each.memory_tokens, each.video_tokens) for each in found}) == 1
    assert lane.stats.frames == 13
    assert (worker.room.lend(4 * embedded().stream_bytes(MEMORY) - 1), lane.beside) == (True, []), "room is given back"


def test_a_question_joins_one_that_is_being_answered_unless_a_frame_came_between(
    worker: Worker, steps: list[int]
) -> None:
    lane = opened(worker, 12)
    jobs = asked(worker, lane, ["List all shapes, colour first."])
    worker.turn()
    jobs += asked(worker, lane, [COUNT])
    steps.clear()
    worker.turn()
    worker.turn()
    assert steps == [1, 2]
    worker.push(lane, FrameJob(clip()[12]))
    jobs += asked(worker, lane, [COUNT])
    while worker.turn():
        pass
    found = [job.answered.result(0) for job in jobs]
    assert [each.text for each in found[:2]] == alone(clip()[:12], "List all shapes, colour first.", COUNT)
    assert [each.text for each in found[2:]] == alone(clip()[:13], COUNT)


def test_a_question_that_is_remembered_is_seen_by_those_behind_it_and_by_none_ahead(
    worker: Worker, steps: list[int]
) -> None:
    lane = opened(worker, 8)
    jobs = [*asked(worker, lane, [COUNT]), *asked(worker, lane, [COUNT], remember=True), *asked(worker, lane, [COUNT])]
    while worker.turn():
        pass
    before, _, behind = (job.answered.result(0).memory_tokens for job in jobs)
    assert max(steps) == 1
    assert behind > before
    assert lane.stats.turns == 1


def test_a_question_that_cannot_be_asked_holds_nothing_up(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a device that has no room for a fork."""
    lane = opened(worker, 6)
    (wrong,) = asked(worker, lane, [""], remember=True)
    good = asked(worker, lane, ASKED[:2])

    def full(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(type(lane.stream), "fork", full)
    worker.turn()
    with pytest.raises(QuestionError):
        wrong.answered.result(0)
    while worker.turn():
        pass
    assert [job.answered.result(0).text for job in good] == alone(clip()[:6], *ASKED[:2])
    assert worker.room.lend(4 * embedded().stream_bytes(MEMORY) - 1), "room is given back"


@pytest.mark.parametrize("lost", [None, "CUDA error: device-side assert triggered"])
def test_an_error_of_the_model_is_logged_and_tells_whether_its_device_can_still_be_used(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lost: str | None
) -> None:
    """What is raised on purpose, or by a disk, is no error of the model."""
    lane = opened(worker, 2)
    monkeypatch.setattr(engine, "reach", lambda _: raised(RuntimeError(f"{lost}\nCompile with ...")) if lost else None)
    asked(worker, lane, [""])
    done = worker.alone(lane, lambda _: raised(OSError("the disk is full")))
    while not done.done():
        worker.turn()
    assert (caplog.records, worker.faults.broken) == ([], None)
    monkeypatch.setattr(Stream, "begin_watch", lambda *_: raised(RuntimeError("it failed")))
    for frame in clip()[2:5]:
        worker.push(lane, FrameJob(frame))
    while lane.busy:
        worker.turn()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["the model failed", *([f"the model's device can no longer be used: {lost}"] if lost else [])]
    monkeypatch.setattr(Worker, "alive", True)
    server: Any = SimpleNamespace(worker=worker, ready=True)
    request: Any = SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(server=server)))
    for check in (health, ready):
        if lost is None:
            assert asyncio.run(check(request)).status_code == 200
        else:
            with pytest.raises(ApiError, match=f"{lost}.*start the server again") as told:
                asyncio.run(check(request))
            assert told.value.status == 503


def raised(error: Exception) -> None:
    raise error


def test_a_fork_ends_with_who_leaves_and_with_its_stream(worker: Worker) -> None:
    lane = opened(worker, 12)
    jobs = asked(worker, lane, ["List all shapes, colour first."] * 4)
    while not lane.beside:
        worker.turn()
    worker.leave(jobs[2])
    worker.turn()
    assert jobs[2] not in lane.beside
    worker.close(lane)
    worker.turn()
    for job in jobs[:2]:
        with pytest.raises(GoneError, match="closed"):
            job.answered.result(0)
    assert worker.room.lend(4 * embedded().stream_bytes(MEMORY) - 1), "room is given back"


def test_who_leaves_during_the_last_step_of_their_answer_ends_nobody_elses_call(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does a metric that fails."""
    lane, other = opened(worker, 12), opened(worker, 0)
    jobs = asked(worker, lane, ["List all shapes, colour first."])
    jobs += asked(worker, lane, [COUNT], max_new_tokens=1)
    jobs[1].on_text = lambda _: worker.leave(jobs[1])
    while jobs[1] not in lane.beside:
        worker.turn()
    monkeypatch.setattr(Metrics, "watched", lambda *_: raised(ValueError("it cannot be counted")))
    worker.push(other, job := FrameJob(clip()[0]))
    while worker.turn():
        pass
    assert (job.watched.result(0), jobs[1].left) == (None, True)
    assert jobs[0].answered.result(0).text
    assert worker.room.lend(4 * embedded().stream_bytes(MEMORY) - 1), "room is given back"
    assert [record.getMessage() for record in caplog.records] == ["what the model's thread did could not be counted"]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=40))
def test_what_is_reserved_and_lent_is_never_more_than_there_is(steps: list[tuple[bool, int]]) -> None:
    room, lent, reserved = Room(100), 0, 0
    for lends, size in steps:
        before = lent + reserved
        if lends:
            lent += size if room.lend(size) else 0
        elif lent == 0 and asyncio.run(room.reserve(size)):
            reserved += size
        elif lent:
            room.take_back(lent)
            lent = 0
        assert lent + reserved <= 100
        assert room.reserved == reserved
        if lends and lent + reserved == before:
            assert before + size > 100, "what fits is lent"


def test_a_stream_waits_for_room_that_is_lent_and_nothing_is_lent_meanwhile() -> None:
    async def go() -> None:
        room = Room(100)
        assert room.lend(60)
        reserving = asyncio.create_task(room.reserve(50))
        await asyncio.sleep(0.02)
        assert not reserving.done()
        assert not room.lend(10)
        room.take_back(60)
        assert await reserving
        assert not await room.reserve(51)
        assert room.lend(50)

    asyncio.run(go())


@pytest.mark.parametrize(("urgent", "most"), [(True, 4), (False, None)])
def test_a_question_is_not_put_behind_the_frames_of_other_streams(
    urgent: bool, most: int | None, steps: list[int]
) -> None:
    """One that nobody waits for, a standing one, goes with the frames."""
    frames = clip()[:24]
    worker = Worker(embedded(), Metrics(), 2048)
    worker.start()
    lanes = [worker.open(lambda: embedded().stream(MEMORY), 64).result(10) for _ in range(12)]
    one, rest = lanes[0], lanes[1:]
    for frame in frames[:2]:
        worker.push(one, job := FrameJob(frame))
    job.watched.result(10)
    first: list[int] = []
    steps.clear()

    def put() -> None:
        """All at once, on the worker's thread."""
        for frame in frames:
            for lane in rest:
                worker.push(lane, FrameJob(frame))
        worker.ask(one, question)

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
