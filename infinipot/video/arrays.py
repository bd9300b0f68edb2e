"""Videos that are Python objects: arrays, tensors, lists and iterators of pictures, at a steady rate."""

from collections.abc import Iterable, Iterator, Sized
from math import ceil
from typing import Any

import numpy as np
from PIL import Image

from infinipot.errors import VideoError
from infinipot.tensors import is_tensor
from infinipot.video.frame import Frame
from infinipot.video.images import ImageLike, as_frame
from infinipot.video.sampling import TOLERANCE, Extent, Picture


class ArraySource:
    """An array `[T, h, w, 3]`, a tensor `[T, 3, h, w]` or `[T, h, w, 3]`, or any iterable of pictures.

    An iterator is read one picture at a time, so it may be endless.

    Raises:
        VideoError: for an object that is no series of pictures.
    """

    name = "frames"
    incomplete = False

    def __init__(self, images: Iterable[ImageLike], source_fps: float) -> None:
        if (isinstance(images, np.ndarray) or is_tensor(images)) and images.ndim != 4:
            raise VideoError(
                f"a video as one array has the shape [time, height, width, 3], not {list(images.shape)}"
                + ("; a single picture goes into a list" if images.ndim in (2, 3) else "")
            )
        if not isinstance(images, Iterable) or isinstance(images, str | bytes | dict):
            raise VideoError(
                f"an object of type {type(images).__name__} is not a video; give a path, "
                "an array [time, height, width, 3], a tensor, or an iterable of pictures"
            )
        self._images = images
        self.source_fps = source_fps
        self.duration = len(images) / source_fps if isinstance(images, Sized) else None

    def pictures(self, start: float = 0.0) -> Iterator[Picture[Any]]:
        """Yields the pictures in order, all of them: `start` saves no work here."""
        one_shot = isinstance(self._images, Iterator)
        for index, image in enumerate(self._images):
            yield Picture(index / self.source_fps, 1 / self.source_fps, _kept(image) if one_shot else image)

    def extent(self, end: float) -> Extent | None:
        """Returns when the last picture before `end` seconds comes and is over, or None where they are not counted."""
        if self.duration is None:
            return None
        over = min(end, self.duration)
        return Extent((ceil((over - TOLERANCE) * self.source_fps) - 1) / self.source_fps, over)

    def frame(self, content: ImageLike, time: float) -> Frame:
        """Returns a picture as a frame; raises `FrameError` for what is no picture."""
        return as_frame(content, time)

    def close(self) -> None:
        """Releases the pictures."""
        self._images = ()


def _kept(image: ImageLike) -> ImageLike:
    """Returns a copy: an iterator may put its next picture into the same object while this one is on show."""
    if isinstance(image, np.ndarray | Image.Image):
        return image.copy()
    return image.clone() if is_tensor(image) else image
