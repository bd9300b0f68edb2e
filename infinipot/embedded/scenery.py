"""The backgrounds behind the shapes: still, moving, with cuts, or real footage.

Everything is drawn when it is asked for, from numbers drawn once; nothing grows with time.

    still    one surface under slightly changing light, as before a surveillance camera; now and then a lamp is switched
    moving   the camera pans and zooms over a larger surface
    cuts     another surface every few seconds, every second one under a moving camera
    footage  the frames of a video file, forwards and backwards
"""

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from infinipot.embedded.drawing import coverage
from infinipot.embedded.facts import SIZE
from infinipot.video import open_video

WIDE = 2.5  # times the side of a frame: the side of the surface that a camera moves over
FOOTAGE_FPS = 4.0


class Scenery(Protocol):
    """A background."""

    def at(self, time: float) -> np.ndarray:
        """The background at `time` seconds: a new `[size, size, 3]` float32, 0 to 255."""


def scenery(kind: str, rng: np.random.Generator, size: int = SIZE) -> Scenery:
    """A background of one of BACKGROUNDS for frames of `size` pixels on each side."""
    kinds: dict[str, Callable[[np.random.Generator, int], Scenery]] = {"still": Still, "moving": Moving, "cuts": Cuts}
    if kind not in kinds:
        raise ValueError(f"no background is called {kind!r}; there are {', '.join(kinds)}")
    return kinds[kind](rng, size)


class Light:
    """The brightness of a scene: it flickers, swells and fades, and in one scene out of three a lamp is switched."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._flicker, self._swell = rng.uniform(0, 0.06), rng.uniform(0, 0.2)
        self._period, self._phase = rng.uniform(20, 400), rng.uniform(0, 6.28)
        self._switch = rng.uniform(20, 120) if rng.random() < 1 / 3 else np.inf
        self._dimmed = rng.uniform(0.55, 1)

    def at(self, time: float) -> np.float32:
        """The factor on the brightness at `time` seconds, about 1."""
        swell = self._swell * np.sin(6.28 * time / self._period + self._phase)
        lamp = self._dimmed if time // self._switch % 2 else 1.0
        return np.float32((1 + self._flicker * np.sin(0.7 * time) + swell) * lamp)


class Still:
    """One surface under changing light."""

    def __init__(self, rng: np.random.Generator, size: int = SIZE) -> None:
        self._surface, self._light = surface(rng, size), Light(rng)

    def at(self, time: float) -> np.ndarray:
        return self._surface * self._light.at(time)


class Moving:
    """A camera that pans and zooms over a surface larger than its frame."""

    def __init__(self, rng: np.random.Generator, size: int = SIZE) -> None:
        self._size = size
        self._surface, self._light = surface(rng, round(WIDE * size)), Light(rng)
        self._periods, self._phases = rng.uniform(8, 60, 3), rng.uniform(0, 6.28, 3)  # of x, y and zoom
        self._reach = rng.uniform(0.3, 1, 3)

    def at(self, time: float) -> np.ndarray:
        across, down, zoom = self._reach * np.sin(6.28 * time / self._periods + self._phases)
        step = 1.05 + 0.35 * zoom  # surface pixels a frame pixel
        room = (len(self._surface) - 1 - step * self._size) / 2
        offsets = step * (np.arange(self._size) + 0.5)
        rows, columns = room * (1 + down) + offsets, room * (1 + across) + offsets
        return _sample(self._surface, rows, columns) * self._light.at(time)


class Cuts:
    """A scene of its own every few seconds."""

    def __init__(self, rng: np.random.Generator, size: int = SIZE) -> None:
        self._seed, self._every = int(rng.integers(2**32)), rng.uniform(3, 8)
        self._scene = lru_cache(maxsize=4)(partial(_scene_of_a_cut, self._seed, size))

    def at(self, time: float) -> np.ndarray:
        return self._scene(int(time / self._every)).at(time)


class Footage:
    """Real frames: the first `seconds` of a video, forwards and backwards without end. A second takes 48 KiB.

    Args:
        path: a file or address that `infinipot.open_video` opens.
        seconds: how much of it is read.
        size: pixels on each side of a frame.

    Raises:
        VideoError: the file cannot be read.
    """

    def __init__(self, path: str | Path, seconds: float = 600.0, size: int = SIZE) -> None:
        with open_video(path, fps=FOOTAGE_FPS) as video:
            frames = islice(video, max(1, round(seconds * FOOTAGE_FPS)))
            self._frames = np.stack([_square(frame.image, size) for frame in frames])
        self._start = 0.0  # seconds into what was read

    @property
    def seconds(self) -> float:
        """The seconds of the video that were read."""
        return len(self._frames) / FOOTAGE_FPS

    def beginning_at(self, start: float) -> "Footage":
        """The same footage from another moment on."""
        other = object.__new__(Footage)
        other._frames, other._start = self._frames, start
        return other

    def at(self, time: float) -> np.ndarray:
        last = len(self._frames) - 1
        step = round((time + self._start) * FOOTAGE_FPS) % max(1, 2 * last)
        return self._frames[min(step, 2 * last - step)].astype(np.float32)


class Crowd:
    """Grey shapes that are always moving about."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self._members = [
            (
                str(rng.choice(["circle", "square", "triangle", "diamond"])),
                rng.uniform(3, 8),  # radius
                rng.uniform(20, 165),  # grey
                rng.uniform(5, 40, 2),  # periods of x and y, seconds
                rng.uniform(0, 6.28, 2),
            )
            for _ in range(count)
        ]

    def draw(self, image: np.ndarray, time: float) -> None:
        """Draws the crowd at `time` into an image, in place."""
        for shape, radius, grey, periods, phases in self._members:
            x, y = SIZE / 2 * (1 + np.sin(6.28 * time / periods + phases))
            covered = coverage(shape, x, y, radius, len(image))[..., None]
            image += covered * (np.float32(grey) - image)


