"""Bytes of memory that there are for streams: reserved by those that are open, lent to answers that run beside them."""

import asyncio
import threading

_LOOK = 0.005  # seconds between two looks whether what was lent is back


class Room:
    """So many bytes and no more; may be used from any thread.

    Args:
        total: how many.

    Attributes:
        reserved: that streams have.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.reserved = 0
        self._lent = 0
        self._lock = threading.Lock()

    async def reserve(self, size: int) -> bool:
        """Reserves bytes, for which what is lent is waited for; returns whether there are as many."""
        with self._lock:
            if self.reserved + size > self.total:
                return False
            self.reserved += size
        try:
            while self.reserved + self._lent > self.total:
                await asyncio.sleep(_LOOK)
        except BaseException:
            self.free(size)
            raise
        return True

    def free(self, size: int) -> None:
        """Gives bytes back that were reserved; fewer than none where more turn out to be taken."""
        with self._lock:
            self.reserved -= size

    def lend(self, size: int) -> bool:
        """Lends bytes for a moment, which nobody waits for; returns whether there are as many."""
        with self._lock:
            fits = self.reserved + self._lent + size <= self.total
            self._lent += size if fits else 0
        return fits

    def take_back(self, size: int) -> None:
        """Takes back what was lent."""
        with self._lock:
            self._lent -= size
