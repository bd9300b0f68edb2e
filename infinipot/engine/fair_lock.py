"""A lock that threads get in the order in which they ask for it, and that no interruption leaves taken.

It is a CLH queue lock: who asks stands in a queue with a plain lock of their own, taken until they are done, and waits
for that of the one ahead. All of these are entered by `with` alone, since an interruption right behind an `acquire`
would leave one taken for good. Knows nothing of what it guards.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Place:
    """A place in the queue.

    Attributes:
        taken: held by whoever stands here, until they are done or give up.
        ahead: the place that is waited for; None once nobody is ahead. Who gives up leaves it for the next one to read.
    """

    __slots__ = ("ahead", "taken")

    def __init__(self) -> None:
        self.ahead: _Place | None = None
        self.taken = threading.Lock()


class FairLock:
    """A lock of one thread at a time, first come, first served. A thread that has it may enter it again."""

    def __init__(self) -> None:
        self._last = _Place()
        self._queueing = threading.Lock()
        self._owner: int | None = None

    @property
    def mine(self) -> bool:
        """Whether this thread has it."""
        return self._owner == threading.get_ident()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock for this thread, once those that asked before have let go of it."""
        if self.mine:
            yield
            return
        place = _Place()
        with place.taken:
            with self._queueing:
                place.ahead, self._last = self._last, place
            while place.ahead is not None:
                with place.ahead.taken:
                    place.ahead = place.ahead.ahead
            try:
                self._owner = threading.get_ident()
                yield
            finally:
                self._owner = None
