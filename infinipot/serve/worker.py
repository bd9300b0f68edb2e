"""The thread that owns the model: each turn it packs what waits in all lanes into one step of bounded size.

Knows lanes and tasks, not HTTP. A question goes behind the frames that came before it, and frames behind the questions
that came before them; lanes wait for no other lane. What runs alone on a stream (saving it) runs in a second thread
while the worker carries the other streams on.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from infinipot.model import Model
from infinipot.serve import engine
from infinipot.serve.lane import AloneJob, Answered, AskJob, FrameJob, GoneError, Lane, fail, outcome
from infinipot.serve.schedule import Schedule
from infinipot.stream import Stream

logger = logging.getLogger(__name__)
T = TypeVar("T")
_UnderWay = tuple[Lane, engine.Call]
_SOON, _IDLE = 0.02, 1.0  # seconds until the thread looks again, though nobody woke it


class Watching(Protocol):
    """What is told of what the worker does, on its thread; `metrics.py` counts it."""

    def watched(self, job: FrameJob, lane: Lane, seconds: float) -> None: ...
    def answered(self, job: AskJob, answer: Answered) -> None: ...
    def stepped(self, tasks: int, seconds: float) -> None: ...


class Worker:
    """Runs a model for all streams of a server.

    Args:
        model: nobody else runs it.
        watching: is told of what happens.
        step_tokens: that one step runs over at the most.
    """

    def __init__(self, model: Model, watching: Watching, step_tokens: int) -> None:
        self.model = model
        self._watching, self._step_tokens = watching, step_tokens
        self._lanes: list[Lane] = []
        self._calls: deque[Callable[[], object]] = deque()
        self._under_way: dict[Lane, engine.Call] = {}
        self._schedule = Schedule()
        self._awake = threading.Event()
        self._stopping = False
        self._saver = ThreadPoolExecutor(1, "saver")
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> bool:
        """Carries out what waits, for so many seconds at the most, and ends; returns whether all was done."""
        self._stopping = True
        self._awake.set()
        self._thread.join(timeout)
        self._saver.shutdown(wait=True)
        return not self._thread.is_alive()

    # From any thread

    def call(self, work: Callable[[], T]) -> "Future[T]":
        """Runs something on the model's thread between two steps."""
        future: Future[T] = Future()
        self._calls.append(lambda: _settle(future, work))
        self._awake.set()
        return future

    def open(self, make: Callable[[], Stream], frames: int) -> "Future[Lane]":
        """Opens a stream, and a lane for it in which so many frames may wait."""

        def opened() -> Lane:
            lane = Lane(make(), frames)
            self._lanes.append(lane)
            return lane

        return self.call(opened)

    def push(self, lane: Lane, job: FrameJob) -> FrameJob | None:
        """Has a frame wait to be watched; returns the one that it pushed out, if any."""
        dropped = lane.push(job)
        self._awake.set()
        return dropped

    def ask(self, lane: Lane, job: AskJob) -> None:
        """Has a question wait to be answered."""
        lane.add(job)
        self._awake.set()

    def leave(self, job: AskJob) -> None:
        """Stops an answer that nobody waits for any more."""
        job.left.set()
        self._awake.set()

    def alone(self, lane: Lane, work: Callable[[Stream], T]) -> "Future[T]":
        """Runs something on a stream when its turn comes, in a thread beside the worker's."""
        job = AloneJob(work)
        lane.add(job)
        self._awake.set()
        return job.done

    def fork(self, lane: Lane, frames: int) -> "Future[Lane]":
        """Opens a lane for a fork of a stream, which sees the frames that have come so far."""
        forked: Future[Lane] = Future()

        def opened(copy: "Future[Stream]") -> None:
            if (error := copy.exception()) is not None:
                fail(forked, error)
                return
            self.open(copy.result, frames).add_done_callback(lambda done: _settle(forked, done.result))

        self.alone(lane, Stream.fork).add_done_callback(opened)
        return forked

    def close(self, lane: Lane) -> "Future[None]":
        """Ends what is under way or waits in a lane, and closes its stream; what runs alone on it ends first."""
        future: Future[None] = Future()

        def close() -> None:
            if isinstance(lane.working, AloneJob):
                self._calls.append(close)
            else:
                _settle(future, lambda: self._close(lane))

        self._calls.append(close)
        self._awake.set()
        return future

    # On the worker's thread

    def _run(self) -> None:
        while not self._ended():
            self._awake.clear()
            worked = True
            try:
                worked = self._turn()
            except Exception:
                logger.exception("a step failed, and what was under way with it")
                self._give_up()
            if not worked:
                self._awake.wait(_SOON if self._stopping or self._calls else _IDLE)

    def _ended(self) -> bool:
        busy = self._under_way or self._calls or any(lane.busy for lane in self._lanes)
        return self._stopping and not busy

    def _turn(self) -> bool:
        """What was asked of the thread, what begins, what ends early, and a step of all that is under way.

        Returns:
            Whether there was anything to step.
        """
        for _ in range(len(self._calls)):
            self._calls.popleft()()
        self._begin()
        self._stop_answers()
        if not self._under_way:
            return False
        self._step()
        return True

    def _give_up(self) -> None:
        """Ends all calls that are under way, after what nobody expected: their streams are as before them."""
        for lane, call in list(self._under_way.items()):
            call.task.cancel()
            self._settle(lane, call)

    def _begin(self) -> None:
        """Begins the next job of each lane that has none under way."""
        for lane in self._lanes:
            if lane.working is not None or (job := lane.next()) is None:
                continue
            lane.working = job
            match job:
                case FrameJob():
                    self._under_way[lane] = engine.Watching(lane.stream, job.frame)
                case AskJob():
                    self._begin_ask(lane, job)
                case AloneJob():
                    self._saver.submit(self._run_alone, lane, job)

    def _begin_ask(self, lane: Lane, job: AskJob) -> None:
        job.began = time.monotonic()
        try:
            self._under_way[lane] = engine.Asking(lane.stream, job.question, job.options, _heard(job))
        except Exception as error:
            lane.working = None
            fail(job.answered, error)

    def _run_alone(self, lane: Lane, job: AloneJob) -> None:
        _settle(job.done, lambda: job.work(lane.stream))
        lane.working = None
        self._awake.set()

    def _close(self, lane: Lane) -> None:
        if call := self._under_way.pop(lane, None):
            call.task.cancel()
        under_way, lane.working = lane.working, None
        if under_way is not None:
            fail(outcome(under_way), GoneError("the stream was closed"))
        lane.close()
        if lane in self._lanes:
            self._lanes.remove(lane)
        lane.stream.close()

    def _stop_answers(self) -> None:
        """Cancels the answers that nobody waits for any more: their streams are as before the question."""
        for lane, call in list(self._under_way.items()):
            job = lane.working
            if isinstance(job, AskJob) and job.left.is_set():
                call.task.cancel()
                self._settle(lane, call)

    def _step(self) -> None:
        waiting: tuple[list[_UnderWay], list[_UnderWay]] = [], []
        for lane, call in self._under_way.items():  # the oldest first: none waits for ever
            waiting[not lane.urgent].append((lane, call))
        calls = self._schedule.choose(*waiting)
        start, busy = time.perf_counter(), time.thread_time()
        engine.step(self.model, [call for _, call in calls], self._step_tokens)
        self._schedule.took(len(calls), time.thread_time() - busy)  # not what other processes took of the machine
        self._watching.stepped(len(calls), time.perf_counter() - start)
        for lane, call in calls:
            if call.task.done:
                self._settle(lane, call)

    def _settle(self, lane: Lane, call: engine.Call) -> None:
        """Tells who waits for a call's job how it went."""
        del self._under_way[lane]
        job, lane.working = lane.working, None
        lane.stats = lane.stream.stats()
        if isinstance(job, FrameJob):
            if _settle(job.watched, call.task.result):
                self._watching.watched(job, lane, time.monotonic() - job.came)
        elif isinstance(job, AskJob) and isinstance(call, engine.Asking):
            job.ended = time.monotonic()
            if job.left.is_set():
                fail(job.answered, GoneError("nobody waits for the answer"))
            elif _settle(job.answered, lambda: self._answered(job, lane, call)):
                self._watching.answered(job, job.answered.result())

    def _answered(self, job: AskJob, lane: Lane, call: engine.Asking) -> Answered:
        text = call.task.result()
        adapter, stats = self.model.adapter, lane.stats
        said = call.said(len(adapter.tokenize(text, plain=True)))
        return Answered(
            text=text,
            time=stats.time,
            prompt_tokens=stats.asked_tokens + len(adapter.tokenize(job.question, plain=True)),
            memory_tokens=stats.asked_tokens,
            video_tokens=max(stats.asked_tokens - stats.text_tokens, 0),
            answer_tokens=said,
            cut=said >= call.limit,
        )


def _heard(job: AskJob) -> Callable[[str], None]:
    """Passes on the pieces of an answer."""

    def on_text(piece: str) -> None:
        job.spoke = job.spoke or time.monotonic()
        job.on_text(piece)

    return on_text


def _settle(future: "Future[T]", work: Callable[[], T]) -> bool:
    """Sets a future to the outcome of some work; returns whether that went well."""
    try:
        found = work()
    except BaseException as error:
        fail(future, error)
        return False
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_result(found)
    return True
