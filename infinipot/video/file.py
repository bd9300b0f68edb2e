"""The pictures of a video file or address on the video's clock. Knows nothing of sampling or models."""

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from functools import cached_property
from itertools import chain
from math import inf
from typing import NamedTuple

import av
from av.video.frame import PictureType

from infinipot.errors import VideoError
from infinipot.video.address import Address, find_address
from infinipot.video.container import Report, faults_of
from infinipot.video.decoder import Decoded, Decoder
from infinipot.video.frame import Frame
from infinipot.video.pixels import Converter, Orientation, orientation_of
from infinipot.video.sampling import LONGEST, TOLERANCE, Extent, Picture, timed
from infinipot.video.stamps import stamps_of

_READ_THROUGH = 32 << 20  # bytes of a file up to which its length is found from all of it: clocks may jump anywhere
_SQUARE = 1.1  # times as wide as high, or high as wide, up to which pixels count as square: those of old television
_DEFAULT_RATE = 25  # pictures per second, where neither file nor picture says how long one stays
_LONGEST_SPLICED = 10.0  # seconds that a picture stays at most, where clocks may begin anew: FFmpeg's own threshold


class Stored(NamedTuple):
    """A picture as it is stored, and how it is shown."""

    picture: av.VideoFrame
    orientation: Orientation
    trouble: str | None


def _size(address: Address) -> int:
    """Returns the bytes of what is stored; none where that is not known, or not there any more."""
    if isinstance(address.target, bytes):
        return len(address.target)
    try:
        return os.path.getsize(address.target) if isinstance(address.target, str) else 0
    except OSError:
        return 0


