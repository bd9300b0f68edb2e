"""Small pictures of what was watched, so many at the most: one for each time that may be asked about."""

import io
from collections.abc import Collection
from itertools import pairwise

import numpy as np
from PIL import Image

from infinipot.video.frame import Frame


class Thumbnails:
    """JPEGs by time, bounded in number and in bytes.

    When there are too many, those go first whose time is not held any more; then, of the closest two, the older.

    Args:
        most: how many.
        side: pixels of the longer side.
        bytes_each: of a JPEG at most; what takes more is stored coarser.
    """

    def __init__(self, most: int = 512, side: int = 160, bytes_each: int = 8192) -> None:
        self.most, self._side, self._bytes_each = most, side, bytes_each
        self._pictures: dict[float, bytes] = {}

    @property
    def reserved(self) -> int:
        """Bytes that may be taken at the most."""
        return self.most * self._bytes_each

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def times(self) -> tuple[float, ...]:
        """Of which there is a picture, in order."""
        return tuple(self._pictures)

    def add(self, frame: Frame) -> None:
        """Takes a frame, which is later than those before it."""
        if len(self._pictures) >= self.most:
            self._thin()
        self._pictures[frame.time] = self._encoded(frame.image)

    def keep(self, times: Collection[float]) -> None:
        """Lets go of what is neither of these times nor newer than all of them."""
        newest, wanted = max(times, default=-1.0), set(times)
        self._pictures = {at: each for at, each in self._pictures.items() if at in wanted or at > newest}

    def nearest(self, time: float) -> tuple[float, bytes] | None:
        """The picture closest to a time, and its time; None where there is none."""
        if not self._pictures:
            return None
        at = min(self._pictures, key=lambda each: abs(each - time))
        return at, self._pictures[at]

    def image(self, time: float) -> np.ndarray | None:
        """The picture of exactly this time as `[height, width, 3]` uint8, or None."""
        held = self._pictures.get(time)
        return None if held is None else np.asarray(Image.open(io.BytesIO(held)).convert("RGB"))

    def _thin(self) -> None:
        times = list(self._pictures)
        apart = [later - earlier for earlier, later in pairwise(times)]
        del self._pictures[times[int(np.argmin(apart))] if apart else times[0]]

    def _encoded(self, image: np.ndarray) -> bytes:
        picture = Image.fromarray(image)
        picture.thumbnail((self._side, self._side))
        held = b""
        for quality in (75, 50, 25, 10):
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=quality)
            held = out.getvalue()
            if len(held) <= self._bytes_each:
                return held
        picture.thumbnail((self._side // 4, self._side // 4))
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=10)
        return out.getvalue()
