"""The queue of one stream: frames and questions in order of arrival. Knows no network and no model.

Filled by the event loop, emptied by the worker: the lock is held for moments only.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from infinipot import Answer
from infinipot.stats import Stats
from infinipot.stream import Stream
from infinipot.video import Frame

_SPANS = 8  # of an answer's evidence that are told


@dataclass(slots=True, eq=False)
class FrameJob:
    """A frame that waits to be watched.

    Attributes:
        frame: with its time in the stream.
        watched: set once the frame is in the stream, or with what was wrong with it, or that it was dropped.
        came: when, by the monotonic clock.
    """

    frame: Frame
    watched: "Future[None]" = field(default_factory=Future)
    came: float = field(default_factory=time.monotonic)


@dataclass(slots=True, eq=False)
class AskJob:
    """A question that waits for its answer.

    Attributes:
        question, options: see `Stream.ask`.
        on_text: called on the worker's thread with each piece of the answer.
        urgent: whether somebody waits for it, and so for what is ahead of it in its lane.
        answered: set with the answer, or what was wrong with the question; cancelled by who no longer waits for it.
        came, began, spoke, ended: when it came, left the queue, had its first text and was done; monotonic.
    """

    question: str
    options: Mapping[str, Any]
    on_text: Callable[[str], None]
    urgent: bool = True
    answered: "Future[Answered]" = field(default_factory=Future)
    came: float = field(default_factory=time.monotonic)
    began: float = 0.0
    spoke: float = 0.0
    ended: float = 0.0

    @property
    def remembers(self) -> bool:
        """Whether the turn becomes part of the stream's memory."""
        return bool(self.options.get("remember"))

    @property
    def left(self) -> bool:
        """Whether nobody waits for the answer any more: it stops within a step."""
        return self.answered.cancelled()


@dataclass(slots=True, eq=False)
class AloneJob:
    """Something else that waits for its turn on a stream, such as saving it; `done` is set once it ran."""

    work: Callable[[Stream], Any]
    done: "Future[Any]" = field(default_factory=Future)


Job = FrameJob | AskJob | AloneJob


class GoneError(Exception):
    """The stream of a job was closed."""


def outcome(job: Job) -> "Future[Any]":
    """The future that is set once a job is done."""
    match job:
        case FrameJob():
            return job.watched
        case AskJob():
            return job.answered
        case AloneJob():
            return job.done


def fail(future: "Future[Any]", error: BaseException) -> None:
    """Sets a future to an error, unless it is settled."""
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_exception(error)


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer and what it took.

    Attributes:
        answer: with its length, why it ended, and its evidence.
        time: of the newest frame that it was asked on, in seconds.
        memory_tokens: of its prompt, those that were held or waited for their block; video_tokens those of the video.
    """

    answer: Answer
    time: float
    memory_tokens: int
    video_tokens: int

    @property
    def text(self) -> str:
        """The words of the answer as a plain string, which can be kept: it holds nothing of the model's device."""
        return str(self.answer)

    @property
    def evidence(self) -> list[dict[str, Any]]:
        """The moments that the answer rests on, the heaviest first; see `Span`. Worked out when they are first read."""
        return [span.as_dict() for span in self.answer.evidence[:_SPANS]]


class Lane:
    """One stream and its queue.

    Args:
        stream: that is open; the worker closes it.
        frames: that may wait.

    Attributes:
        stats: of the stream, as they were after its last call.
        working: the job that is under way; beside: questions that are under way on forks of the stream.
        closed: whether its stream is: nothing is taken up any more.
        waiting_bytes: pixels of the frames that wait.
    """

    def __init__(self, stream: Stream, frames: int) -> None:
        self.stream = stream
        self.stats: Stats = stream.stats()
        self.working: Job | None = None
        self.beside: list[AskJob] = []
        self._frames = frames
        self._jobs: deque[Job] = deque()
        self.closed = False
        self._urgent = 0  # questions that wait
        self.waiting_bytes = 0
        self._lock = threading.Lock()

    def push(self, job: FrameJob) -> FrameJob | None:
        """Queues a frame; returns the oldest one if too many are queued and it had to be dropped."""
        with self._lock:
            oldest = self._without_oldest(self._frames)
        self.add(job)
        return oldest

    def give_way(self) -> FrameJob | None:
        """Removes the oldest queued frame and returns it, unless it is the only one."""
        with self._lock:
            return self._without_oldest(2)

    def _without_oldest(self, least: int) -> FrameJob | None:
        """Removes the oldest frame if so many are queued."""
        waiting = [each for each in self._jobs if isinstance(each, FrameJob)]
        if len(waiting) < least:
            return None
        self._jobs.remove(waiting[0])
        self.waiting_bytes -= _bytes(waiting[0])
        return waiting[0]

    def add(self, job: Job) -> None:
        """Queues a job after those before it; if the stream was closed, the job fails with that."""
        with self._lock:
            if not self.closed:
                self._jobs.append(job)
                self._urgent += _urgent(job)
                self.waiting_bytes += _bytes(job)
                return
        _tell_gone(job)

    def next(self) -> Job | None:
        """The job whose turn it is, which no longer waits; questions that nobody waits for any more are passed over."""
        with self._lock:
            while self._jobs:
                job = self._jobs.popleft()
                self._urgent -= _urgent(job)
                self.waiting_bytes -= _bytes(job)
                if not (isinstance(job, AskJob) and job.left):
                    return job
        return None

    def question(self) -> AskJob | None:
        """The next job, which no longer waits, if it is a question that leaves the stream as it is."""
        with self._lock:
            while self._jobs and isinstance(job := self._jobs[0], AskJob) and not job.remembers:
                self._jobs.popleft()
                self._urgent -= _urgent(job)
                if not job.left:
                    return job
        return None

    def put_back(self, job: AskJob) -> None:
        """Puts a job back at the head of the queue."""
        with self._lock:
            self._jobs.appendleft(job)
            self._urgent += _urgent(job)

    def close(self) -> None:
        """Fails the queued jobs, and every later one, since the stream is gone."""
        with self._lock:
            self.closed = True
            jobs, self._jobs, self.waiting_bytes = list(self._jobs), deque(), 0
        for job in jobs:
            _tell_gone(job)

    def waiting(self) -> tuple[int, int]:
        """The numbers of frames and of questions that are queued or under way."""
        with self._lock:
            jobs = [*self._jobs, *self.beside, *([] if (now := self.working) is None else [now])]
        return sum(isinstance(job, FrameJob) for job in jobs), sum(isinstance(job, AskJob) for job in jobs)

    def awaited(self) -> int:
        """The number of questions with a waiting client that are queued or under way."""
        with self._lock:
            return self._urgent + sum(_urgent(job) for job in (*self.beside, self.working))

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for an answer."""
        return self._urgent > 0 or _urgent(self.working)

    @property
    def busy(self) -> bool:
        """Whether anything waits or is under way."""
        return bool(self._jobs or self.beside) or self.working is not None

    def behind(self) -> float:
        """Seconds since the oldest frame that is not watched yet came."""
        with self._lock:
            came = [job.came for job in (self.working, *self._jobs) if isinstance(job, FrameJob)]
        return time.monotonic() - min(came) if came else 0.0


def _urgent(job: Job | None) -> bool:
    return isinstance(job, AskJob) and job.urgent


def _bytes(job: Job) -> int:
    return job.frame.image.nbytes if isinstance(job, FrameJob) else 0


def _tell_gone(job: Job) -> None:
    fail(outcome(job), GoneError("the stream was closed"))
