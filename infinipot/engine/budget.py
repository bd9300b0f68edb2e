"""How a cap is shared out between prompt, dialogue, video, question and answer. Arithmetic only."""

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from infinipot.errors import CapError
from infinipot.numbers import is_real, is_whole

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_LARGEST_CAP = 1 << 30
LARGEST_SHARE = 512  # tokens: of a question and its answer, or of the dialogue, where nobody says
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
        keep: |C| as a share of the video's part of the cap, in (0, 1).
        block: temporal patches per block; None for as many as fit, 8 at the most.
        caption: the most tokens of text that stand with one temporal patch; they are the video's.
        whole_patches: |C| is a whole number of temporal patches.
    """

    cap: int
    prompt: int
    reserve: int
    dialogue: int
    reopening: int = 0
    keep: float = 0.75
    block: int | None = None
    caption: int = 0
    whole_patches: bool = False

    def video(self, text: int) -> int:
        """The video's part of the cap while `text` tokens of prompt and dialogue are held."""
        return self.cap - text - self.reserve - self.reopening

    def kept(self, text: int, cells: int) -> int:
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


def make_budget(
    cap: int,
    prompt: int,
    reopening: int = 0,
    caption: int = 0,
    *,
    reserve: int | None = None,
    dialogue: int | None = None,
    keep: float = 0.75,
    block: int | None = None,
) -> Budget:
    """A budget with the default shares: an eighth of the cap, 512 tokens at the most, for a question and its answer,
    and as much for the dialogue.

    Raises:
        CapError: a share that is out of range.
    """
    if cap < 1:
        raise CapError(f"memory={cap}: the cap must be at least one token")
    check_shares(keep=keep, block=block, reserve=reserve, dialogue=dialogue)
    eighth = min(cap // 8, LARGEST_SHARE)
    return Budget(
        cap=cap,
        prompt=prompt,
        reopening=reopening,
        reserve=max(eighth, 64) if reserve is None else reserve,
        dialogue=eighth if dialogue is None else dialogue,
        keep=keep,
        block=block,
        caption=caption,
    )


def check_shares(*, keep: float, block: int | None, reserve: int | None, dialogue: int | None) -> None:
    """Makes sure that shares are ones at all, whatever the cap.

    Raises:
        CapError: one is out of range.
    """
    if not is_real(keep) or not 0 < keep < 1:
        raise CapError(f"keep={keep!r}: the share of the video's memory that a compression leaves lies between 0 and 1")
    for name, value, least in (("reserve", reserve, 1), ("dialogue", dialogue, 0), ("block", block, 1)):
        if value is not None and (not is_whole(value) or value < least):
            raise CapError(f"{name}={value!r}: give a whole number of {least} or more")


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


def parse_memory(memory: int | str, bytes_per_token: int, bytes_beside: int = 0) -> int:
    """The cap in tokens of a number of tokens or an amount such as "256MiB", of which `bytes_beside` are no tokens'.

    Raises:
        CapError: neither of the two.
    """
    if is_whole(memory):
        return int(memory)
    if not isinstance(memory, str):
        raise CapError(f"memory={memory!r}: give tokens, such as 4096, or an amount, such as '256MiB' or '2GB'")
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([a-zA-Z]*)\s*", memory)
    number, unit = (found[1], found[2].upper()) if found else ("", "?")
    if unit == "" and "." not in number:
        return int(number)
    if unit not in _UNITS:
        raise CapError(f"memory={memory!r}: give tokens, such as 4096, or an amount, such as '256MiB' or '2GB'")
    tokens = (int(float(number) * _UNITS[unit]) - bytes_beside) // bytes_per_token
    if tokens < 1:
        least = bytes_beside + bytes_per_token
        raise CapError(f"memory={memory!r} is less than one token takes: {least} bytes over all layers")
    return tokens
