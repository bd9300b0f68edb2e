"""The public way in: `open_video` takes what users have and gives frames, sampled by time."""

import math
from collections.abc import Generator, Iterable, Iterator
from functools import cached_property
from itertools import takewhile
from os import PathLike, fspath
from typing import Any, Protocol

from infinipot.errors import SettingError, VideoError
from infinipot.numbers import is_endless, is_finite, is_whole
from infinipot.reading import Reading
from infinipot.video.address import find_address
from infinipot.video.arrays import ArraySource
from infinipot.video.file import FileSource
from infinipot.video.frame import Frame
from infinipot.video.images import ImageLike
from infinipot.video.pillow import PillowSource, is_pillows
from infinipot.video.sampling import TOLERANCE, Extent, Picture, sample, spread


class Source(Protocol):
    """The interface of a kind of source. A new kind is one file with such a class, and a line in `_source_of`."""

    @property
    def name(self) -> str: ...
    @property
    def duration(self) -> float | None: ...
    @property
    def source_fps(self) -> float | None: ...
    @property
    def incomplete(self) -> bool: ...

    def pictures(self, start: float) -> Iterator[Picture[Any]]:
        """Yields the pictures in order, each read when asked for, from one at or before `start` on."""

    def frame(self, content: Any, time: float) -> Frame:
        """Turns what `pictures` yielded into a frame; called for the pictures that are sampled only."""

    def extent(self, end: float) -> Extent | None:
        """Returns when the last picture before `end` comes and is over, or None where that is not known."""

    def close(self) -> None:
        """Frees what the source holds; may be called twice."""


class Video(Reading[Frame]):
    """The frames of a video, read front to back, once, like an open file. Holds a few pictures at a time.

    Iterating again goes on where it stopped. Closes itself at the end, and as a context manager.

    Attributes:
        name: the path or address, or "frames" for arrays.
        fps: frames yielded per second of video, or None for every frame.
        frames: the most frames yielded, or None for no limit.
        duration: length of the whole video in seconds, or None where that is not known. Where a file declares none for
            its pictures, it is found when it is asked for.
        source_fps: average rate of the source, or None where that is not known.
        incomplete: True once the source turned out to be cut short or damaged; what can be read is yielded.
    """

    def __init__(
        self,
        source: Source,
        fps: float | None,
        start: float = 0.0,
        end: float = math.inf,
        frames: int | None = None,
    ) -> None:
        super().__init__(source.name, source, _frames(source, fps, start, end, frames), VideoError)
        self.fps = fps
        self.frames = frames
        self.source_fps = source.source_fps
        self._source = source

    @cached_property
    def duration(self) -> float | None:
        return self._source.duration

    def __repr__(self) -> str:
        length = "unknown length" if self.duration is None else f"{self.duration:.1f} s"
        return f"<Video {self.name}, {length}, {'every frame' if self.fps is None else f'{self.fps:g} fps'}>"


def _frames(
    source: Source, fps: float | None, start: float, end: float, most: int | None
) -> Generator[Frame, None, None]:
    empty = True
    for time, content in _sampled(source, fps, start, end, most):
        yield source.frame(content, time)
        empty = False
    if empty:
        lasts = f"; it lasts {source.duration:.1f} s" if start and source.duration else ""
        raise VideoError(f"{source.name} holds no pictures" + (f" from {start:g} s on{lasts}" if start else ""))


def _sampled(
    source: Source, fps: float | None, start: float, end: float, most: int | None
) -> Iterator[tuple[float, Any]]:
    """Samples at `fps`; where that gives more than `most` frames, as many evenly from the first to the last."""
    if most is None:
        return sample(source.pictures(start), fps, start, end)
    extent = source.extent(end)
    if extent is None:
        instead = "give fps" if fps is None else "give fps alone, without a number of frames"
        raise VideoError(
            f"{source.name} does not say how long it is, so {most} frames cannot be spread over it: {instead}"
        )
    last, over = extent
    if fps is not None and (over - start - TOLERANCE) * fps <= most:  # as `sample` counts
        return sample(source.pictures(start), fps, start, end)
    inside = (
        picture
        for picture in takewhile(lambda picture: picture.time < over - TOLERANCE, source.pictures(start))
        if picture.time >= start - TOLERANCE
    )
    return spread(inside, most, start, max(start, last))


