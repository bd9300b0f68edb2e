"""The pictures of a video file or address, decoded by PyAV (FFmpeg). Knows nothing of sampling or models."""

import logging
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet

from infinipot.errors import VideoError
from infinipot.video.container import open_container, public_name
from infinipot.video.frame import Frame
from infinipot.video.sampling import TOLERANCE, Picture, timed

logger = logging.getLogger(__name__)

_ENDS_EARLY = 1.0  # seconds missing at the end from which a video counts as cut short
_DEFAULT_RATE = 25  # pictures per second, where neither file nor picture says how long one stays


class FileSource:
    """The pictures of a file's main video stream, upright, as their time stamps order them.

    Attributes:
        name: the path as given; an address without its credentials and query.
        duration: seconds that the file declares for its pictures, or None where it does not say.
        source_fps: average pictures per second that the file declares, or None.
        incomplete: True once the video ended before its declared length, or a part could not be read. What
            can be decoded is yielded all the same, and a warning is logged.

    Pixels are taken as stored: a sample aspect ratio other than 1:1 is not applied.

    Raises:
        VideoError: for a path or address that cannot be opened, or that holds no picture that can be decoded.
    """

    def __init__(self, location: str | Path) -> None:
        self._location = str(location)
        self.name = public_name(self._location)
        self.incomplete = False
        self._open()
        self._decoded = self._decode_some()
        if not self._decoded:
            self.close()
            raise VideoError(f"{self.name}: none of its pictures could be decoded")
        self._origin = _seconds(self._decoded[0])
        rate = self._stream.average_rate
        self.source_fps = float(rate) if rate else None
        self.duration = self._declared_duration()

    def pictures(self, start: float = 0.0) -> Iterator[Picture[av.VideoFrame]]:
        """Yields the pictures from the one on show at `start` seconds, or some before it. Call it once."""
        if start > 0 and self._origin is not None:
            self._seek(self._origin + start)
        ended = 0.0
        stamped = ((_seconds(picture), self._shown_for(picture), picture) for picture in self._decode())
        for picture in timed(stamped, self._origin):
            yield picture
            ended = picture.time + picture.duration
        if self.duration is not None and ended < self.duration - _ENDS_EARLY:
            self._warn(f"ended after {ended:.1f} s of the {self.duration:.1f} s that it declares")

    def frame(self, content: av.VideoFrame, time: float) -> Frame:
        """Returns a decoded picture as an upright RGB frame."""
        return Frame(_upright(content.to_ndarray(format="rgb24"), content), time)

    def close(self) -> None:
        """Closes the file, as losing the last reference to this object does."""
        self._close()

    def _open(self) -> None:
        self._container, self._stream = open_container(self._location, self.name)
        self._close = weakref.finalize(self, self._container.close)  # its own references are circular

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yields the pictures that are decoded already, and those from the container's current place on."""
        while self._decoded:
            pictures, self._decoded = self._decoded, []
            yield from pictures
            self._decoded = self._decode_some()

    def _decode_some(self) -> list[av.VideoFrame]:
        """Returns the next pictures that come out of the decoder, none at the end; skips what is damaged.

        The last packet that `demux` gives is empty: it gets the last pictures out of the decoder.
        """
        try:
            for packet in self._container.demux(self._stream):
                if pictures := self._decode_packet(packet):
                    return pictures
        except av.FFmpegError as error:
            self._warn(f"could not be read to its end ({error.strerror})")
            return self._decode_packet(None)
        return []

    def _decode_packet(self, packet: Packet | None) -> list[av.VideoFrame]:
        try:
            return self._stream.decode(packet)
        except av.error.EOFError:  # the decoder gave its last pictures before
            return []
        except av.FFmpegError as error:
            self._warn(f"skipped damaged data ({error.strerror})")
            return []

    def _seek(self, stamp: float) -> None:
        """Goes to the last key picture at or before `stamp` seconds, or to the beginning where that fails."""
        try:
            self._container.seek(int(stamp * av.time_base))
            self._decoded = self._decode_some()
        except av.FFmpegError:
            self._decoded = []
        landed = _seconds(self._decoded[0]) if self._decoded else None
        if landed is None or landed > stamp + TOLERANCE:
            self.close()
            self._open()
            self._decoded = self._decode_some()

    def _declared_duration(self) -> float | None:
        own = _in_seconds(self._stream.duration, self._stream.time_base)
        if own:
            return own
        if self._container.duration and self._container.duration > 0:  # of all streams, audio too
            begin = (self._container.start_time or 0) / av.time_base
            late = 0.0 if self._origin is None else self._origin - begin
            return self._container.duration / av.time_base - late
        return None

    def _shown_for(self, picture: av.VideoFrame) -> float:
        return _in_seconds(picture.duration, picture.time_base) or 1 / (self.source_fps or _DEFAULT_RATE)

    def _warn(self, what: str) -> None:
        if not self.incomplete:
            logger.warning("%s: %s", self.name, what)
        self.incomplete = True


def _seconds(picture: av.VideoFrame) -> float | None:
    return _in_seconds(picture.dts if picture.pts is None else picture.pts, picture.time_base)


def _in_seconds(ticks: int | None, time_base: Fraction | None) -> float | None:
    return None if ticks is None or time_base is None else float(ticks * time_base)


def _upright(image: np.ndarray, picture: av.VideoFrame) -> np.ndarray:
    """Turns and mirrors `image` as the picture's display matrix says, to the nearest quarter turn."""
    matrix: Any = picture.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(matrix, dtype=np.int32)[:5]  # a pixel at (x, y) is shown at (ax + cy, bx + dy)
    if abs(b) > abs(a):
        image, a, d = image.transpose(1, 0, 2), c, b
    image = image[:, ::-1] if a < 0 else image
    image = image[::-1] if d < 0 else image
    return np.ascontiguousarray(image)
