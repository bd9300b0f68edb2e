"""Decoded pictures as upright RGB. Knows nothing of files and times.

Whatever asks PyAV for a frame's `side_data` ties the frame into a reference cycle with it, and raises at a kind of side
data that FFmpeg knows and PyAV does not (EXIF, views of stereo video): so it is read here, and nowhere else.
"""

from contextlib import suppress
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import ColorRange, VideoReformatter

from infinipot.video.hdr import is_hdr, to_standard
from infinipot.video.interlaced import without_combs

_BT709, _BT470BG, _SMPTE170M = 1, 5, 6  # FFmpeg's AVColorSpace; the last two are both BT.601


class Orientation(NamedTuple):
    """How a stored picture is shown: first its rows and columns are exchanged, then it is mirrored."""

    exchanged: bool = False
    left_right: bool = False
    top_bottom: bool = False

    def upright(self, image: np.ndarray) -> np.ndarray:
        """Returns a picture `[height, width, 3]` as it is shown, contiguous."""
        image = image.transpose(1, 0, 2) if self.exchanged else image
        image = image[:, ::-1] if self.left_right else image
        return np.ascontiguousarray(image[::-1] if self.top_bottom else image)


def orientation_of(picture: av.VideoFrame) -> Orientation | None:
    """Returns what a picture says of its orientation, to the nearest quarter turn, or None where it says nothing."""
    side_data = _SideData(picture)
    matrix = side_data.matrix()
    if matrix is not None:
        a, b, _, c, d = np.frombuffer(matrix, dtype=np.int32)[:5].astype(np.int64)  # int32 has no -(-2**31)
        exchanged = bool(abs(b) > abs(a))
        across, down = (c, b) if exchanged else (a, d)  # a pixel at (x, y) is shown at (ax + cy, bx + dy)
        return Orientation(exchanged, bool(across < 0), bool(down < 0))
    if side_data.whole or not picture.rotation:
        return None
    quarters = round(picture.rotation / 90) % 4  # counterclockwise
    return Orientation(quarters % 2 == 1, quarters in (2, 3), quarters in (1, 2))


class _SideData(SideDataContainer):
    """A picture's side data, up to the first of a kind that PyAV does not know."""

    def __init__(self, picture: av.VideoFrame) -> None:
        self.whole = False
        with suppress(ValueError):
            super().__init__(picture)  # type: ignore[call-arg]  # a Mapping, for PyAV's types
            self.whole = True

    def matrix(self) -> Any:
        """Returns the display matrix, or None where there is none."""
        for index in range(len(self)):
            with suppress(ValueError):
                if self[index].type.name == "DISPLAYMATRIX":
                    return self[index]
        return None


class Converter:
    """Turns decoded pictures into RGB. Keeps FFmpeg's scaler, with its threads, until it is dropped."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def rgb(self, picture: av.VideoFrame, most: int | None = None) -> np.ndarray:
        """Returns the pixels `[height, width, 3]` uint8 of a picture as it is stored, HDR in standard colours.

        Of an interlaced picture, what moves is shown as it was at one instant.

        Args:
            picture: as it was decoded.
            most: pixels at most: a larger picture is made smaller, its proportions as they are.
        """
        size = {}
        if most is not None and picture.width * picture.height > most:
            share = (most / (picture.width * picture.height)) ** 0.5
            size = {"width": max(1, int(picture.width * share)), "height": max(1, int(picture.height * share))}
        transfer = int(getattr(picture, "color_trc", 0))  # which PyAV before 17 does not tell
        depth = "rgb48le" if is_hdr(transfer) else "rgb24"
        pixels: np.ndarray = self._reformatter.reformat(picture, format=depth, **size, **_colours(picture)).to_ndarray()
        if is_hdr(transfer):
            pixels = to_standard(pixels, transfer, int(picture.color_primaries))
        combed = picture.interlaced_frame and not size  # scaling blurs combs
        return without_combs(pixels) if combed else pixels


def _colours(picture: av.VideoFrame) -> dict[str, int]:
    """Returns which matrix and range a picture's colours have, for PyAV 15 and 16, which do not look by themselves.

    They apply what they are told where source and destination differ. To RGB the destination's matrix means nothing, so
    it is one that differs. BT.470BG's number means "the same as before" to them; it is SMPTE 170M's by another name.
    """
    if picture.format.is_rgb or picture.format.is_bayer or picture.format.has_palette:
        return {}
    space = int(picture.colorspace)
    space = _SMPTE170M if space == _BT470BG else space
    level = int(picture.color_range)
    full_by_format = picture.format.name.startswith(("yuvj", "gray", "ya"))
    full = picture.format.name.startswith("yuvj") or level == ColorRange.JPEG or (not level and full_by_format)
    return {
        "src_colorspace": space,
        "dst_colorspace": _SMPTE170M if space == _BT709 else _BT709,
        "src_color_range": (ColorRange.JPEG if full else ColorRange.MPEG).value,
        "dst_color_range": ColorRange.JPEG.value,
    }
