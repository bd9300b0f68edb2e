"""Which slots are filled from which, and how tokens are put there. Knows rows and slots, not what is in them.

On a device that would have to be waited for no number is looked at: a row has as many moves as it may come to need. On
a CPU there are no more than it needs, and NumPy puts keys and values in their places, a copy of bytes each, where torch
goes number by number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infinipot.tokens import is_at_hand


@dataclass(frozen=True, slots=True)
class Moves:
    """Which slots are filled from which: `[m]` int64 each, row · cap + slot.

    No slot that is filled from is filled, so that moving can be done again as often as it is interrupted. A move may
    stand there more than once.

    Attributes:
        tail: the slots of each row that are filled from, where that is known to be one run of them in all rows.
    """

    source: Tensor
    target: Tensor
    tail: slice | None = None


def plan_moves(stays: Tensor, kept: int, cap: int) -> Moves:
    """The moves after which the slots that stay come first. Each of those stays put or moves once.

    Args:
        stays: `[rows, n]` bool, `kept` of them in each row.
        kept: how many that is.
        cap: slots from one row to the next.
    """
    rows, length = stays.shape
    hole, mover = ~stays[:, :kept], stays[:, kept:]
    if is_at_hand(stays):  # a row has as many holes as movers: in order, they belong together
        source = _found(mover, cap) + kept
        return Moves(source, _found(hole, cap), slice(kept, length) if len(source) == mover.numel() else None)
    start = torch.arange(rows, device=stays.device).unsqueeze(1) * cap
    count, most = mover.sum(1, keepdim=True), min(kept, length - kept)
    again = torch.minimum(
        torch.arange(most, device=stays.device), (count - 1).clamp_min(0)
    )  # a row's last move fills up
    source = start + (places(mover, most) + kept * (count > 0)).gather(1, again)
    return Moves(source.view(-1), (start + places(hole, most).gather(1, again)).view(-1))


def _found(chosen: Tensor, cap: int) -> Tensor:
    """Row · cap + place of all that are chosen of `[rows, n]` bool, row after row: `[m]` int64."""
    place, length = np.flatnonzero(chosen.numpy()), max(chosen.shape[1], 1)
    return torch.from_numpy(place + place // length * (cap - length))


def places(chosen: Tensor, most: int) -> Tensor:
    """The places in each row of `[rows, n]` bool that are chosen: `[rows, most]` int64 ascending, then zeros."""
    rows, length = chosen.shape
    place = torch.where(chosen, chosen.cumsum(1) - 1, most)
    index = torch.arange(length, device=chosen.device).expand(rows, -1)
    return torch.zeros(rows, most + 1, dtype=torch.int64, device=chosen.device).scatter_(1, place, index)[:, :most]


def put(stored: Tensor, at: Tensor, tokens: Tensor) -> None:
    """Writes tokens to their places: `stored[at] = tokens`, of contiguous `[slots, ...]` and `[n, ...]`."""
    if stored.dim() == 1 or not is_at_hand(stored):
        stored.index_copy_(0, at, tokens)
    else:
        _whole(stored)[at.numpy()] = _whole(tokens)


def put_tail(parts: Sequence[Tensor], moves: Moves, tail: slice) -> None:
    """Fills slots of contiguous `[rows, cap, ...]` on a CPU from the tail of each row, which takes no scratch."""
    rows, cap = parts[0].shape[:2]
    holes = (moves.target % cap).view(rows, -1).numpy()
    for stored in parts:
        for row, at in zip(_whole(stored.flatten(0, 1)).reshape(rows, cap), holes, strict=True):
            row[: tail.start][at] = row[tail]


def _whole(tokens: Tensor) -> np.ndarray:
    """Tokens `[n, ...]` on a CPU, each as so many bytes."""
    size = tokens.itemsize * math.prod(tokens.shape[1:])
    return tokens.reshape(-1).view(torch.uint8).numpy().view(f"V{size}")
