"""A piece of sound and its time. Knows nothing of where it came from."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from infinipot.errors import FrameError
from infinipot.numbers import LATEST, is_time
from infinipot.tensors import values_of

RATE = 16_000
"""Samples a second of every piece."""

GAP = 0.04
"""Seconds between two pieces up to which they are one after the other: clocks and time stamps are not exact."""

LOUDEST = 4.0  # lossy formats overshoot; what is far beyond 1 is of another scale

SamplesLike: TypeAlias = np.ndarray | torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """A piece of a stream of sound, of one channel.

    Attributes:
        samples: `[n]` float32 in [-1, 1], 16,000 a second.
        time: of the first of them, in seconds since the start.
    """

    samples: np.ndarray
    time: float

    @property
    def end(self) -> float:
        """Seconds up to which it is heard."""
        return self.time + len(self.samples) / RATE

    @property
    def size(self) -> tuple[int, ...]:
        """The size, which determines the grid: that of all sound is the same."""
        return (1,)

    def split(self, time: float) -> "tuple[Sound, Sound]":
        """Splits the sound at a time within it, in seconds; either part may be empty."""
        count = max(0, round((time - self.time) * RATE))
        return Sound(self.samples[:count], self.time), Sound(self.samples[count:], self.time + count / RATE)


def as_sound(samples: SamplesLike | Sound, time: float | None = None) -> Sound:
    """Returns samples as a `Sound` that owns them.

    Args:
        samples: a NumPy array or a torch tensor `[n]`, floating point in [-1, 1] or int16, 16,000 a second; or a
            `Sound`, which is checked, not copied.
        time: of the first of them, in seconds. May be left out for a `Sound`, which has its own.

    Raises:
        FrameError: for samples of another type, dtype, shape or range of values, for none at all, and for times that
            are missing, negative, not finite or beyond 1e15.
    """
    given = samples.samples if isinstance(samples, Sound) else samples
    if isinstance(samples, Sound) and time is None:
        time = samples.time
    if not is_time(time):
        raise FrameError(f"the time of a sound must be a number of seconds from 0 to {LATEST:g}, not {time!r}")
    checked = _checked(given)
    if isinstance(samples, Sound) and checked is given:
        return samples if time == samples.time else Sound(given, float(time))
    return Sound(checked.copy() if checked is given else checked, float(time))


def _checked(given: SamplesLike) -> np.ndarray:
    """The samples as float32."""
    if isinstance(given, torch.Tensor):
        given = values_of(given, "sound").copy()
    if not isinstance(given, np.ndarray):
        raise FrameError(f"sound must be a NumPy array or a torch tensor, not a {type(given).__name__}")
    described = f"{given.dtype} {list(given.shape)}"
    if given.ndim != 1:
        raise FrameError(f"the sound is {described}: give samples of one channel, [n], such as the mean of all")
    if given.size == 0:
        raise FrameError(f"the sound is {described}: it has no samples")
    if given.dtype.kind == "i" and given.dtype.itemsize == 2:  # of either order of bytes
        return given.astype(np.float32) / 32768
    if not np.issubdtype(given.dtype, np.floating):
        raise FrameError(f"the sound is {described}: samples must be int16, or floating point in [-1, 1]")
    low, high = float(given.min()), float(given.max())
    if not -LOUDEST <= low <= high <= LOUDEST:
        raise FrameError(f"floating point samples must lie in [-1, 1]; these span {low:g} to {high:g}")
    return given.astype(np.float32, copy=False)
