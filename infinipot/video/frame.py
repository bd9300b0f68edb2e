"""One picture of the stream and its time. Knows nothing of where it came from."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a stream.

    Attributes:
        image: `[height, width, 3]` uint8, RGB.
        time: seconds since the start of the video.
    """

    image: np.ndarray
    time: float

    @property
    def end(self) -> float:
        """Seconds up to which it is seen: it takes no time."""
        return self.time

    @property
    def size(self) -> tuple[int, ...]:
        """The height and width, which determine the grid."""
        return self.image.shape[:2]
