"""Jobs of lanes that are under way: calls on a stream, or on a fork of it, and what becomes of them. On the worker's
thread."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from infinipot import Task
from infinipot.serve import engine
from infinipot.serve.lane import Answered, AskJob, FrameJob, Lane, fail
from infinipot.stream import Stream

T = TypeVar("T")


class Run:
    """A frame or a question that steps carry on.

    Args:
        lane: whose job it is.
        job: what is to be done.
        stream: the lane's; or a fork of it, which is this call's alone.

    Raises:
        CapError, QuestionError: the question cannot be asked.
    """

    def __init__(self, lane: Lane, job: FrameJob | AskJob, stream: Stream) -> None:
        self.lane, self.job, self.stream = lane, job, stream
        self.task: Task[Any]
        if isinstance(job, FrameJob):
            self.task = stream.begin_watch(job.frame)
        else:
            job.began = time.monotonic()
            self.task = engine.begin_ask(stream, job.question, job.options, _heard(job))

    @property
    def forked(self) -> bool:
        """Whether the call runs on a fork."""
        return self.stream is not self.lane.stream

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for its answer, or for one after it in its lane."""
        return self.job.urgent if isinstance(self.job, AskJob) and self.forked else self.lane.urgent

    @property
    def joined(self) -> bool:
        """Whether other questions may begin beside it, on forks, which hold the frames that it has already run over."""
        asked = isinstance(self.job, AskJob) and not self.job.remembers
        return asked and not self.forked and self.task.decoding

    @property
    def left(self) -> bool:
        """Whether nobody waits for its answer any more."""
        return isinstance(self.job, AskJob) and self.job.left

    def tell(self) -> bool:
        """Sets the outcome of the job; returns whether that is a result."""
        job = self.job
        if isinstance(job, FrameJob):
            return settle(job.watched, self.task.result)
        job.ended = time.monotonic()
        return settle(job.answered, self._answered)

    def _answered(self) -> Answered:
        answer, stats = self.task.result(), self.stream.stats()
        return Answered(
            answer=answer,
            time=stats.time,
            memory_tokens=stats.asked_tokens,
            video_tokens=max(stats.asked_tokens - stats.text_tokens, 0) + answer.look_tokens,
        )


def _heard(job: AskJob) -> Callable[[str], None]:
    """Passes on the pieces of an answer."""

    def on_text(piece: str) -> None:
        job.spoke = job.spoke or time.monotonic()
        job.on_text(piece)

    return on_text


def settle(future: "Future[T]", work: Callable[[], T]) -> bool:
    """Sets a future to the outcome of some work; returns whether it has the result.

    It has none where the work failed, or where somebody cancelled the future meanwhile.
    """
    try:
        result = work()
    except BaseException as error:
        fail(future, error)
        return False
    if future.done() or not future.set_running_or_notify_cancel():
        return False
    future.set_result(result)
    return True