def surface(rng: np.random.Generator, size: int) -> np.ndarray:
    """Something to look at: `[size, size, 3]` float32, 0 to 255.

    Blotches at several scales, on a plain, sloping or striped ground, often strewn with overlapping leaves, whose sizes
    follow a power law as those of things in photographs do (the dead leaves model; Lee, Mumford and Huang, 2001).
    """
    colourful = rng.choice([0.15, 0.5, 1.0])
    image = np.empty((size, size, 3), np.float32)
    image[:] = _shade(rng, colourful)
    across, down = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))
    direction = rng.uniform(0, 6.28)
    slope = (np.cos(direction) * across + np.sin(direction) * down).astype(np.float32)[..., None]
    match rng.integers(4):
        case 0:
            image += slope * (_shade(rng, colourful) - image) * np.float32(0.7)
        case 1:
            image += (np.sin(slope * rng.uniform(4, 40) * size / SIZE) * rng.uniform(5, 40)).astype(np.float32)
    if rng.random() < 0.6:
        _strew(rng, image, int(rng.integers(4, 60) * (size / SIZE) ** 1.5), colourful)
    for cells in (4, 9, 20, 48):
        tint = rng.normal(0, 1, (cells, cells, 3)) * colourful + rng.normal(0, 1, (cells, cells, 1))
        image += _stretch(tint.astype(np.float32), size) * np.float32(rng.uniform(0, 14))
    return image.clip(5, 245)


def _strew(rng: np.random.Generator, image: np.ndarray, count: int, colourful: float) -> None:
    size = len(image)
    across, down = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    for _ in range(count):
        extent = 2.5 * rng.uniform(0.02, 1) ** -0.75  # up to 47 pixels, most are small
        x, y, turn = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(0, 3.14)
        top, left = (max(0, int(at - 2 * extent)) for at in (y, x))
        part = np.s_[top : int(y + 2 * extent) + 1, left : int(x + 2 * extent) + 1]
        dx, dy = across[part] - np.float32(x), down[part] - np.float32(y)
        along = np.abs(np.cos(turn) * dx + np.sin(turn) * dy)
        aside = np.abs(np.cos(turn) * dy - np.sin(turn) * dx) * np.float32(rng.uniform(1, 3))
        inside = (np.maximum(along, aside) if rng.random() < 0.5 else np.hypot(along, aside)) < extent
        image[part][inside] = _shade(rng, colourful)


def _shade(rng: np.random.Generator, colourful: float) -> np.ndarray:
    """A colour, `[3]` float32: a brightness, and a tint that is rarely strong."""
    tint = rng.normal(0, 1, 3)
    return (rng.uniform(20, 220) + 45 * colourful * (tint - tint.mean())).clip(5, 245).astype(np.float32)


def _stretch(image: np.ndarray, size: int) -> np.ndarray:
    """A small square image enlarged to `size`, linearly."""
    at = np.linspace(0, len(image) - 1.001, size)
    return _sample(image, at, at)


def _sample(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The image at fractional rows and columns, `[len(rows), len(columns), 3]`, linear in between."""
    for at in (rows, columns):  # each pass takes one axis, and puts the other first
        low = at.astype(int)
        share = (at - low).astype(np.float32)[:, None, None]
        image = (image[low] * (1 - share) + image[low + 1] * share).swapaxes(0, 1)
    return image


def _scene_of_a_cut(seed: int, size: int, number: int) -> Scenery:
    rng = np.random.default_rng((seed, number))
    return Moving(rng, size) if number % 2 else Still(rng, size)


def _square(image: np.ndarray, size: int) -> np.ndarray:
    """The middle of a frame, shrunk: `[size, size, 3]` uint8."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    whole = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(whole.resize((size, size), Image.Resampling.BOX))
