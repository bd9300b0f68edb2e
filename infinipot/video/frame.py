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
