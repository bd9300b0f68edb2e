"""What was given to a stream and is not in its memory yet. Knows what is gathered, not how."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from infinipot.engine.gating import Shown
from infinipot.engine.setup import Setup
from infinipot.models import Patch, Waiting
from infinipot.tokens import Grid
from infinipot.video import Frame

NO_GRID = Grid(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Transcript:
    """Token ids of the text that went into a memory, which an answer may be kept from repeating.

    It is as bounded as the memory: of captions it has each token once, whatever their number, of turns those that are
    held. The prompt, which is always held, is not in it.

    Attributes:
        captions: tokens that stood in the captions of patches.
        turns: the text of each remembered turn, oldest first.
    """

    captions: frozenset[int] = frozenset()
    turns: tuple[tuple[int, ...], ...] = ()

    def after(self, text: Sequence[int], captions: Iterable[int], *, turn: bool) -> "Transcript":
        """The transcript with more text: a turn of its own, or else part of the newest one, if there is one."""
        turns = self.turns
        if turn:
            turns = (*turns, tuple(text))
        elif turns:
            turns = (*turns[:-1], (*turns[-1], *text))
        return Transcript(self.captions | frozenset(captions), turns)

    def held(self, turns: int) -> "Transcript":
        """The transcript with only so many of its turns, the newest."""
        return Transcript(self.captions, self.turns[len(self.turns) - turns :])

    def ids(self, cell: int) -> list[int]:
        """All of it in a row. The `cell` that stands ahead of each caption's token is in no answer: no two of them make
        a phrase that is not to be repeated."""
        return [*chain.from_iterable((cell, token) for token in sorted(self.captions)), cell, *chain(*self.turns)]


@dataclass(frozen=True, slots=True)
class Pending:
    """Input that waits for its block. Replaced as a whole, so that it is never half new.

    Attributes:
        partial: what was given of a patch that is not full.
        patches: full patches of a block that is not full.
        frames: frames, or pieces of sound, given so far, the last of them up to `time`.
        size: height and width of the last frame.
        grid, block: its grid, and the patches in a block of that grid.
        said: the text that is in the memory already.
        shown: what the cells of its grid showed when a gate last let them through; None without a gate, or where the
            next patch is to be given whole.
        recent: the last frames as pictures, for a second look.
        gated: tokens of full patches so far that a gate did not let through.
    """

    partial: Waiting
    patches: tuple[Patch, ...] = ()
    frames: int = 0
    time: float = -1.0
    size: tuple[int, ...] = ()
    grid: Grid = NO_GRID
    block: int = 0
    said: Transcript = Transcript()
    shown: Shown | None = None
    gated: int = 0
    recent: tuple[Frame, ...] = ()

    def starts(self, setup: Setup) -> list[float]:
        """When each temporal patch starts that a question would see, in seconds; the partial one included."""
        full = (start for patch in self.patches for start in patch.starts)
        return [*full, *setup.gatherer.starts(self.partial)]

    def tokens(self, setup: Setup) -> int:
        """Tokens that wait, at the most, captions included."""
        caption = setup.adapter.caption_limit
        full = sum(patch.given + (caption if patch.given else 0) * patch.steps for patch in self.patches)
        return full + len(setup.gatherer.starts(self.partial)) * (self.grid.cells + caption)

    def patch_tokens(self, setup: Setup) -> int:
        """Tokens of a full patch, at the most, captions included."""
        return setup.gatherer.steps * (self.grid.cells + setup.adapter.caption_limit)

    def emptied(self) -> "Pending":
        """What waits once all of it has gone into the memory."""
        return replace(self, patches=(), partial=type(self.partial)(), shown=None)
