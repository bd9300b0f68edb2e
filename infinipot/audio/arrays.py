"""Sound that is Python objects: an array of samples, or an iterator of pieces of any length, at a steady rate."""

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np
import torch

from infinipot.audio.sound import SamplesLike, as_sound
from infinipot.errors import AudioError


class ArraySource:
    """An array or tensor `[n]`, or an iterable of them, one after the other. An iterator may be endless.

    Raises:
        AudioError: for an object that is no sound.
    """

    name = "samples"
    incomplete = False

    def __init__(self, samples: SamplesLike | Iterable[SamplesLike], rate: int) -> None:
        if not isinstance(samples, Iterable) or isinstance(samples, str | bytes | dict):
            raise AudioError(
                f"an object of type {type(samples).__name__} is not a sound; give a path, an array of samples [n], "
                "or an iterable of them"
            )
        self._rate = rate
        self._parts: Iterable[SamplesLike] = samples
        self.duration = None
        if isinstance(samples, np.ndarray | torch.Tensor):
            if samples.ndim != 1:
                raise AudioError(f"sound as one array has the shape [n], of one channel, not {list(samples.shape)}")
            self.duration = len(samples) / rate
            self._parts = (samples[start : start + rate] for start in range(0, len(samples), rate))

    def blocks(self) -> Iterator[tuple[float | None, av.AudioFrame]]:
        """Yields the pieces, whose times follow from how long they are; raises `FrameError` for what is no sound."""
        for part in self._parts:
            block = av.AudioFrame.from_ndarray(as_sound(part, 0.0).samples[None], format="flt", layout="mono")
            block.sample_rate, block.time_base = self._rate, Fraction(1, self._rate)
            yield None, block

    def close(self) -> None:
        """Releases the samples."""
        self._parts = ()
