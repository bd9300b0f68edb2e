"""Turns pictures (NumPy, PIL, torch) into frames, and checks them. Knows nothing of videos."""

from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
from PIL import Image, ImageOps

from infinipot.errors import FrameError
from infinipot.numbers import LATEST, is_time
from infinipot.tensors import is_tensor, values_of
from infinipot.video.frame import Frame

if TYPE_CHECKING:
    import torch

ImageLike: TypeAlias = Union[np.ndarray, "torch.Tensor", Image.Image]

_CHANNELS = (1, 3, 4)  # gray, RGB, RGBA
_ROUNDED = 1 / 512  # less than half a level: what has been resized may leave [0, 1] by its rounding errors
_ACCEPTED = "a picture is uint8, or floating point in [0, 1], of shape [height, width, 3]"


def as_frame(image: ImageLike | Frame, time: float | None = None) -> Frame:
    """Returns `image` as a `Frame`: uint8 RGB `[height, width, 3]` with its time.

    Args:
        image: a NumPy array `[h, w, 3]`, a torch tensor `[3, h, w]` or `[h, w, 3]` on any device, a PIL
            image, or a `Frame`. Values are uint8, floating point in [0, 1], or the 16 bits of a gray PIL
            image. Gray pictures (`[h, w]` or one channel) are repeated to RGB, an alpha channel is dropped, a PIL
            image's EXIF orientation is applied.
        time: seconds since the start of the video. May be left out for a `Frame`, which has its own.

    The frame owns its pixels: the array given may be written to afterwards. A `Frame` is checked, not copied.

    Raises:
        FrameError: for pictures of another type, dtype, shape or range of values, or without pixels, and for
            times that are missing, negative, not finite or beyond 1e15.
    """
    if isinstance(image, Frame):
        if not isinstance(image.image, np.ndarray):
            raise FrameError(f"Frame.image is a {type(image.image).__name__}; {_ACCEPTED}")
        if image.image.dtype != np.uint8 or image.image.ndim != 3 or image.image.shape[2] != 3:
            raise FrameError(f"Frame.image is {_described(image.image)}; it has to be uint8 [height, width, 3]")
        _check_size(image.image)
        own_time = _checked_time(image.time if time is None else time)
        return image if own_time == image.time else Frame(image.image, own_time)
    return Frame(_rgb(_array(image)), _checked_time(time))


def _checked_time(time: float | None) -> float:
    if time is None:
        raise FrameError("a picture needs a time, in seconds since the start of the video")
    if not is_time(time):
        raise FrameError(f"the time of a frame must be a number of seconds from 0 to {LATEST:g}, not {time!r}")
    return float(time)


def _array(image: ImageLike) -> np.ndarray:
    """Returns the pixels, channels last, in the dtype they came in."""
    if isinstance(image, Image.Image):
        if image.mode in ("I", "F"):
            raise FrameError(
                f"a PIL image of mode {image.mode!r} has no range of levels: give an array of them, from 0 to 1"
            )
        try:
            if image.mode.startswith("I;16"):  # which convert() would cut off at 255
                return np.asarray(ImageOps.exif_transpose(image), np.float32) / 65535
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except MemoryError:
            raise
        except Exception as error:  # a plugin of PIL raises what it likes for a damaged file, a closed image ValueError
            raise FrameError(f"a PIL image could not be read: {error}") from error
    if is_tensor(image):
        pixels = values_of(image, "a picture")
        return pixels.transpose(1, 2, 0) if pixels.ndim == 3 and pixels.shape[0] in _CHANNELS else pixels
    if isinstance(image, np.ndarray):
        return image
    raise FrameError(f"a picture must be a NumPy array, a torch tensor or a PIL image, not a {type(image).__name__}")


def _rgb(array: np.ndarray) -> np.ndarray:
    """Returns a uint8 RGB copy `[h, w, 3]` of gray, RGB or RGBA pixels `[h, w]` or `[h, w, channels]`."""
    pixels = array[:, :, None] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] not in _CHANNELS:
        hint = "; move the channels last" if pixels.ndim == 3 and pixels.shape[0] in _CHANNELS else ""
        raise FrameError(f"the picture is {_described(array)}; {_ACCEPTED} (or [height, width] if gray){hint}")
    _check_size(array)
    pixels = pixels[:, :, :3]
    if np.issubdtype(pixels.dtype, np.floating):
        low, high = float(pixels.min()), float(pixels.max())
        if not -_ROUNDED <= low <= high <= 1 + _ROUNDED:
            raise FrameError(f"floating point pictures must lie in [0, 1]; this one spans {low:.4g} to {high:.4g}")
        pixels = np.rint(pixels.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise FrameError(f"the picture is {_described(array)}; {_ACCEPTED}")
    return np.array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), order="C")


def _check_size(array: np.ndarray) -> None:
    if array.size == 0:
        raise FrameError(f"the picture is {_described(array)}: it has no pixels")


def _described(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"
