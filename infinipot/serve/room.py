"""Bytes of memory that there are for streams: reserved by those that are open, lent to answers that run beside them."""

import asyncio
import threading

_LOOK = 0.005  # seconds between two looks whether what was lent is back


class Room:
    """A number of bytes that is never exceeded; may be used from any thread.

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
        """Reserves bytes, waiting for lent ones if need be; returns whether there are enough."""
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
        """Returns reserved bytes; a negative number reserves more, if more turn out to be needed."""
        with self._lock:
            self.reserved -= size

    def lend(self, size: int) -> bool:
        """Lends bytes for a short time, without waiting; returns whether there were enough."""
        with self._lock:
            fits = self.reserved + self._lent + size <= self.total
            self._lent += size if fits else 0
        return fits

    def take_back(self, size: int) -> None:
        """Takes back the bytes that were lent."""
        with self._lock:
            self._lent -= size
