"""Shapes as pixels: how much of each pixel of a small frame a shape covers."""

import numpy as np

from infinipot.embedded.facts import SIZE

OUTLINE = 1.5  # pixels of dark rim round a shape

_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


def coverage(shape: str, x: float, y: float, radius: float) -> np.ndarray:
    """How much of each pixel a shape with its centre at `x`, `y` covers: `[SIZE, SIZE]` float32 in 0..1.

    Raises:
        ValueError: there is no such shape.
    """
    dx, dy = _X - np.float32(x), _Y - np.float32(y)
    ax, ay, r = np.abs(dx), np.abs(dy), np.float32(radius)
    match shape:  # signed distance to the outline, in pixels; negative inside
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
    return (0.5 - distance).clip(0, 1)
