"""How a cap is shared out between prompt, dialogue, video, question and answer. Arithmetic only."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

_LARGEST_CAP = 1 << 30
LARGEST_SHARE = 512  # tokens: of a question and its answer, or of the dialogue, where nobody says
_LEAST_RESERVE = 64  # tokens, where nobody says
_MOST_BLOCK_PATCHES = 8
_DEFAULT_CAP = 4096
_STEP = 256  # a default cap that has to be larger is a multiple of it


@dataclass(frozen=True, slots=True)
class Budget:
    """The shares of a memory cap, in tokens.

    What prompt, dialogue and reserve leave is the video's. A compression leaves the share `keep` of it, and a block of
    new patches always finds room after what is held: that is where a half-filled block stands when a question comes.

    Attributes:
        cap: |M|.
        prompt: tokens of the system prompt.
        reserve: tokens kept free for a question and its answer.
        dialogue: tokens that remembered turns may take.
        reopening: tokens of the text that opens a video again after a remembered turn.
        keep: |C| as a share of the video's part of the cap, in (0, 1); 0 where nothing is ever evicted.
        block: temporal patches per block; None for as many as fit, 8 at the most.
        caption: the most tokens of text that stand with one temporal patch; they are the video's.
        whole_patches: |C| is a whole number of temporal patches.
    """

    cap: int
    prompt: int
    reserve: int
    dialogue: int
    reopening: int
    keep: float
    block: int | None
    caption: int
    whole_patches: bool

    def video(self, text: int) -> int:
        """The video's part of the cap while `text` tokens of prompt and dialogue are held."""
        return self.cap - text - self.reserve - self.reopening

    def target(self, text: int, cells: int) -> int:
        """|C|: the video tokens that a compression leaves."""
        share = self._share(text)
        return share - share % cells if self.whole_patches else share

    def _share(self, text: int) -> int:
        """|C| before it is rounded down to whole patches."""
        return max(1, int(self.keep * self.video(text))) if self.keep else 0

    def block_patches(self, cells: int) -> int:
        """Temporal patches of `cells` tokens in a block, with the dialogue at its largest; 0 where none fits."""
        fullest = self.prompt + self.dialogue
        share = self._share(fullest)
        if self.keep and share < max(self.caption + 1, cells if self.whole_patches else 0):
            return 0  # not even the newest patch's caption would stay, or no patch at all
        fitting = max(0, self.video(fullest) - share) // (cells + self.caption)
        return min(fitting, self.block or _MOST_BLOCK_PATCHES)

    def largest_patch(self) -> int:
        """The most cells of a temporal patch that a block has room for, with the dialogue at its largest."""
        fullest = self.prompt + self.dialogue
        share = self._share(fullest)
        room = max(0, self.video(fullest) - share - self.caption)
        return min(room, share) if self.keep and self.whole_patches else room


def default_dialogue(cap: int) -> int:
    """Tokens of a cap that remembered turns may take, where nobody says: an eighth, 512 at the most."""
    return min(cap // 8, LARGEST_SHARE)


def default_reserve(cap: int) -> int:
    """Tokens of a cap that are kept free for a question and its answer, where nobody says: an eighth, 64 to 512."""
    return max(default_dialogue(cap), _LEAST_RESERVE)


def smallest_cap(budget_of: Callable[[int], Budget], cells: int) -> int:
    """The smallest cap whose budget has room for a block of one temporal patch of `cells` tokens."""

    def fits(cap: int) -> bool:
        return budget_of(cap).block_patches(cells) > 0

    found = 1 + bisect_left(range(1, _LARGEST_CAP), True, key=fits)
    # Where a default share grows by a token the video's part may lose one: look a little further down.
    return next((cap for cap in range(max(1, found - 16), found + 1) if fits(cap)), found)


def default_cap(budget_of: Callable[[int], Budget], cells: int, largest: int | None) -> int:
    """The cap where nobody says: 4096 tokens, or as many more as temporal patches of `cells` tokens need; `largest` at
    the most."""
    needed = -(-smallest_cap(budget_of, cells) // _STEP) * _STEP
    cap = max(_DEFAULT_CAP, needed)
    return cap if largest is None else min(cap, largest)
