"""How a stream gathers patches from what it is given. Knows no model and no policy; holds nothing of any stream."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Generic, TypeVar

import numpy as np

from infinipot.audio import Sound
from infinipot.models.patch import Clip, Patch, require_alike
from infinipot.models.waiting import Waiting, WaitingFrames, WaitingSound
from infinipot.numbers import MOST_PIXELS
from infinipot.video import Frame

W = TypeVar("W", WaitingFrames, WaitingSound)
G = TypeVar("G", Frame, Sound)


class Gatherer(ABC, Generic[W, G]):
    """Makes patches of what streams are given: `W` is what waits for its patch to be full, `G` what is given.

    Class attributes:
        unit: what messages call that of which a patch is made, in the plural.
        empty: what waits where nothing was given.
    """

    unit: ClassVar[str]
    empty: ClassVar[Waiting]

    @property
    @abstractmethod
    def steps(self) -> int:
        """Temporal patches in a full patch."""

    @abstractmethod
    def grid(self, given: G) -> tuple[int, int]:
        """Rows and columns of a temporal patch of what is given."""

    @abstractmethod
    def after(self, waiting: W, given: G) -> W:
        """What waits with one more frame, or piece of sound; before the next one, `split` takes out what is full."""

    @abstractmethod
    def starts(self, waiting: W) -> tuple[float, ...]:
        """When the temporal patches would start that what waits makes as it is, in seconds. None is made."""

    @abstractmethod
    def whole(self, waiting: W) -> Patch | Clip | None:
        """The patch that what waits makes as it is, or the clip for one; None where that would have no token yet."""

    @abstractmethod
    def split(self, waiting: W) -> tuple[Patch | Clip | None, W]:
        """The full patch, or its clip, if there is one, and what waits after it.

        At most one patch is full after each call of `after`.
        """

    @abstractmethod
    def check(self, waiting: W, size: tuple[int, ...], grid: tuple[int, int], patches: Sequence[Patch]) -> None:
        """Makes sure that a stream can go on with what a file says it was given.

        Args:
            waiting: of a patch that is not full.
            size: of what was given last.
            grid: rows and columns of its temporal patches.
            patches: full ones that wait for their block.

        Raises:
            ValueError: this class would not have gathered that, or made such patches of it.
        """


@dataclass(frozen=True, slots=True, eq=False)
class FrameGatherer(Gatherer[WaitingFrames, Frame]):
    """Gathers frames of one size into temporal patches.

    Attributes:
        most: frames in a full patch.
        make: a patch of a clip, to know its grid.
    """

    unit: ClassVar[str] = "frames"
    empty: ClassVar[WaitingFrames] = WaitingFrames()
    most: int
    make: Callable[[Clip], Patch]

    @property
    def steps(self) -> int:
        return 1

    def grid(self, given: Frame) -> tuple[int, int]:
        probe = self.make((given,))
        return probe.rows, probe.columns

    def after(self, waiting: WaitingFrames, given: Frame) -> WaitingFrames:
        return WaitingFrames((*waiting.frames, given))

    def starts(self, waiting: WaitingFrames) -> tuple[float, ...]:
        return tuple(frame.time for frame in waiting.frames[:1])

    def whole(self, waiting: WaitingFrames) -> Clip | None:
        return waiting.frames or None

    def split(self, waiting: WaitingFrames) -> tuple[Clip | None, WaitingFrames]:
        return (None, waiting) if len(waiting.frames) < self.most else (waiting.frames, self.empty)

    def check(
        self, waiting: WaitingFrames, size: tuple[int, ...], grid: tuple[int, int], patches: Sequence[Patch]
    ) -> None:
        images = [frame.image for frame in waiting.frames]
        if len(size) != 2 or not 0 < size[0] * size[1] <= MOST_PIXELS or min(size) < 1:
            raise ValueError(f"frames of {size} pixels have no pixels, or more than {MOST_PIXELS}")
        if len(images) >= self.most or any(i.dtype != np.uint8 or i.shape != (*size, 3) for i in images):
            raise ValueError("frames that wait are not those of a patch")
        if any(one.time >= other.time for one, other in pairwise(waiting.frames)):
            raise ValueError("frames that wait are not in order")
        probe = self.make((Frame(np.zeros((*size, 3), np.uint8), 0.0),))
        if (probe.rows, probe.columns) != grid:
            raise ValueError(f"frames of {size} pixels have another grid")
        for patch in patches:
            require_alike(patch, probe, steps=1, times=self.most)
