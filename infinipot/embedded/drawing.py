"""Shapes as pixels: how much of each pixel of a small frame a shape covers."""

import numpy as np

from infinipot.embedded.facts import SIZE

OUTLINE = 1.5  # units of dark rim round a shape


def coverage(shape: str, x: float, y: float, radius: float, size: int = SIZE) -> np.ndarray:
    """The share of each pixel that a shape covers: `[size, size]` float32 in 0..1.

    Args:
        shape: its name.
        x, y, radius: its centre and about half its width in units, of which a frame has SIZE on each side.
        size: pixels on each side of the frame.

    Raises:
        ValueError: there is no such shape.
    """
    pixels = np.float32(size / SIZE)  # of a unit
    at = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / pixels
    dx, dy = at[None, :] - np.float32(x), at[:, None] - np.float32(y)
    ax, ay, r = np.abs(dx), np.abs(dy), np.float32(radius)
    match shape:  # signed distance to the outline, in units; negative inside
        case "circle":
            distance = np.hypot(dx, dy) - r
        case "square":
            distance = np.maximum(ax, ay) - 0.88 * r
        case "triangle":
            distance = np.maximum(0.894 * ax - 0.447 * (dy + r), dy - 0.8 * r)
        case "cross":
            distance = np.minimum(np.maximum(ax - r, ay - 0.3 * r), np.maximum(ay - r, ax - 0.3 * r))
        case "diamond":
            distance = (ax + ay - 1.1 * r) * 0.707
        case "ring":
            distance = np.abs(np.hypot(dx, dy) - 0.78 * r) - 0.22 * r
        case _:
            raise ValueError(f"no such shape: {shape!r}")
    return (0.5 - distance * pixels).clip(0, 1)
