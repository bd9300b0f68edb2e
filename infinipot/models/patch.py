"""What an encoder takes at once, and how a stream gathers it from what it is given. Knows no model and no policy."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from torch import Tensor

from infinipot.video import Frame


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What the encoder takes at once: a temporal patch of a video, or a chunk of sound, each token of which is one.

    Attributes:
        pixels: what the family's processor makes of its frames; of sound, its spectrum.
        rows, columns: the grid of cells, i.e. of tokens, of a temporal patch.
        times: of its frames, in seconds; one of an odd last frame. Of sound, of its tokens.
        steps: the temporal patches in it.
    """

    pixels: Tensor
    rows: int
    columns: int
    times: tuple[float, ...]
    steps: int = 1

    @property
    def starts(self) -> tuple[float, ...]:
        """Of its temporal patches, in seconds."""
        return self.times[: self.steps]

    @property
    def tokens(self) -> int:
        """What the encoder makes of it."""
        return self.steps * self.rows * self.columns


class Gathered(ABC):
    """What a stream was given of a patch that is not full. Immutable: taking in more makes another one.

    Class attributes:
        unit: what messages call what makes a patch, in the plural.
    """

    unit: ClassVar[str]

    @property
    @abstractmethod
    def steps(self) -> int:
        """Temporal patches in a full patch."""

    @abstractmethod
    def grid(self, given: Any) -> tuple[int, int]:
        """Rows and columns of a temporal patch of what is given."""

    @abstractmethod
    def after(self, given: Any) -> Self:
        """With one more frame, or piece of sound."""

    @abstractmethod
    def starts(self) -> tuple[float, ...]:
        """Of the temporal patches that it would be as it is, in seconds. Makes none of them."""

    @abstractmethod
    def patch(self) -> Patch | None:
        """As it is, not full; None where that is not a token yet."""

    @abstractmethod
    def split(self) -> tuple[Patch | None, Self]:
        """The patch that is full, if there is one, and what is behind it. After each `after` one is full at most."""

    @abstractmethod
    def cleared(self) -> Self:
        """Without what was given: the next thing opens a video, or a clip, of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames(Gathered):
    """Frames of one size that make a temporal patch.

    Attributes:
        most: frames in a full patch.
        make: a patch of at most as many frames.
        frames: given so far.
    """

    unit: ClassVar[str] = "frames"
    most: int
    make: Callable[[tuple[Frame, ...]], Patch]
    frames: tuple[Frame, ...] = ()

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

    def patch(self) -> Patch | None:
        return self.make(self.frames) if self.frames else None

    def split(self) -> tuple[Patch | None, Self]:
        return (None, self) if len(self.frames) < self.most else (self.patch(), self.cleared())

    def cleared(self) -> Self:
        return replace(self, frames=())
