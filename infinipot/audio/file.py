"""The sound of a file or address, decoded by PyAV (FFmpeg). Knows nothing of rates or models."""

import logging
import weakref
from collections.abc import Iterator
from pathlib import Path

import av
from av.packet import Packet

from infinipot.video.container import open_sound, public_name

logger = logging.getLogger(__name__)


class FileSource:
    """The blocks of a file's main audio stream, as they are decoded.

    Attributes:
        name: the path as given; an address without its credentials and query.
        duration: seconds that the file declares for its sound, or None where it does not say.
        incomplete: True once a part could not be read. What can be decoded is yielded all the same, and a warning is
            logged.

    Raises:
        AudioError: for a path or address that cannot be opened, or that holds no sound.
    """

    def __init__(self, location: str | Path) -> None:
        self.name = public_name(str(location))
        self.incomplete = False
        self._container, self._stream = open_sound(str(location), self.name)
        self._close = weakref.finalize(self, self._container.close)
        ticks, base = self._stream.duration, self._stream.time_base
        whole = self._container.duration
        own = None if ticks is None or base is None else float(ticks * base)
        self.duration = own or (whole / av.time_base if whole and whole > 0 else None)

    def blocks(self) -> Iterator[tuple[float | None, av.AudioFrame]]:
        """Yields time stamps in seconds, or None, and decoded blocks in order. Call it once."""
        for packet in self._packets():
            for block in self._decoded(packet):
                stamp = block.pts if block.pts is not None else block.dts
                base = block.time_base
                yield None if stamp is None or base is None else float(stamp * base), block

    def close(self) -> None:
        """Closes the file, as losing the last reference to this object does."""
        self._close()

    def _packets(self) -> Iterator[Packet | None]:
        """The last one that `demux` gives is empty: it gets the last blocks out of the decoder."""
        try:
            yield from self._container.demux(self._stream)
        except av.FFmpegError as error:
            self._warn(f"could not be read to its end ({error.strerror})")
            yield None

    def _decoded(self, packet: Packet | None) -> list[av.AudioFrame]:
        try:
            return self._stream.decode(packet)
        except av.error.EOFError:  # the decoder gave its last blocks before
            return []
        except av.FFmpegError as error:
            self._warn(f"skipped damaged data ({error.strerror})")
            return []

    def _warn(self, what: str) -> None:
        if not self.incomplete:
            logger.warning("%s: %s", self.name, what)
        self.incomplete = True
