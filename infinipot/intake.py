"""What was given to a stream and is not in its memory yet. Knows what is gathered, not how."""

from dataclasses import dataclass

from infinipot.models import Gathered, Patch
from infinipot.tokens import Grid

_NO_GRID = Grid(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Intake:
    """Replaced as a whole, so that it is never half new.

    Attributes:
        open: of a patch that is not full.
        pending: patches of a block that is not full.
        frames: frames, or pieces of sound, given so far, the last of them up to `time`.
        size: of the last one: height and width.
        grid, block: its grid, and the patches in a block of that grid.
    """

    open: Gathered
    pending: tuple[Patch, ...] = ()
    frames: int = 0
    time: float = -1.0
    size: tuple[int, ...] = ()
    grid: Grid = _NO_GRID
    block: int = 0

    def starts(self) -> list[float]:
        """Of each temporal patch that a question would see, in seconds, also where its patch is not full."""
        return [start for patch in self.pending for start in patch.starts] + list(self.open.starts())

    def patch_tokens(self, caption: int) -> int:
        """Tokens of a full patch whose temporal patches have captions of at most so many."""
        return self.open.steps * (self.grid.cells + caption)
