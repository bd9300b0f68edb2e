"""Pictures that Pillow reads and FFmpeg does not: animated WebP files, and AVIF pictures made of tiles.

Knows nothing of sampling.
"""

import io
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import cached_property
from itertools import count
from math import inf
from typing import BinaryIO

from PIL import Image

from infinipot.errors import VideoError
from infinipot.video.address import Address
from infinipot.video.container import Report, faults_of, why
from infinipot.video.frame import Frame
from infinipot.video.heads import HEAD, animation_size
from infinipot.video.images import as_frame
from infinipot.video.sampling import Extent, Picture

_FORMATS = ("WEBP", "AVIF")
_SHOWN_FOR = 0.04  # seconds that a picture stays which does not say, as of other files


def is_pillows(address: Address) -> bool:
    """Whether it is a file that Pillow has to read, and can. What is no file on this machine is not looked at."""
    if not address.stored:  # a pipe would lose what is read of it
        return False
    try:
        with _opened(address) as file:
            head = file.read(HEAD)
        tiles = head[4:12] == b"ftypavif" and b"grid" in head
        if tiles or animation_size(head):
            with _opened(address) as file, Image.open(file, formats=_FORMATS):
                return True
    except Exception:  # none of Pillow's: who opens it by other means tells what is wrong
        return False
    return False


def _opened(address: Address) -> BinaryIO:
    target = address.target
    if isinstance(target, bytes):
        return io.BytesIO(target)
    return target() if callable(target) else open(target, "rb")


class PillowSource:
    """The pictures of such a file, upright.

    Attributes:
        name: the path as given.
        source_fps: None: each picture has its own duration.
    """

    source_fps = None

    def __init__(self, address: Address) -> None:
        self.name, self._address = address.name, address
        self._report = Report(address.name)

    @property
    def incomplete(self) -> bool:
        """True once a picture could not be read. Those before it are yielded all the same, and a warning is logged."""
        return self._report.damaged

    @cached_property
    def duration(self) -> float | None:
        """Seconds that the pictures last; the file says so picture by picture only, so all are looked at."""
        extent = self.extent(inf)
        return extent and extent.over

    def extent(self, end: float) -> Extent | None:
        """Returns when the last picture before `end` seconds comes and is over."""
        with closing(self._read(Report(self.name))) as pictures:
            return Extent.of(pictures, end)

    def pictures(self, start: float = 0.0) -> Iterator[Picture[Image.Image]]:
        """Yields the pictures in order, all of them: `start` saves no work here."""
        return self._read(self._report)

    def _read(self, report: Report) -> Generator[Picture[Image.Image], None, None]:
        time = 0.0
        with (
            faults_of(self.name, VideoError),
            _opened(self._address) as file,
            Image.open(file, formats=_FORMATS) as image,
        ):
            moves = getattr(image, "is_animated", False)
            for number in count():
                try:
                    image.seek(number)
                    shown = image.copy()
                except EOFError:
                    return
                except Exception as fault:
                    report.damage("end", f"could not be read to its end ({why(fault)})")
                    return
                duration = (image.info.get("duration", 0) / 1000 if moves else 0.0) or _SHOWN_FOR
                yield Picture(time, duration, shown)
                time += duration

    def frame(self, content: Image.Image, time: float) -> Frame:
        """Returns a picture as a frame."""
        return as_frame(content, time)

    def close(self) -> None:
        """Nothing stays open but while pictures are read."""
