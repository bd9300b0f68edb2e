"""Calls on streams as tasks that a step carries on: the one place that knows how the engine runs them."""

from collections.abc import Callable, Sequence
from typing import Any

from infinipot.errors import InfinipotError
from infinipot.model import Model
from infinipot.stream import Stream
from infinipot.video import Frame


class Task:
    """A call that runs whole in its one step."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.done = False
        self._call = call
        self._outcome: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._outcome = self._call()
        except Exception as error:
            self._error = error
        self.done = True

    def cancel(self) -> None:
        if not self.done:
            self.done, self._error = True, InfinipotError("the call was cancelled")

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._outcome


def begin_watch(stream: Stream, frame: Frame) -> Task:
    return Task(lambda: stream.watch(frame))


def begin_ask(stream: Stream, question: str, **options: Any) -> Task:
    return Task(lambda: stream.ask(question, **options))


def step(model: Model, tasks: Sequence[Task], max_tokens: int) -> None:
    for task in tasks:
        task.run()


def stream_bytes(model: Model, settings: dict[str, Any]) -> int:
    with model.stream(**settings) as stream:
        return stream.stats().bytes