def open_video(
    source: str | PathLike[str] | Iterable[ImageLike],
    fps: float | None = 2.0,
    *,
    start: float = 0.0,
    end: float | None = None,
    frames: int | None = None,
    source_fps: float | None = None,
) -> Video:
    """Opens a video and returns its frames, sampled by time and read as they are asked for.

    A frame is the picture on show at an instant `start + k / fps` seconds, k = 0, 1, ..., and has that time;
    time 0 is the first picture. A picture that stays on show longer than `1 / fps`, as in a screen capture of
    variable rate, is taken again. With `fps=None` every picture is taken once, at its own time.

    Args:
        source: path of a video file, or of a pipe such as /dev/stdin, read front to back; an address (`https://`,
            `rtsp://`, `file:`, `data:`); or pictures: an array `[T, h, w, 3]`, a tensor `[T, 3, h, w]` or
            `[T, h, w, 3]`, or an iterable, of any length, of what `as_frame` takes.
        fps: frames per second of video, or None for all of them.
        start: seconds into the video at which to begin. Frames keep the times of the whole video.
        end: seconds into the video before which to stop; None or infinity: its end.
        frames: the most frames. Where `fps` gives more, so many are spread evenly from the first picture to the last,
            each at its own time; `fps=None` spreads them whatever the rate. A file is read through once more for it,
            without decoding; of a pipe or a camera, the length must be known.
        source_fps: rate at which the pictures of an array or iterable were taken. If not given, they are at
            `fps` already, and each is yielded.

    Files are turned upright by their rotation, HDR (PQ, HLG) is converted to standard colours, and of interlaced
    pictures the even rows count where something moves. Pixels that are not square are taken as stored, with a warning.
    Time stamps are the file's own: wrong ones are passed over, up to four in a row; where they jump for good the time
    goes on from where it was, where they stand still pictures come at the declared rate. A warning says so, as it does
    for damage (see `Video.incomplete`).

    Raises:
        VideoError: for a source that is missing, empty, no video or without a picture that can be decoded. Arrays
            without pictures raise it when read.
        SettingError: for rates, times and numbers of frames that cannot be.
        FrameError: while reading, for a picture of the wrong shape, dtype or range (see `as_frame`).
    """
    fps = None if fps is None else _checked("fps", fps, zero=False)
    start = _checked("start", start, zero=True)
    end = math.inf if is_endless(end) else _checked("end", end, zero=True)
    if frames is not None and (not is_whole(frames) or frames < 1):
        raise SettingError(f"frames must be a whole number, at least 1, not {frames!r}")
    if end <= start:
        raise SettingError(f"end={end:g} is not after start={start:g}")
    return Video(_source_of(source, fps, source_fps), fps, start, end, None if frames is None else int(frames))


def _source_of(source: Any, fps: float | None, source_fps: float | None) -> Source:
    if isinstance(source, str | PathLike):
        if source_fps is not None:
            raise SettingError("source_fps is for arrays of pictures; a video file has its own times")
        address = find_address(fspath(source), "video", VideoError)
        return PillowSource(address) if is_pillows(address) else FileSource(address)
    if source_fps is None and fps is None:
        raise SettingError("to yield every picture of an array with its time, give source_fps")
    return ArraySource(source, _checked("source_fps", fps if source_fps is None else source_fps, zero=False))


def _checked(name: str, value: Any, zero: bool) -> float:
    """Returns `value` as a float if it is a finite number above 0, or from 0 on where `zero` is allowed."""
    least = "at least 0" if zero else "above 0"
    if not is_finite(value) or value < 0 or (value == 0 and not zero):
        raise SettingError(f"{name} must be a finite number {least}, not {value!r}")
    return float(value)
