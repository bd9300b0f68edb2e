"""TaR, temporal-axis redundancy: how similar a token is to those of its cell at other times. High means redundant.

InfiniPot-V, https://arxiv.org/abs/2506.15745. Keys are compared without their rotary rotation, since rotated keys
diverge with time, whatever they show.
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

_SHORTEST = 1e-12  # the least length to divide by, as in `functional.normalize`
_TIMES = 2  # a comparison takes twice the scratch of a norm, so it reads half as many rows at once
NEW = -torch.inf  # the TaR of a token with nothing to compare with: not redundant at all


def tar_of_new(new: NewTokens) -> Tensor:
    """TaR(t, c) = cos(k(t, c), k(t⁻, c)), where t⁻ is the last patch before t whose cell c the row holds.

    Returns:
        `[rows, N]` float32: a cosine, or -inf where there is nothing to compare with.
    """
    cosines = torch.cat([cosine(new.read("keys", rows), new.read("previous", rows)) for rows in new.pieces(_TIMES)])
    return cosines.masked_fill_(~new.has_previous, NEW)


def tar(tokens: VideoTokens, reference: Reference, recent: float, keys: Keys = "unrotated") -> Tensor:
    """TaR of every token, `[rows, N]` float32: a cosine, or -inf where there is nothing to compare with.

    For a policy that stores a column "tar", the comparison with the previous token is what `tar_of_new` gave when the
    token came in. Otherwise tokens are compared with what is held now, for as many rows at once as a bounded scratch
    holds.

    Args:
        reference: compare with the cell's previous token that the row holds, or with its recent ones.
        recent: for "recent": the share of the held patches that are recent, see `recent_patches`.
        keys: compare them "unrotated", or "rotated" as attention sees them (an ablation).
    """
    if "tar" in tokens.columns and (reference, keys) == ("previous", "unrotated"):
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
    """TaR against the previous held token of the same cell: see `tar_of_new`.

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
    """TaR(t, c) = 1/|R| Σ_{u ∈ R} cos(k(t, c), k(u, c)), where R are the recent patches whose cell c the row holds.

    Recent tokens, and tokens of cells without a recent one, are not redundant. With unit keys k̂, the mean of cosines is
    one product, k(t, c) · mean_u k̂(u, c) / ‖k(t, c)‖. Its sum is in float64, since tokens are added in storage order.

    Args:
        keys: `[rows, N, head_dim]`.
        cell: `[rows, N]`, each below `cells`.
        recent: `[rows, N]` bool, which tokens are from recent patches.
    """
    rows, _, width = keys.shape
    at = (cell + torch.arange(0, rows * cells, cells, device=cell.device).unsqueeze(1)).view(-1)
    flat, counts = keys.reshape(-1, width), recent.reshape(-1)
    length = torch.linalg.vector_norm(flat, dim=-1, dtype=torch.float32).clamp_min_(_SHORTEST)
    parts = [flat, at, length, counts]
    if is_at_hand(flat):  # the recent tokens can be picked out without waiting for a device
        some = counts.nonzero().squeeze(1)
        parts = [part.index_select(0, some) for part in parts]
    total, count = _sums_by_cell(*parts, cells=rows * cells)
    mean = total.div_(count.clamp_min(1).unsqueeze(-1)).float()
    cosines = along_each(flat, mean, at).div_(length).view(cell.shape)
    return cosines.masked_fill_(recent | (count == 0).index_select(0, at).view(cell.shape), NEW)


def _in_a_row(cell: Tensor) -> Tensor:
    """The cell of each token, renumbered so that the cells that a row holds have no gaps: `[rows, N]` int64."""
    ordered, order = cell.sort(1)
    number = pad((ordered[:, 1:] != ordered[:, :-1]).cumsum(1), (1, 0))
    return torch.zeros_like(number).scatter_(1, order, number)


def _sums_by_cell(keys: Tensor, at: Tensor, length: Tensor, counts: Tensor, *, cells: int) -> tuple[Tensor, Tensor]:
    """For each cell, the sum of its unit keys that count, `[cells, head_dim]`, and their number, `[cells]`."""
    wide = widest_float(keys.device)
    unit = keys.to(wide, copy=True).div_(length.unsqueeze(1)).mul_(counts.unsqueeze(1))
    total = unit.new_zeros(cells, keys.shape[1]).index_add_(0, at, unit)
    return total, unit.new_zeros(cells).index_add_(0, at, counts.to(wide))


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """The cosine of two tensors `[..., head_dim]`, in float32; 0 where either vector is 0."""
    one, other = one.float(), other.float()
    norms = torch.linalg.vector_norm(one, dim=-1) * torch.linalg.vector_norm(other, dim=-1)
    return (one * other).sum(-1).div_(norms.clamp_min_(1e-30))
