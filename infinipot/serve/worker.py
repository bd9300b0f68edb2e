"""The thread that owns the model: each turn it packs what waits in all lanes into one step of bounded size.

Knows lanes and tasks, not HTTP. A question goes after the frames that came before it, and frames after the questions
that came before them; lanes wait for no other lane. Questions in a row, which see the same frames, are answered
together: the first on the stream, and once the model has run over what waits for its block, the others on forks of it,
which begin after that, as far as there is memory for them. What runs alone on a stream (saving or forking it, looking
at what it holds) runs in threads of its own while the worker carries the other streams on.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

from infinipot.model import Model
from infinipot.serve import engine
from infinipot.serve.calls import Run, settle
from infinipot.serve.faults import Faults
from infinipot.serve.lane import AloneJob, Answered, AskJob, FrameJob, GoneError, Lane, fail, outcome
from infinipot.serve.room import Room
from infinipot.serve.schedule import Schedule
from infinipot.stats import Stats
from infinipot.stream import Stream

logger = logging.getLogger(__name__)
T = TypeVar("T")
P = ParamSpec("P")
_ALONE = 4  # calls that run alone on streams at once, so that one that is slow holds up no other stream's
_SOON, _IDLE = 0.02, 1.0  # seconds until the thread looks again, though nobody woke it


class WorkerObserver(Protocol):
    """Is called for what the worker does, on its thread; `metrics.py` counts it."""

    def changed(self, before: Stats, after: Stats) -> None: ...
    def watched(self, job: FrameJob, lane: Lane, seconds: float) -> None: ...
    def answered(self, job: AskJob, answer: Answered) -> None: ...
    def stepped(self, tasks: int, seconds: float) -> None: ...


class Worker:
    """Runs a model for all streams of a server.

    Args:
        model: nobody else runs it.
        observer: is called for everything that the worker does, on its thread.
        step_tokens: that one step runs over at the most.
        room: of the streams' memory; left out, there is none for forks.
        threads: of the CPU that the model runs in; left out, as many as leave a core to others.

    Attributes:
        faults: what goes wrong with the model.
    """

    def __init__(
        self,
        model: Model,
        observer: WorkerObserver,
        step_tokens: int,
        room: Room | None = None,
        threads: int | None = None,
    ) -> None:
        self.model, self.room, self._threads = model, room or Room(0), threads
        self.faults = Faults(lambda: engine.reach(model))
        self._observer = observer
        self._lanes: list[Lane] = []
        self._calls: deque[Callable[[], object]] = deque()
        self._runs: list[Run] = []
        self._schedule = Schedule(step_tokens)
        self._accelerators = engine.accelerators(model)
        self._awake = threading.Event()
        self._stopping = False
        self._pool = ThreadPoolExecutor(_ALONE, "alone")
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> bool:
        """Carries out what waits, for so many seconds at the most, and ends; returns whether all was done."""
        self._stopping = True
        self._awake.set()
        self._thread.join(timeout)
        self._pool.shutdown(wait=True)
        return not self._thread.is_alive()

    # From any thread

    def call(self, work: Callable[[], T]) -> "Future[T]":
        """Runs something on the model's thread between two steps."""
        future: Future[T] = Future()
        future.add_done_callback(self.faults.note)
        self._calls.append(lambda: settle(future, work))
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
        """Queues a frame; returns the one that it displaced, if any."""
        job.watched.add_done_callback(self.faults.note)
        dropped = lane.push(job)
        self._awake.set()
        return dropped

    def ask(self, lane: Lane, job: AskJob) -> None:
        """Queues a question."""
        job.answered.add_done_callback(self.faults.note)
        lane.add(job)
        self._awake.set()

    def leave(self, job: AskJob) -> None:
        """Stops an answer that nobody waits for any more."""
        job.answered.cancel()
        self._awake.set()

    def alone(self, lane: Lane, work: Callable[[Stream], T]) -> "Future[T]":
        """Runs something on a stream when its turn comes, in a thread beside the worker's."""
        job = AloneJob(work)
        job.done.add_done_callback(self.faults.note)
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
            self.open(copy.result, frames).add_done_callback(lambda done: settle(forked, done.result))

        self.alone(lane, Stream.fork).add_done_callback(opened)
        return forked

    def close(self, lane: Lane) -> "Future[None]":
        """Ends what is under way or waits in a lane, and closes its stream; what runs alone on it ends first."""
        future: Future[None] = Future()

        def close() -> None:
            if isinstance(lane.working, AloneJob):
                self._calls.append(close)
            else:
                settle(future, lambda: self._close(lane))

        self._calls.append(close)
        self._awake.set()
        return future

    # On the worker's thread

    def _run(self) -> None:
        engine.run_in(self._threads)
        while not self._ended():
            self._awake.clear()
            worked = True
            try:
                worked = self.turn()
            except Exception as error:
                self.faults.take(error)
                for run in list(self._runs):
                    fail(outcome(run.job), error)
                    self._cancel(run)
            if not worked:
                self._awake.wait(_SOON if self._stopping or self._calls else _IDLE)

    def _ended(self) -> bool:
        busy = self._runs or self._calls or any(lane.busy for lane in self._lanes)
        return self._stopping and not busy

    def turn(self) -> bool:
        """One turn: runs pending calls, begins and cancels jobs, and steps all that are under way.

        Returns:
            Whether there was anything to step.
        """
        for _ in range(len(self._calls)):
            self._calls.popleft()()
        for lane in self._lanes:
            self._begin(lane)
        for run in [run for run in self._runs if run.left]:
            self._cancel(run)
        if not self._runs:
            return False
        self._step()
        return True

    def _begin(self, lane: Lane) -> None:
        """Begins the next job of a lane that has none under way.

        One that cannot begin is told so, and the next one has its turn.
        """
        while lane.working is None and (job := lane.next()) is not None:
            if isinstance(job, AloneJob):
                lane.working = job
                self._pool.submit(self._run_alone, lane, job)
                return
            self._take_up(lane, job, lane.stream)

    def _fork_for_questions(self, lane: Lane) -> None:
        """Begins the questions that see the same frames as the one under way, each on a fork of the stream."""
        while (job := lane.question()) is not None:
            if (fork := self._fork(lane)) is None:
                lane.put_back(job)
                return
            self._take_up(lane, job, fork)

    def _fork(self, lane: Lane) -> Stream | None:
        """A fork of a lane's stream, if there is room for one."""
        if not self.room.lend(lane.stats.bytes):
            return None
        try:
            return lane.stream.fork_amid()
        except Exception:  # the device may be full: whatever else there is, asking the stream itself will tell
            self.room.take_back(lane.stats.bytes)
            return None

    def _take_up(self, lane: Lane, job: FrameJob | AskJob, stream: Stream) -> None:
        try:
            run = Run(lane, job, stream)
        except Exception as error:
            fail(outcome(job), error)
            self._let_go(lane, stream)
            return
        self._runs.append(run)
        if isinstance(job, AskJob) and run.forked:
            lane.beside.append(job)
        else:
            lane.working = job

    def _let_go(self, lane: Lane, stream: Stream) -> None:
        """Closes a fork."""
        if stream is not lane.stream:
            stream.close()
            self.room.take_back(lane.stats.bytes)

    def _run_alone(self, lane: Lane, job: AloneJob) -> None:
        settle(job.done, lambda: job.work(lane.stream))
        lane.working = None
        self._awake.set()

    def _close(self, lane: Lane) -> None:
        gone = GoneError("the stream was closed")
        for run in [run for run in self._runs if run.lane is lane]:
            fail(outcome(run.job), gone)
            self._cancel(run)
        lane.close()
        if lane in self._lanes:
            self._lanes.remove(lane)
        lane.stream.close()

    def _cancel(self, run: Run) -> None:
        """Ends a call before it is done: its stream is as it was before."""
        run.task.cancel()
        self._settle(run)

    def _step(self) -> None:
        waiting: tuple[list[Run], list[Run]] = [], []
        for run in self._runs:  # the oldest first: none waits for ever
            waiting[not run.urgent].append(run)
        runs, most = self._schedule.choose(*waiting)
        start = time.perf_counter()
        tokens, taken = engine.timed(self._accelerators, lambda: self.model.step([run.task for run in runs], most))
        self._schedule.took(len(runs), tokens, taken)
        self._observe(self._observer.stepped, len(runs), time.perf_counter() - start)
        for run in runs:
            if run.task.done:
                self._settle(run)
            elif run.joined:
                self._fork_for_questions(run.lane)

    def _settle(self, run: Run) -> None:
        """Sets the outcome of a call that has ended."""
        lane, job = run.lane, run.job
        self._runs.remove(run)
        if isinstance(job, AskJob) and run.forked:
            lane.beside.remove(job)
        else:
            before, lane.stats = lane.stats, lane.stream.stats()
            lane.working = None
            self._observe(self._observer.changed, before, lane.stats)
        told = run.tell()
        self._let_go(lane, run.stream)
        if told and isinstance(job, FrameJob):
            self._observe(self._observer.watched, job, lane, time.monotonic() - job.came)
        elif told and isinstance(job, AskJob):
            self._observe(self._observer.answered, job, job.answered.result())

    def _observe(self, tell: Callable[P, None], *what: P.args, **how: P.kwargs) -> None:
        """Tells the observer, whose errors are logged: calls that are under way have no part in them."""
        try:
            tell(*what, **how)
        except Exception:
            logger.exception("what the model's thread did could not be counted")
