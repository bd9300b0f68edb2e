"""Calls on streams as tasks that steps carry on: the one place that knows how the engine runs them."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from infinipot import Task
from infinipot.engine.requests import Forward
from infinipot.errors import CapError
from infinipot.model import Model
from infinipot.stream import Stream
from infinipot.video import Frame


class Watching:
    """A frame that is being watched."""

    def __init__(self, stream: Stream, frame: Frame) -> None:
        self.task: Task[Any] = stream.begin_watch(frame)

    def note(self) -> None:
        """Notes where it is between two steps: nothing is counted of a frame."""


class Asking:
    """A question that is being answered.

    Args:
        stream: that is asked.
        question, options: see `Stream.ask`. An answer that may be longer than there is room for is as long as there is.
        on_text: called with each piece of the answer.

    Attributes:
        limit: tokens of the answer at the most.
        begun: whether the model has run over the question, and what waited for its block ahead of it.

    Raises:
        CapError: the question does not fit the share of the memory that is reserved for it.
        QuestionError: it cannot be asked.
    """

    def __init__(
        self, stream: Stream, question: str, options: Mapping[str, Any], on_text: Callable[[str], None]
    ) -> None:
        self._remember = bool(options.get("remember"))
        asked = options.get("max_new_tokens")
        how = {name: options[name] for name in ("remember", "look_again", "look_pixels") if name in options}
        try:
            self.limit = stream.check(question, max_new_tokens=asked, **how)
        except CapError:
            if asked is None:
                raise
            self.limit = stream.check(question, **how)
        given = {**options, "max_new_tokens": self.limit, "on_text": on_text}
        self.task: Task[Any] = stream.begin_ask(question, **given)
        self._fed = 0
        self._feeding: object = None

    @property
    def begun(self) -> bool:
        return self._fed > 0

    def note(self) -> None:
        """Counts a token of the answer that waits to be run over: each does between two steps."""
        request = self.task.request
        if isinstance(request, Forward) and request.tokens == 1 and request is not self._feeding:
            self._feeding = request
            self._fed += 1

    def said(self, spelt: int) -> int:
        """Tokens of the answer.

        Args:
            spelt: tokens of its text. The model does not run over the last token of an answer that ended because it
                was long enough, or met a stop, unless it is to be remembered.
        """
        return self._fed if self._remember or spelt <= self._fed else self._fed + 1


Call = Watching | Asking


def run_in(threads: int | None) -> None:
    """Sets how many CPU threads do the work of this thread: by default, one fewer than there are cores.

    Threads wait for each other at each operation, and where one of them shares its core with requests and decoding, for
    a turn of the scheduler each time: see perf/serve_threads.py.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or max(1, min(torch.get_num_threads(), cores - 1)))


def step(model: Model, calls: Iterable[Call], max_tokens: int) -> int:
    """Carries calls on different streams on, by one packed step; returns the tokens that it ran over."""
    calls = list(calls)
    tokens = model.step([call.task for call in calls], max_tokens)
    for call in calls:
        call.note()
    return tokens