class FileSource:
    """The pictures of a file's main video stream, upright, as their time stamps order them.

    Attributes:
        name: the path as given; an address without its credentials and query.
        source_fps: average pictures per second that the file declares, or None.

    Pixels are taken as stored, as other readers do: a sample aspect ratio other than 1:1 is told, not applied.

    Raises:
        VideoError: for a path or address that cannot be opened, or that holds no picture that can be decoded; while
            reading, for whatever else a damaged file may do.
    """

    def __init__(self, location: str | bytes | Address) -> None:
        if not isinstance(location, Address):
            location = find_address(location, "video", VideoError)
        self._address = location
        self.name = self._address.name
        self._report = Report(self.name)
        self._converter = Converter()
        with faults_of(self.name, VideoError):
            self._decoder = Decoder(self._address, self._report)
            self._decoded = self._decoder.pictures()
            first = next(self._decoded, None)
            if first is None:
                hint = "" if self._address.seekable else "; a pipe cannot go back to where an index points: give a file"
                raise VideoError(f"{self.name}: none of its pictures could be decoded{hint}")
        self._first: Decoded | None = first
        self._origin = first.stamp
        self._orientation = Orientation()
        self._declared = self._decoder.declared
        self.source_fps = self._declared.rate
        longest = _LONGEST_SPLICED if self._declared.spliced else LONGEST
        self._longest = max(longest, 3 / (self.source_fps or _DEFAULT_RATE))  # of time-lapses, pictures stay long

    @property
    def incomplete(self) -> bool:
        """True once the video ended before its declared length, or a part could not be read as it was meant to be.

        What can be decoded is yielded all the same, and a warning is logged.
        """
        return self._report.damaged

    @cached_property
    def duration(self) -> float | None:
        """Seconds that the pictures last, or None where that is not known.

        It is what the file declares for its pictures; where it declares what all of it lasts, sound and subtitles
        too, a file on this machine is asked when its last picture is over.
        """
        return self._declared_duration()

    def extent(self, end: float) -> Extent | None:
        """Returns when the last picture before `end` seconds comes and is over, or None where that is not known.

        Reads through all packets, if they are here or on a server of files; of others, what the file declares.
        """
        if self.duration is None:
            return None
        if (self._address.stored or self._address.served) and (found := self._extent(end)):
            return found
        over = min(end, self.duration)
        return Extent(over - 1 / (self.source_fps or _DEFAULT_RATE), over)

    def _declared_duration(self) -> float | None:
        declared = self._declared
        if not declared.own and self._address.stored:
            small = _size(self._address) <= _READ_THROUGH
            near = None if declared.length is None or small else declared.begin + declared.length
            if extent := self._extent(inf, near):
                return extent.over
        if declared.length is None or declared.own or self._origin is None:
            return declared.length
        length = declared.length - (self._origin - declared.begin)
        return length if length > 0 else None

    def _extent(self, end: float, near: float | None = None) -> Extent | None:
        """Returns what the packets say, from where on `stamps_of` tells; None where the file is not there any more."""
        with suppress(VideoError), faults_of(self.name, VideoError), closing(stamps_of(self._address, near)) as stamps:
            shown = ((stamp, self._shown_for(duration), None) for stamp, duration in stamps)
            origin = None if near is None else self._origin
            return Extent.of(timed(shown, origin, self._longest), end)
        return None

    def pictures(self, start: float = 0.0) -> Iterator[Picture[Stored]]:
        """Yields the pictures from the one on show at `start` seconds, or some before it. Call it once."""
        self._tell_shape()
        with faults_of(self.name, VideoError):
            decoded = self._from(start)
            ended = 0.0
            for picture in timed(self._stamped(decoded), self._origin, self._longest, self._report.jump):
                if picture.content.trouble and picture.time >= start - TOLERANCE:
                    self._report.damage("damage", picture.content.trouble)
                yield picture
                ended = picture.time + picture.duration
            self._check_end(ended)

    def frame(self, content: Stored, time: float) -> Frame:
        """Returns a decoded picture as an upright RGB frame."""
        with faults_of(self.name, VideoError):
            return Frame(content.orientation.upright(self._converter.rgb(content.picture)), time)

    def close(self) -> None:
        """Closes the file, as losing the last reference to this object does; may be called twice."""
        self._first = None
        self._decoded.close()
        self._decoder.close()
        self._converter = Converter()

    def _from(self, start: float) -> Iterable[Decoded]:
        """Goes to the last key picture at or before `start` seconds, or stays at the beginning where that fails."""
        if start > 0 and self._origin is not None and self._address.seekable:
            self._go(self._origin + start)
        first, self._first = self._first, None
        return self._decoded if first is None else chain([first], self._decoded)

    def _go(self, stamp: float) -> None:
        self._decoded.close()
        self._first = None
        try:
            self._decoder.seek(stamp)
            self._decoded = self._decoder.pictures()
            self._first = next(self._decoded, None)
        except VideoError:
            raise
        except Exception:
            self._first = None
        if not self._arrived(stamp):
            self.close()
            self._decoder = Decoder(self._address, self._report)
            self._decoded = self._decoder.pictures()

    def _arrived(self, stamp: float) -> bool:
        """Tells whether the first picture here needs no other and is on show at a time, or before it.

        One with the very first stamp may be any picture of a file whose clock stands still, so that is read from its
        beginning. H.264 with intra refresh has no such picture but the first of all: its index calls those key pictures
        from which on pictures become whole one strip after the other, and FFmpeg may show them before they are.
        """
        first = self._first
        if first is None or first.stamp is None or first.stamp > stamp + TOLERANCE or first.stamp == self._origin:
            return False
        return bool(first.picture.key_frame) or int(first.picture.pict_type) == PictureType.I

    def _stamped(self, decoded: Iterable[Decoded]) -> Iterator[tuple[float | None, float, Stored]]:
        """Yields stamp, duration and content. An orientation lasts until the next: H.264 has one at key pictures."""
        for stamp, duration, picture, trouble in decoded:
            self._orientation = orientation_of(picture) or self._orientation
            yield stamp, self._shown_for(duration), Stored(picture, self._orientation, trouble)

    def _shown_for(self, duration: float) -> float:
        return duration or 1 / (self.source_fps or _DEFAULT_RATE)

    def _tell_shape(self) -> None:
        aspect = self._declared.aspect
        if not 1 / _SQUARE <= aspect <= _SQUARE:
            self._report.tell(
                "shape",
                f"its pixels are {aspect:.3g} times as wide as high, and are taken as stored: pictures look "
                f"{'narrow' if aspect > 1 else 'wide'}; ffmpeg -i IN -vf scale=iw*sar:ih,setsar=1 OUT mends a file",
            )

    def _check_end(self, ended: float) -> None:
        """Tells of a file that does not hold what it declares. What is counted from 0 may begin later."""
        declared, reached = self._declared, self._decoder.reached
        if declared.length is None or reached is None:
            return
        begin = declared.begin if declared.own else min(declared.begin, 0.0)
        self._report.end(reached - begin, ended, declared.length)
