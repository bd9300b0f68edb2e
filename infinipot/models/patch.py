"""What an encoder takes at once, and how a stream gathers it from what it is given. Knows no model and no policy."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor

from infinipot.video import Frame

_MOST_PIXELS = 1 << 26  # of a frame whose size is only told

Clip = tuple[Frame, ...]  # the frames of one temporal patch, ahead of the processor; one of an odd last frame


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What the encoder takes at once: a temporal patch of a video, or a chunk of sound, each token of which is one.

    Attributes:
        pixels: what the family's processor makes of its frames; of sound, its spectrum.
        rows, columns: the grid of cells, i.e. of tokens, of a temporal patch.
        times: those of its frames in seconds, or the one of an odd last frame; for sound, those of its tokens.
        steps: the temporal patches in it.
        cells: the places in its grid, ascending, of the tokens that the decoder is given; None for all of them.
        number: of its pixels, which no others in this process have.
    """

    pixels: Tensor
    rows: int
    columns: int
    times: tuple[float, ...]
    steps: int = 1
    cells: tuple[int, ...] | None = None
    number: int = field(default_factory=count().__next__)

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
        return self.tokens if self.cells is None else len(self.cells)

    def part(self, cells: Sequence[int]) -> "Patch":
        """This patch with tokens of some cells only; with none it has no pixels either, since nobody will encode it."""
        return replace(self, pixels=self.pixels if cells else self.pixels[:0], cells=tuple(cells))


class Partial(ABC):
    """What a stream was given of a patch that is not full. Immutable: taking in more makes another one.

    Class attributes:
        unit: what messages call that of which a patch is made, in the plural.
        kept: names of the fields that say what was given; the others come from the model's family.
    """

    unit: ClassVar[str]
    kept: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def steps(self) -> int:
        """Temporal patches in a full patch."""

    @abstractmethod
    def grid(self, given: Any) -> tuple[int, int]:
        """Rows and columns of a temporal patch of what is given."""

    @abstractmethod
    def after(self, given: Any) -> Self:
        """This with one more frame, or piece of sound."""

    @abstractmethod
    def starts(self) -> tuple[float, ...]:
        """When the temporal patches would start that it makes as it is, in seconds. None is made."""

    @abstractmethod
    def whole(self) -> Patch | Clip | None:
        """The patch that it makes without being full, or the clip for one; None where that would have no token yet."""

    @abstractmethod
    def split(self) -> tuple[Patch | Clip | None, Self]:
        """The full patch, or its clip, if there is one, and what has come after it.

        At most one patch is full after each call of `after`.
        """

    @abstractmethod
    def cleared(self) -> Self:
        """This without what was given: what comes next opens a video, or a clip, of its own."""

    @abstractmethod
    def check(self, size: tuple[int, ...], grid: tuple[int, int], pending: Sequence[Patch]) -> None:
        """Makes sure that a stream can go on with what a file says it was given.

        Args:
            size: of what was given last.
            grid: rows and columns of its temporal patches.
            pending: full patches that wait.

        Raises:
            ValueError: this class would not have gathered that, or made such patches of it.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Frames(Partial):
    """Frames of one size that make a temporal patch.

    Attributes:
        most: frames in a full patch.
        make: a patch of a clip, to know its grid.
        frames: given so far.
    """

    unit: ClassVar[str] = "frames"
    kept: ClassVar[tuple[str, ...]] = ("frames",)
    most: int
    make: Callable[[Clip], Patch]
    frames: Clip = ()

    @property
    def steps(self) -> int:
        return 1

    def grid(self, given: Frame) -> tuple[int, int]:
        probe = self.make((given,))
        return probe.rows, probe.columns

    def after(self, given: Frame) -> Self:
        return replace(self, frames=(*self.frames, given))

    def starts(self) -> tuple[float, ...]:
        return tuple(frame.time for frame in self.frames[:1])

    def whole(self) -> Clip | None:
        return self.frames or None

    def split(self) -> tuple[Clip | None, Self]:
        return (None, self) if len(self.frames) < self.most else (self.frames, self.cleared())

    def cleared(self) -> Self:
        return replace(self, frames=())

    def check(self, size: tuple[int, ...], grid: tuple[int, int], pending: Sequence[Patch]) -> None:
        images = [frame.image for frame in self.frames]
        if len(size) != 2 or not 0 < size[0] * size[1] <= _MOST_PIXELS or min(size) < 1:
            raise ValueError(f"frames of {size} pixels are none, or have more than {_MOST_PIXELS}")
        if len(images) >= self.most or any(i.dtype != np.uint8 or i.shape != (*size, 3) for i in images):
            raise ValueError("frames that wait are not those of a patch")
        if any(one.time >= other.time for one, other in pairwise(self.frames)):
            raise ValueError("frames that wait are not in order")
        probe = self.make((Frame(np.zeros((*size, 3), np.uint8), 0.0),))
        if (probe.rows, probe.columns) != grid:
            raise ValueError(f"frames of {size} pixels have another grid")
        for patch in pending:
            require_alike(patch, probe, steps=1, times=self.most)


def apart(pixels: Tensor, patches: int) -> list[Tensor]:
    """Pixels of patches of one size that were prepared together, each in storage of its own, so that none is kept alive
    by another."""
    return [pixels] if patches == 1 else [part.clone() for part in pixels.tensor_split(patches)]


def require_alike(patch: Patch, probe: Patch, steps: int, times: int) -> None:
    """Raises ValueError where a patch is not of the probe's grid, shape and type, or has other steps and times."""
    chosen = patch.cells
    if chosen is not None and not (list(chosen) == sorted(set(chosen)) and set(chosen) <= set(range(probe.tokens))):
        raise ValueError("a patch that waits has cells that its grid does not have")
    own, wanted = patch.pixels, (probe if chosen is None else probe.part(chosen)).pixels
    if (own.shape, own.dtype) != (wanted.shape, wanted.dtype) or not bool(own.isfinite().all()):
        raise ValueError("a patch that waits is not of the shape and type that the processor makes")
    if (patch.rows, patch.columns, patch.steps, len(patch.times)) != (probe.rows, probe.columns, steps, times):
        raise ValueError("a patch that waits is of another grid, or of another number of frames")
