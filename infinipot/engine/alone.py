"""One call at a time on a stream, and what becomes of an interruption that comes too late to end its call.

A stream has one memory, and a transaction on it is not part of it yet: so no call begins inside another. Once a call's
change of the memory has begun there is no way back from it. What interrupts the call then, such as Ctrl-C, is deferred:
the change is finished, and the next call, or the closing of the stream, raises it. Knows no call.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from infinipot.engine.layout import close_gaps
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.errors import InfinipotError


class Alone:
    """Lets one call after the other at a stream's state.

    Attributes:
        under_way: what the call that has the state changes, see `call`; None between two calls.
    """

    def __init__(self) -> None:
        self.under_way: Callable[[StreamState], int] | None = None
        self._deferred: BaseException | None = None
        self._busy = threading.Lock()

    @contextmanager
    def call(self, setup: Setup, state: StreamState, done: Callable[[StreamState], int]) -> Iterator[None]:
        """Inside, a call has the state for itself.

        Args:
            setup, state: of the stream, which may be closed meanwhile.
            done: a number that the call's change changes.

        Raises:
            InfinipotError: another call is under way.
        """
        if self._busy.locked():
            raise InfinipotError(
                "the stream is in the middle of another call: use it from one thread at a time, and not inside a call"
            )
        with self._busy:  # and no `acquire`: an interruption right behind that would leave the lock taken for good
            state.memory.settle()
            close_gaps(setup, state)
            self.raise_deferred()
            before = done(state)
            try:
                self.under_way = done
                yield
            except BaseException as error:
                with suppress(BaseException):  # one is enough
                    state.memory.settle()
                if done(state) == before:
                    raise
                self._deferred = error
            finally:
                self.under_way = None

    def raise_deferred(self) -> None:
        """Raises what interrupted the last call when that could no longer end."""
        error, self._deferred = self._deferred, None
        if error is not None:
            raise error

    def forget(self) -> None:
        """Lets go of what interrupted the last call, where something else is raised."""
        self._deferred = None


def frames_given(state: StreamState) -> int:
    """The number that a call changes when it takes in a frame."""
    return state.pending.frames


def turns_ever(state: StreamState) -> int:
    """The number that a call changes when it remembers a turn."""
    return state.memory.state.turns_ever
