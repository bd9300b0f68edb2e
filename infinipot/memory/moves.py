"""Which slots are filled from which, and how tokens are moved. Knows rows and slots, not what is in them.

On a GPU, planning reads no numbers back, so that nothing waits: each row has as many moves as it could need at most. On
a CPU there are only as many as it needs, and NumPy moves each token as a block of bytes, where torch copies number by
number.
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
    """Which slots are filled from which.

    No slot is both a source and a target, so that moving can be repeated after an interrupt. A move may be listed more
    than once.

    Attributes:
        source, target: `[m]` int64 each, row · cap + slot.
        tail: the source slots of each row, if they are known to be the same contiguous run in all rows.
    """

    source: Tensor
    target: Tensor
    tail: slice | None = None


def plan_moves(stays: Tensor, kept: int, cap: int) -> Moves:
    """The moves that bring the slots that stay to the front. Each of them moves at most once.

    Args:
        stays: `[rows, n]` bool, `kept` of them in each row.
        kept: that number.
        cap: slots per row.
    """
    rows, length = stays.shape
    hole, mover = ~stays[:, :kept], stays[:, kept:]
    if is_at_hand(stays):  # each row has as many holes as movers, so they match in order
        source = _indices(mover, cap) + kept
        return Moves(source, _indices(hole, cap), slice(kept, length) if len(source) == mover.numel() else None)
    start = torch.arange(rows, device=stays.device).unsqueeze(1) * cap
    count, most = mover.sum(1, keepdim=True), min(kept, length - kept)
    again = torch.minimum(
        torch.arange(most, device=stays.device), (count - 1).clamp_min(0)
    )  # a row's last move pads the rest
    source = start + (places(mover, most) + kept * (count > 0)).gather(1, again)
    return Moves(source.view(-1), (start + places(hole, most).gather(1, again)).view(-1))


def _indices(chosen: Tensor, cap: int) -> Tensor:
    """Row · cap + place of every True in `[rows, n]` bool, row after row: `[m]` int64."""
    place, length = np.flatnonzero(chosen.numpy()), max(chosen.shape[1], 1)
    return torch.from_numpy(place + place // length * (cap - length))


def places(chosen: Tensor, most: int) -> Tensor:
    """The places of the Trues in each row of `[rows, n]` bool: `[rows, most]` int64 ascending, padded with zeros."""
    rows, length = chosen.shape
    place = torch.where(chosen, chosen.cumsum(1) - 1, most)
    index = torch.arange(length, device=chosen.device).expand(rows, -1)
    return torch.zeros(rows, most + 1, dtype=torch.int64, device=chosen.device).scatter_(1, place, index)[:, :most]


def put(stored: Tensor, at: Tensor, tokens: Tensor) -> None:
    """Writes `stored[at] = tokens`, for contiguous `stored` `[slots, ...]` and `tokens` `[n, ...]`."""
    if stored.dim() == 1 or not is_at_hand(stored):
        stored.index_copy_(0, at, tokens)
    else:
        _whole(stored)[at.numpy()] = _whole(tokens)


def put_tail(parts: Sequence[Tensor], moves: Moves, tail: slice) -> None:
    """Fills slots of contiguous `[rows, cap, ...]` on a CPU from the tail of each row, without scratch."""
    rows, cap = parts[0].shape[:2]
    holes = (moves.target % cap).view(rows, -1).numpy()
    for stored in parts:
        for row, at in zip(_whole(stored.flatten(0, 1)).reshape(rows, cap), holes, strict=True):
            row[: tail.start][at] = row[tail]


def _whole(tokens: Tensor) -> np.ndarray:
    """Tokens `[n, ...]` on a CPU as an array of n blocks of bytes."""
    size = tokens.itemsize * math.prod(tokens.shape[1:])
    return tokens.reshape(-1).view(torch.uint8).numpy().view(f"V{size}")
