"""What an encoder takes at once. Knows no model and no policy."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from torch import Tensor

from infinipot.video import Frame

Clip = tuple[Frame, ...]  # the frames of one temporal patch, ahead of the processor; one of an odd last frame


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What the encoder takes at once: a temporal patch of a video, or a chunk of sound, each token of which is one.

    Attributes:
        pixels: what the family's processor makes of its frames; of sound, its spectrum.
        rows, columns: the grid of cells, i.e. of tokens, of a temporal patch.
        times: those of its frames in seconds, or the one of an odd last frame; for sound, those of its tokens.
        steps: the temporal patches in it.
        places: the places in its grid, ascending, of the tokens that the decoder is given; None for all of them.
        number: of its pixels, which no others in this process have.
    """

    pixels: Tensor
    rows: int
    columns: int
    times: tuple[float, ...]
    steps: int = 1
    places: tuple[int, ...] | None = field(default=None, metadata={"saved_as": "cells"})
    number: int = field(default_factory=count().__next__, metadata={"saved_as": None})

    @property
    def starts(self) -> tuple[float, ...]:
        """When each of its temporal patches starts, in seconds."""
        return self.times[: self.steps]

    @property
    def tokens(self) -> int:
        """How many tokens the encoder makes of it."""
        return self.steps * self.rows * self.columns

    @property
    def given(self) -> int:
        """How many of those tokens the decoder is given."""
        return self.tokens if self.places is None else len(self.places)

    def part(self, places: Sequence[int]) -> "Patch":
        """This patch with the tokens at some places only. With none it has no pixels either: it is never encoded."""
        return replace(self, pixels=self.pixels if places else self.pixels[:0], places=tuple(places))


def apart(pixels: Tensor, patches: int) -> list[Tensor]:
    """Pixels of patches of one size that were prepared together, each in storage of its own, so that none is kept alive
    by another."""
    return [pixels] if patches == 1 else [part.clone() for part in pixels.tensor_split(patches)]


def require_alike(patch: Patch, probe: Patch, steps: int, times: int) -> None:
    """Raises ValueError where a patch is not of the probe's grid, shape and type, or has other steps and times."""
    chosen = patch.places
    if chosen is not None and not (list(chosen) == sorted(set(chosen)) and set(chosen) <= set(range(probe.tokens))):
        raise ValueError("a patch that waits has cells that its grid does not have")
    own, wanted = patch.pixels, (probe if chosen is None else probe.part(chosen)).pixels
    if (own.shape, own.dtype) != (wanted.shape, wanted.dtype) or not bool(own.isfinite().all()):
        raise ValueError("a patch that waits is not of the shape and type that the processor makes")
    if (patch.rows, patch.columns, patch.steps, len(patch.times)) != (probe.rows, probe.columns, steps, times):
        raise ValueError("a patch that waits is of another grid, or of another number of frames")
