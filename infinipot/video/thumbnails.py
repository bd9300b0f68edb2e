"""Small pictures of what was watched, so many at the most: one for each time that may be asked about."""

import io
from collections.abc import Collection
from itertools import pairwise

import numpy as np
from PIL import Image

from infinipot.video.frame import Frame

SIDE = 160  # pixels of the longer side of a small picture
_FINER = 2  # times as many pixels along a side as the small picture has, from which it is made


class Thumbnails:
    """JPEGs by time, bounded in number and in bytes.

    When there are too many, those go first whose time is not held any more; then, of the closest two, the older.

    Args:
        most: how many.
        side: pixels of the longer side.
        bytes_each: of a JPEG at most; what takes more is stored coarser.
        lasts: seconds of a temporal patch: of its frames the last one stands for it, since what a patch is remembered
            for is what comes in it.
    """

    def __init__(self, most: int = 512, side: int = SIDE, bytes_each: int = 8192, lasts: float = 0.0) -> None:
        self.most, self._side, self._bytes_each, self._lasts = most, side, bytes_each, lasts
        self._pictures: dict[float, bytes] = {}
        self._added = 0  # since it was last told which times are held

    @property
    def reserved(self) -> int:
        """Bytes that may be taken at the most."""
        return self.most * self._bytes_each

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def times(self) -> tuple[float, ...]:
        """The times that have a picture, in order."""
        return tuple(self._pictures)

    @property
    def crowded(self) -> bool:
        """Whether `keep` should be called: room is short, and enough pictures are new.

        Where a policy holds something of nearly every patch, telling frees nothing. To find out what is held reads a
        whole memory, so that it is not done again for the next picture.
        """
        return len(self._pictures) > 0.9 * self.most and self._added >= self.most // 4

    def add(self, frame: Frame, small: bytes | None = None) -> None:
        """Takes a frame, which is later than those before it, or the `small_picture` that was made of it."""
        if len(self._pictures) >= self.most:
            self._thin()
        self._added += 1
        self._pictures[frame.time] = small or small_picture(frame.image, self._bytes_each, self._side)

    def keep(self, times: Collection[float]) -> None:
        """Drops the pictures that are neither of patches of these times nor newer than all of them."""
        self._added = 0
        newest = max(times, default=-1.0)
        wanted = {self._of(time) for time in times}
        self._pictures = {at: each for at, each in self._pictures.items() if at in wanted or at > newest}

    def nearest(self, time: float) -> tuple[float, bytes] | None:
        """The picture that stands for a time, of its patch or the closest, and its own time; None if there is none."""
        if not self._pictures:
            return None
        at = self._of(time)
        if at is None:
            at = min(self._pictures, key=lambda each: abs(each - time))
        return at, self._pictures[at]

    def _of(self, time: float) -> float | None:
        """When the last picture of the patch of a time came."""
        if not self._lasts:
            return time if time in self._pictures else None
        return max((at for at in self._pictures if time - 1e-6 <= at < time + self._lasts - 1e-6), default=None)

    def image(self, time: float) -> np.ndarray | None:
        """The picture of exactly this time as `[height, width, 3]` uint8, or None."""
        held = self._pictures.get(time)
        return None if held is None else np.asarray(Image.open(io.BytesIO(held)).convert("RGB"))

    def _thin(self) -> None:
        times = list(self._pictures)
        apart = [later - earlier for earlier, later in pairwise(times)]
        del self._pictures[times[int(np.argmin(apart))] if apart else times[0]]


def small_picture(image: np.ndarray, most: int, side: int = SIDE) -> bytes:
    """A small JPEG of an image.

    Args:
        image: `[height, width, 3]` uint8.
        most: bytes that it may have; what takes more is stored coarser.
        side: pixels of its longer side.
    """
    apart = max(1, max(image.shape[:2]) // (_FINER * side))  # of a large frame, not every pixel is looked at
    picture = Image.fromarray(np.ascontiguousarray(image[::apart, ::apart]))
    picture.thumbnail((side, side))
    for quality in (75, 50, 25, 10):
        if len(held := _jpeg(picture, quality)) <= most:
            return held
    picture.thumbnail((side // 4, side // 4))
    return _jpeg(picture, 10)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()
