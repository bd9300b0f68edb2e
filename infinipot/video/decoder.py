"""The pictures of an open file in the order in which they are shown, with the file's own time stamps.

Knows nothing of sampling, of the video's clock and of pixels.
"""

import time
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import NamedTuple

import av
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream

from infinipot.video.address import Address
from infinipot.video.container import Report, has_stamps, is_spliced, open_container, why


class Decoded(NamedTuple):
    """A picture as it comes out of the decoder.

    Attributes:
        stamp: when it comes on show, in seconds of the file's clock; None where nothing says so.
        duration: seconds that it stays, as far as the file says; 0 where it does not.
        picture: the picture.
        trouble: what is wrong with it, or with what lay before it.
    """

    stamp: float | None
    duration: float
    picture: av.VideoFrame
    trouble: str | None


class Declared(NamedTuple):
    """The properties that a file declares, which may be wrong.

    Attributes:
        rate: average pictures a second, or None.
        length: seconds that its pictures last, or all that the file holds; None where it does not say.
        own: True where the length is that of the pictures: where the file counts them.
        begin: seconds of its clock at which what it holds begins.
        spliced: True for formats whose clock may begin anew inside a file.
        stamped: False for raw streams, whose pictures have no times of their own.
        aspect: how wide a pixel is shown, its height being 1.
    """

    rate: float | None
    length: float | None
    own: bool
    begin: float
    spliced: bool
    stamped: bool
    aspect: float


class Decoder:
    """An open file and the decoder of its main video stream.

    Closing it, or losing the last reference to it, gives threads and memory back at once.

    Attributes:
        declared: what the file says of itself.
        reached: seconds of the file's clock up to which it turned out to hold something: pictures only where the
            declared length is theirs, or else anything.

    Raises:
        VideoError: the address cannot be opened, or holds no video that can be decoded.
    """

    def __init__(self, address: Address, report: Report) -> None:
        self._report, self._remote = report, address.remote
        self._container, self._stream = open_container(address)
        self._close = weakref.finalize(self, self._container.close)  # its own references are circular
        self.declared = self._read_declared()
        self.reached: float | None = None
        self._trouble: str | None = None
        self._repeats: deque[float] = deque()
        self._last: Decoded | None = None

    def pictures(self) -> Generator[Decoded, None, None]:
        """Yields the pictures from the container's current place on; what is damaged is skipped and told.

        An empty packet is no damage: Theora writes one where a picture stays as it is, which comes again then.
        """
        for packet in self._packets():
            if packet.size == 0 and packet.pts is not None:
                self._repeats.append(stamp_of(packet) or 0.0)
                continue
            if packet.is_corrupt:
                self._trouble = "a part of it is damaged"
            for picture in self._decoded(packet):
                decoded = self._with_stamp(picture)
                yield from self._repeated(decoded.stamp)
                self._last = decoded
                yield decoded
        yield from self._repeated(None)
        if self._trouble:
            self._report.damage("damage", self._trouble)

    def seek(self, stamp: float) -> None:
        """Goes to the last key picture at or before a time of the file's clock; raises where that cannot be."""
        self._repeats.clear()
        self._last = self._trouble = None
        self._container.seek(int(stamp * av.time_base))

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self._close()
        self._last = None
        if hasattr(self, "_stream"):
            del self._stream, self._container  # with the decoder and its threads

    def _packets(self) -> Iterator[Packet]:
        """Yields the packets of the video. The last one is empty: it gets the last pictures out of the decoder."""
        stream, asked = self._stream, time.monotonic()
        try:
            for packet in self._container.demux():
                video = packet.stream is stream
                if video or not self.declared.own:
                    self._reach(packet)
                if video:
                    yield packet
                asked = time.monotonic()
        except Exception as fault:
            waited = time.monotonic() - asked if self._remote else 0.0
            self._report.damage("end", f"could not be read to its end ({why(fault, waited)})")
            yield flushing(stream)

    def _reach(self, packet: Packet) -> None:
        stamp = stamp_of(packet)
        if stamp is not None:
            end = stamp + max(in_seconds(packet.duration, packet.time_base) or 0.0, 0.0)
            self.reached = end if self.reached is None else max(self.reached, end)

    def _decoded(self, packet: Packet) -> list[av.VideoFrame]:
        try:
            return self._stream.decode(packet)
        except av.error.EOFError:  # the decoder gave its last pictures before
            return []
        except Exception as fault:
            self._trouble = f"skipped damaged data ({why(fault)})"
            return []

    def _with_stamp(self, picture: av.VideoFrame) -> Decoded:
        trouble, self._trouble = self._trouble, None
        if picture.is_corrupt:
            trouble = trouble or "a part of it is damaged"
        duration = max(in_seconds(picture.duration, picture.time_base) or 0.0, 0.0)
        return Decoded(stamp_of(picture) if self.declared.stamped else None, duration, picture, trouble)

    def _repeated(self, until: float | None) -> Iterator[Decoded]:
        """Yields the last picture again for each empty packet before a time of the file's clock; None: for all."""
        while self._repeats and (until is None or self._repeats[0] < until):
            stamp = self._repeats.popleft()
            if self._last is not None:
                yield self._last._replace(stamp=stamp, trouble=None)

    def _read_declared(self) -> Declared:
        container, stream = self._container, self._stream
        rate = float(stream.average_rate) if stream.average_rate else None
        begin = (container.start_time or 0) / av.time_base
        own = in_seconds(stream.duration, stream.time_base) if stream.frames else None
        if own:
            begin = in_seconds(stream.start_time, stream.time_base) or 0.0
        whole = container.duration / av.time_base if container.duration and container.duration > 0 else None
        if not has_stamps(container):
            own = whole = None  # FFmpeg guesses a length from the size of the file
        aspect = float(stream.sample_aspect_ratio or 1)
        return Declared(rate, own or whole, bool(own), begin, is_spliced(container), has_stamps(container), aspect)


def flushing(stream: VideoStream | AudioStream) -> Packet:
    """Returns the empty packet that gets the last pictures, or sound, out of a decoder."""
    packet = Packet()
    packet.time_base = stream.time_base or Fraction(1)
    return packet


def stamp_of(thing: Packet | av.VideoFrame | av.AudioFrame) -> float | None:
    """Returns when a picture is shown, in seconds; where only the decoder's clock is stamped, by that."""
    return in_seconds(thing.dts if thing.pts is None else thing.pts, thing.time_base)


def in_seconds(ticks: int | None, time_base: Fraction | None) -> float | None:
    """Returns a number of ticks in seconds."""
    return None if ticks is None or time_base is None else float(ticks * time_base)
