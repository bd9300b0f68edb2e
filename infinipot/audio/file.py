"""The sound of a file or address, decoded by PyAV (FFmpeg). Knows nothing of rates or models."""

import weakref
from collections.abc import Iterator

import av
from av.packet import Packet

from infinipot.errors import AudioError
from infinipot.video.address import find_address
from infinipot.video.container import Report, faults_of, open_sound, why
from infinipot.video.decoder import flushing, in_seconds, stamp_of
from infinipot.video.sampling import timed


class FileSource:
    """The blocks of a file's main audio stream, as they are decoded.

    Attributes:
        name: the path as given; an address without its credentials and query.
        duration: seconds that the file declares for its sound, or None where it does not say.

    Raises:
        AudioError: for a path or address that cannot be opened, or that holds no sound; while reading, for whatever
            else a damaged file may do.
    """

    def __init__(self, location: str | bytes) -> None:
        address = find_address(location, "audio", AudioError)
        self.name = address.name
        self._report = Report(self.name)
        with faults_of(self.name, AudioError):
            self._container, self._stream = open_sound(address)
            self._close = weakref.finalize(self, self._container.close)  # its own references are circular
            whole = self._container.duration
            own = in_seconds(self._stream.duration, self._stream.time_base)
            self.duration = own or (whole / av.time_base if whole and whole > 0 else None)
            self._declared = own if self._stream.frames else None  # FFmpeg guesses others from the size of the file
            if own is None and self.duration and len(self._container.streams) == 1:
                self._declared = self.duration - max(self._container.start_time or 0, 0) / av.time_base

    @property
    def incomplete(self) -> bool:
        """True once a part could not be read, or the sound ended before the length that the file declares for it.

        What can be decoded is yielded all the same, and a warning is logged.
        """
        return self._report.damaged

    def blocks(self) -> Iterator[tuple[float, av.AudioFrame]]:
        """Yields decoded blocks in order and when each begins, on a clock that is the file's but for its faults, see
        `timed`. Call it once."""
        with faults_of(self.name, AudioError):
            decoded = (block for packet in self._packets() for block in self._decoded(packet))
            stamped = ((stamp_of(block), block.samples / block.sample_rate, block) for block in decoded)
            ended = 0.0
            for time, lasts, block in timed(stamped, jumped=self._report.jump):
                yield time, block
                ended = time + lasts
            if self._declared is not None:
                self._report.end(ended, ended, self._declared)

    def close(self) -> None:
        """Closes the file, as losing the last reference to this object does; may be called twice."""
        self._close()
        if hasattr(self, "_stream"):
            del self._stream, self._container  # with the decoder and its threads

    def _packets(self) -> Iterator[Packet]:
        """Yields the packets of the sound. The last one is empty: it gets the last blocks out of the decoder."""
        try:
            yield from self._container.demux(self._stream)
        except Exception as fault:
            self._report.damage("end", f"could not be read to its end ({why(fault)})")
            yield flushing(self._stream)

    def _decoded(self, packet: Packet) -> list[av.AudioFrame]:
        try:
            return self._stream.decode(packet)
        except av.error.EOFError:  # the decoder gave its last blocks before
            return []
        except Exception as fault:
            self._report.damage("damage", f"skipped damaged data ({why(fault)})")
            return []
