"""One call at a time on a stream, and what becomes of an interruption that comes too late to end its call.

A stream has one memory, and a transaction on it is not part of it yet: so no call begins inside another. Once a call's
change of the memory has begun there is no way back from it. What interrupts the call then, such as Ctrl-C, is deferred:
the change is finished, and the next call, or the closing of the stream, raises it. Of calls it knows only their kinds.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum

from infinipot.engine.compressing import close_gaps
from infinipot.engine.fair_lock import FairLock
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.errors import InfinipotError


class Call(Enum):
    """What a call does with a stream's state."""

    FEED = "takes in a frame, or a piece of sound"
    ASK = "answers a question"
    READ = "changes nothing"


class Alone:
    """Lets one call after the other at a stream's state.

    Calls of one thread need nothing for that. Threads that share a stream say so, with `lock`: outside of it, a call
    that meets a call of another thread is taken for a mistake.

    Attributes:
        lock: held by the thread whose calls are let in; those of others wait.
        under_way: the kind of the call that has the state; None between two calls.
    """

    def __init__(self) -> None:
        self.lock = FairLock()
        self.under_way: Call | None = None
        self._deferred: BaseException | None = None
        self._unlocked: object | None = None  # the call that came without the lock, of which there is one at a time
        self._claiming = threading.Lock()

    @contextmanager
    def call(self, setup: Setup, current: Callable[[], StreamState], kind: Call) -> Iterator[StreamState]:
        """Gives a call the state for itself.

        Args:
            setup: of the stream.
            current: the stream's state, asked for when others are done; raises where one of them has closed the stream.
            kind: of the call.

        Raises:
            InfinipotError: another call is under way, and not in another thread that holds the lock.
        """
        with self._entered():
            if self.under_way is not None:
                raise _in_the_middle()
            state = current()
            try:
                self.under_way = kind
                state.memory.settle()
                close_gaps(setup, state)
                self.raise_deferred()
                with self._deferring(state):
                    yield state
            finally:
                self.under_way = None

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """Holds the lock for this thread: for this call, unless the thread has it already."""
        if self.lock.mine:
            yield
            return
        call = object()
        try:
            with self._claiming:
                if self._unlocked is None:
                    self._unlocked = call
            if self._unlocked is not call:
                raise _in_the_middle()
            with self.lock.held():
                yield
        finally:
            if self._unlocked is call:
                self._unlocked = None

    @contextmanager
    def _deferring(self, state: StreamState) -> Iterator[None]:
        """Keeps what interrupts the call, once its change is part of the state, for the next one."""
        before = _progress(state)
        try:
            yield
        except BaseException as error:
            with suppress(BaseException):  # one is enough
                state.memory.settle()
            if _progress(state) == before:
                raise
            self._deferred = error

    def raise_deferred(self) -> None:
        """Raises what interrupted the last call when that could no longer end."""
        error, self._deferred = self._deferred, None
        if error is not None:
            raise error

    def forget(self) -> None:
        """Lets go of what interrupted the last call, where something else is raised."""
        self._deferred = None


def _in_the_middle() -> InfinipotError:
    return InfinipotError(
        "the stream is in the middle of another call: call it from one thread at a time, or let each thread wait for "
        "the others, inside `with stream.lock():`; do not call it from a callback such as on_text"
    )


def _progress(state: StreamState) -> tuple[int, int]:
    """Frames taken in and turns remembered so far: a call's change is part of the state when one of them has grown."""
    return state.pending.frames, state.memory.state.turns_ever
