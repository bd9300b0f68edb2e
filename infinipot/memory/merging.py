"""Merges evicted tokens into kept ones: planned as weights, then done piece by piece, so that it can be interrupted.

A mean cannot be computed twice: writing it overwrites its inputs. So each piece (keys or values of a few rows) is first
computed in the rows' scratch, which touches nothing that is held. Only a complete result is marked as computed, and
from then on it is copied to its slots, as often as it takes. Nothing is allocated.

Means are computed in float32 and stored in the type of all keys and values. In half precision a mean of many tokens
stops moving, since what one more adds is less than half of its last digit: in bfloat16 after some hundred, in float16
after some thousand.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from infinipot.memory.moves import places
from infinipot.memory.storage import Rows
from infinipot.memory.view import Viewer
from infinipot.policies.base import MASS, Merge, Policy
from infinipot.tokens import is_at_hand


@dataclass(frozen=True, slots=True)
class Piece:
    """The merge of a few rows.

    Attributes:
        takers: `[n]` int64, row · cap + slot of the tokens that absorb others, padded with evicted slots.
        own: `[n, 1]` float32, the weight of each taker in its mean.
        source: `[e]` int64, row · cap + slot of the evicted tokens.
        place: `[e]` int64, which of `takers` absorbs each; n for none.
        share: `[e, 1]` float32, the weight of each evicted token in that mean.
    """

    takers: Tensor
    own: Tensor
    source: Tensor
    place: Tensor
    share: Tensor

    def compute(self, flat: Tensor, group: Rows) -> None:
        """Computes the means of `flat` `[rows · cap, head_dim]` in the scratch."""
        means, wide, narrow = self._scratch(flat, group)
        count = len(self.takers)
        _gather(flat, self.takers, narrow, means[:count])
        means[:count].mul_(self.own)
        means[count].zero_()
        _gather(flat, self.source, narrow, wide)
        means.index_add_(0, self.place, wide.mul_(self.share))

    def write(self, flat: Tensor, group: Rows) -> None:
        """Copies computed means to their slots."""
        means, _, narrow = self._scratch(flat, group)
        count = len(self.takers)
        result = means[:count] if narrow is None else narrow[:count].copy_(means[:count])
        flat.index_copy_(0, self.takers, result)

    def _scratch(self, flat: Tensor, group: Rows) -> tuple[Tensor, Tensor, Tensor | None]:
        count, sources, width = len(self.takers), len(self.source), flat.shape[1]
        parts = [((count + 1, width), torch.float32), ((sources, width), torch.float32)]
        parts += [] if flat.dtype == torch.float32 else [((max(count, sources), width), flat.dtype)]
        means, wide, *narrow = group.scratch(*parts)
        return means, wide, narrow[0] if narrow else None


@dataclass(slots=True)
class Merging:
    """The merge of one group of rows.

    Attributes:
        group: the rows.
        mass: `[rows, length]` float32, the column of masses after the merge.
        pieces: the pieces, in order.
        progress: two for each piece done, where keys and values count separately, and one more once the next is
            computed. It is one number, so that an update cannot be interrupted halfway.
    """

    group: Rows
    mass: Tensor
    pieces: list[Piece] = field(default_factory=list)
    progress: int = 0

    def make(self) -> None:
        """Does what remains of the merge."""
        for number, (piece, part) in enumerate(self._parts()):
            flat = part.view(-1, part.shape[-1])
            if self.progress <= 2 * number:
                piece.compute(flat, self.group)
                self.progress = 2 * number + 1
            if self.progress == 2 * number + 1:
                piece.write(flat, self.group)
                self.progress = 2 * number + 2

    def _parts(self) -> Iterator[tuple[Piece, Tensor]]:
        for piece in self.pieces:
            yield piece, self.group.keys
            yield piece, self.group.values


def plan_merging(policy: Policy, viewer: Viewer, kept: list[Tensor]) -> list[Merging]:
    """Plans the merge of evicted tokens that the policy asks for.

    Args:
        policy: a policy that merges.
        viewer: shows the cells.
        kept: for each group, the indices of the cells that stay, `[rows, count]` int64.
    """
    mergings = [Merging(group, group.columns[MASS][:, : viewer.held.tokens].clone()) for group in viewer.groups]
    for number, rows in viewer.chunks(viewer.held.cell_tokens, reads_states=True):
        merging, group = mergings[number], viewer.groups[number]
        stays, slots = kept[number][rows], viewer.slots(group, rows)
        if stays.shape[1] == slots.shape[1]:
            continue
        wanted = policy.merge(viewer.tokens(group, rows), stays)
        pieces, mass = _planned(wanted, stays, slots + _starts(group, rows), merging, rows)
        merging.pieces += pieces
        merging.mass[rows].scatter_(1, slots, mass)
    return mergings


def _starts(group: Rows, rows: slice) -> Tensor:
    return torch.arange(rows.start, rows.stop, device=group.shape.device).unsqueeze(1) * group.cap


def _planned(wanted: Merge, kept: Tensor, slots: Tensor, merging: Merging, rows: slice) -> tuple[list[Piece], Tensor]:
    """The merge of some rows, in pieces that fit the scratch, and the masses of their cells after it, `[rows, N]`."""
    count, length = slots.shape
    leaving = length - kept.shape[1]
    stays = torch.zeros(count, length, dtype=torch.bool, device=slots.device).scatter_(1, kept, True)
    evicted = places(~stays, leaving)
    into, weight = (part.gather(1, evicted) for part in (wanted.into, wanted.weight))
    goes = stays.gather(1, into) & (weight > 0)
    into = torch.where(goes, into, evicted)
    takes = torch.zeros_like(stays).scatter_(1, into, True) & stays
    most = min(kept.shape[1], leaving)
    if is_at_hand(slots):  # fewer takers are less work
        most = min(most, max(1, int(takes.sum(1).max())))
    real = torch.arange(most, device=slots.device) < takes.sum(1, keepdim=True)
    takers = torch.where(real, places(takes, most), evicted[:, :1])
    place = torch.where(goes, (takes.cumsum(1) - 1).gather(1, into), most)
    own, share = wanted.weight.gather(1, takers) * real, weight * goes
    total = torch.cat([own, torch.ones_like(own[:, :1])], 1).scatter_add(1, place, share)
    own, share = own / total[:, :most].clamp_min(1e-30), share / total.gather(1, place).clamp_min(1e-30)

    group = merging.group
    before = group.columns[MASS].view(-1)[slots]
    mass = before.scatter_add(1, into, before.gather(1, evicted) * goes)
    width = group.keys.shape[2] * (4 if group.keys.dtype == torch.float32 else 4 + group.keys.itemsize)
    at_once = max(1, group.scratch_bytes // (width * (most + leaving + 1)))
    pieces = []
    for start in range(0, count, at_once):
        some = slice(start, start + at_once)
        here = torch.arange(len(place[some]), device=slots.device).unsqueeze(1) * most
        none = here.numel() * most
        pieces.append(
            Piece(
                takers=slots.gather(1, takers)[some].reshape(-1),
                own=own[some].reshape(-1, 1),
                source=slots.gather(1, evicted)[some].reshape(-1),
                place=torch.where(place[some] < most, place[some] + here, none).view(-1),
                share=share[some].reshape(-1, 1),
            )
        )
    return pieces, mass


def _gather(flat: Tensor, index: Tensor, narrow: Tensor | None, out: Tensor) -> None:
    """`flat[index]` in float32."""
    if narrow is None:
        torch.index_select(flat, 0, index, out=out)
    else:
        torch.index_select(flat, 0, index, out=narrow[: len(index)])
        out.copy_(narrow[: len(index)])
