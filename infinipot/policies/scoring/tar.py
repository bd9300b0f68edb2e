"""TaR, temporal-axis redundancy: how alike a token is to what its cell shows at other times; high: redundant.

InfiniPot-V, https://arxiv.org/abs/2506.15745. Keys are compared without their rotary rotation: rotated keys grow apart
with time whatever they show.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from infinipot.policies.scoring.recency import in_recent_patches
from infinipot.policies.scoring.rounding import along_each, widest_float
from infinipot.tokens import NewTokens, VideoTokens, is_at_hand, take

Reference = Literal["previous", "recent"]
Keys = Literal["unrotated", "rotated"]

_SHORTEST = 1e-12  # that a length is taken for, as `functional.normalize` has it
_TIMES = 2  # a comparison of keys takes more scratch than a norm: it reads half as many rows at once
NEW = -torch.inf  # the TaR of a token that has nothing to be compared with: not redundant at all


def tar_of_new(new: NewTokens) -> Tensor:
    """TaR(t, c) = cos(k(t, c), k(t⁻, c)), where t⁻ is the last patch before t of which the row holds cell c.

    Returns:
        `[rows, N]` float32: a cosine, or -inf where there is nothing to compare with.
    """
    alike = torch.cat([cosine(new.read("keys", rows), new.read("previous", rows)) for rows in new.pieces(_TIMES)])
    return alike.masked_fill_(~new.has_previous, NEW)


def tar(tokens: VideoTokens, reference: Reference, recent: float, keys: Keys = "unrotated") -> Tensor:
    """TaR of every token, `[rows, N]` float32: a cosine, or -inf where there is nothing to compare with.

    A policy that stores a column "tar" gets what `tar_of_new` gave when the token came in. Otherwise tokens are
    compared with what is held now, for as many rows at once as a bounded scratch holds.

    Args:
        reference: compare with the cell's previous token that the row holds, or with its recent ones.
        recent: for "recent": the share of the held patches that are recent, see `recent_patches`.
        keys: compare them "unrotated", or "rotated" as attention sees them (an ablation).
    """
    if "tar" in tokens.columns:
        return tokens.columns["tar"]
    name, newest = "keys" if keys == "unrotated" else keys, in_recent_patches(tokens, recent)
    sparse = tokens.cell_limit > tokens.shape[1]  # after frames of many sizes most cell numbers hold no token
    cells, count = (_in_a_row(tokens.cell), tokens.shape[1]) if sparse else (tokens.cell, tokens.cell_limit)

    def of(rows: slice) -> Tensor:
        compared, cell = tokens.read(name, rows), cells[rows]
        if reference == "previous":
            return against_previous(compared, cell, tokens.patch[rows])
        return against_recent(compared, cell, newest[rows], count)

    return torch.cat([of(rows) for rows in tokens.pieces(_TIMES)])


def against_previous(keys: Tensor, cell: Tensor, patch: Tensor) -> Tensor:
    """TaR against the last patch before a token's of which the row holds its cell: see `tar_of_new`.

    Args:
        keys: `[rows, N, head_dim]`.
        cell, patch: `[rows, N]` each.
    """
    order = ((cell.long() << 32) + patch).argsort(dim=1)  # cell by cell, each in order of time
    by_cell = cell.gather(1, order)
    again = by_cell[:, 1:] == by_cell[:, :-1]
    key = take(keys, order)
    alike = cosine(key[:, 1:], key[:, :-1]).masked_fill(~again, NEW)
    return alike.new_full(cell.shape, NEW).scatter_(1, order[:, 1:], alike)


def against_recent(keys: Tensor, cell: Tensor, recent: Tensor, cells: int) -> Tensor:
    """TaR(t, c) = 1/|R| Σ_{u ∈ R} cos(k(t, c), k(u, c)), R: the recent patches of which the row holds c.

    Recent tokens, and those of cells without a recent token, are not redundant. With unit keys k̂ the mean of cosines is
    one product, k(t, c) · mean_u k̂(u, c) / ‖k(t, c)‖. The sum in it is taken wide, since tokens are added up as they
    lie.

    Args:
        keys: `[rows, N, head_dim]`.
        cell: `[rows, N]`, each below `cells`.
        recent: `[rows, N]` bool, which tokens are of recent patches.
    """
    rows, _, width = keys.shape
    at = (cell + torch.arange(0, rows * cells, cells, device=cell.device).unsqueeze(1)).view(-1)
    flat, counts = keys.reshape(-1, width), recent.reshape(-1)
    length = torch.linalg.vector_norm(flat, dim=-1, dtype=torch.float32).clamp_min_(_SHORTEST)
    told = [flat, at, length, counts]
    if is_at_hand(flat):  # how many recent ones there are is known, so that only they need to be added up
        some = counts.nonzero().squeeze(1)
        told = [part.index_select(0, some) for part in told]
    total, count = _sums_by_cell(*told, cells=rows * cells)
    mean = total.div_(count.clamp_min(1).unsqueeze(-1)).float()
    alike = along_each(flat, mean, at).div_(length).view(cell.shape)
    return alike.masked_fill_(recent | (count == 0).index_select(0, at).view(cell.shape), NEW)


def _in_a_row(cell: Tensor) -> Tensor:
    """The cells that each row holds tokens of, numbered from 0 without gaps: `[rows, N]` int64."""
    ordered, order = cell.sort(1)
    number = pad((ordered[:, 1:] != ordered[:, :-1]).cumsum(1), (1, 0))
    return torch.zeros_like(number).scatter_(1, order, number)


def _sums_by_cell(keys: Tensor, at: Tensor, length: Tensor, counts: Tensor, *, cells: int) -> tuple[Tensor, Tensor]:
    """Per cell, the sum of its unit keys that count, `[cells, head_dim]`, and how many there are, `[cells]`."""
    wide = widest_float(keys.device)
    unit = keys.to(wide, copy=True).div_(length.unsqueeze(1)).mul_(counts.unsqueeze(1))
    total = unit.new_zeros(cells, keys.shape[1]).index_add_(0, at, unit)
    return total, unit.new_zeros(cells).index_add_(0, at, counts.to(wide))


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Of `[..., head_dim]` each, in float32; 0 where either is 0."""
    one, other = one.float(), other.float()
    norms = torch.linalg.vector_norm(one, dim=-1) * torch.linalg.vector_norm(other, dim=-1)
    return (one * other).sum(-1).div_(norms.clamp_min_(1e-30))
