"""A call on a stream as work that waits for the model, and can wait: what a runner drives, one or many at a time.

The work is a generator that yields requests, is sent what the model makes of each, and ends with the call's outcome.
Knows neither what is asked nor who runs it.
"""

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

import torch

from infinipot.engine.requests import Forward, Request
from infinipot.errors import InfinipotError

T = TypeVar("T")
Work = Generator[Request, Any, T]
_NO_ERROR = InfinipotError("nothing went wrong")


class Task(Generic[T]):
    """A call that is under way. `Stream.begin_watch` and its like make one; `Model.step` carries it on.

    Nothing happens before its first step. From then on its stream takes no other call until the task is done.

    Attributes:
        request: what it waits for; None before the first step and once it is done.
        done: whether there is an outcome.
    """

    def __init__(self, work: Work[T]) -> None:
        self.request: Request | None = None
        self.done = False
        self._work = work
        self._begun = False
        self._outcome: list[T] = []
        self._error: BaseException = _NO_ERROR

    @property
    def decoding(self) -> bool:
        """Whether it waits for the next token of an answer: the model has run over all that stands ahead of it."""
        return isinstance(self.request, Forward) and self.request.tokens == 1

    def begin(self) -> None:
        """Works up to the first request, where that has not been done."""
        if not self._begun:
            self._begun = True
            self._resume(self._work.__next__)

    def give(self, made: Any) -> None:
        """Works on, with what was made of the request, up to the next one."""
        self._resume(self._work.send, made)

    def fail(self, error: Exception) -> None:
        """Ends the call with an error that came up where its request was run."""
        self._resume(self._work.throw, error)

    @torch.inference_mode()
    def cancel(self) -> None:
        """Ends the call: its stream is as it was before it. Nothing is left to do where it is done."""
        if not self.done:
            self._work.close()
            self._end(InfinipotError("the call was cancelled"))

    def result(self) -> T:
        """The outcome; raises what the call raises.

        Raises:
            InfinipotError: there is no outcome yet, the call was cancelled, or its error was raised before.
        """
        if not self.done:
            raise InfinipotError("the call is not done: continue it with Model.step")
        if self._outcome:
            return self._outcome[0]
        # An error refers to the frames it passed, and so to the task: keeping it would keep the stream's memory.
        error, self._error = self._error, InfinipotError("the call has failed, and its error was raised before")
        try:
            raise error
        finally:
            del error

    def _resume(self, work: Callable[..., Request], *given: Any) -> None:
        self.request = None
        try:
            self.request = work(*given)
        except StopIteration as end:
            self._outcome.append(end.value)
            self._end()
        except BaseException as error:
            self._end(error)
            if not isinstance(error, Exception):
                raise  # Ctrl-C is for whoever drives, too

    def _end(self, error: BaseException = _NO_ERROR) -> None:
        self._error, self.request, self.done = error, None, True
