"""TaR, temporal-axis redundancy: how alike a token is to what its cell shows at other times; high: redundant.

InfiniPot-V, https://arxiv.org/abs/2506.15745. Keys are compared without their rotary rotation: rotated keys grow apart
with time whatever they show.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from infinipot.policies.rounding import widest_float
from infinipot.tokens import NewTokens, VideoTokens, is_at_hand, take

Reference = Literal["previous", "recent"]
Keys = Literal["unrotated", "rotated"]

NEW = -torch.inf  # the TaR of a token that has nothing to be compared with: not redundant at all


def tar_of_new(new: NewTokens) -> Tensor:
    """TaR(t, c) = cos(k(t, c), k(t⁻, c)), where t⁻ is the last patch before t of which the row holds cell c.

    Returns:
        `[rows, N]` float32: a cosine, or -inf where there is nothing to compare with.
    """
    return cosine(new.keys, new.previous).masked_fill(~new.has_previous, NEW)


def tar(tokens: VideoTokens, reference: Reference, recent: float, keys: Keys) -> Tensor:
    """TaR of every token as things stand, `[rows, N]` float32: a cosine, or -inf where nothing is to compare with.

    Args:
        reference: compare with the cell's previous token that the row holds, or with its recent ones.
        recent: for "recent": the share of the held patches that are recent, see `recent_patches`.
        keys: compare them "unrotated", or "rotated" as attention sees them (an ablation).
    """
    compared = tokens.keys if keys == "unrotated" else tokens.rotated
    if reference == "previous":
        return against_previous(compared, tokens)
    return against_recent(compared, tokens.cell, in_recent_patches(tokens, recent), tokens.cells)


def against_previous(keys: Tensor, tokens: VideoTokens) -> Tensor:
    """TaR against the last patch before a token's of which the row holds its cell: see `tar_of_new`.

    Args:
        keys: `[rows, N, head_dim]`.
    """
    order = ((tokens.cell.long() << 32) + tokens.patch).argsort(dim=1)  # cell by cell, each in order of time
    by_cell = tokens.cell.gather(1, order)
    again = by_cell[:, 1:] == by_cell[:, :-1]
    key = take(keys, order)
    alike = cosine(key[:, 1:], key[:, :-1]).masked_fill(~again, NEW)
    return alike.new_full(tokens.shape, NEW).scatter_(1, order[:, 1:], alike)


def against_recent(keys: Tensor, cell: Tensor, recent: Tensor, cells: int) -> Tensor:
    """TaR(t, c) = 1/|R| Σ_{u ∈ R} cos(k(t, c), k(u, c)), R: the recent patches of which the row holds c.

    Recent tokens, and those of cells without a recent token, are not redundant. With unit keys k̂ the mean of cosines is
    one product, k̂(t, c) · mean_u k̂(u, c). The sum in it is taken wide, since tokens are added up as they lie.

    Args:
        keys: `[rows, N, head_dim]`.
        cell: `[rows, N]`, each below `cells`.
        recent: `[rows, N]` bool, which tokens are of recent patches.
    """
    rows, length, width = keys.shape
    unit = functional.normalize(keys.float(), dim=-1)
    weight = recent.float().view(-1)
    at = (cell + torch.arange(0, rows * cells, cells, device=cell.device).unsqueeze(1)).view(-1)
    flat = unit.view(-1, width)
    compared, into, weights = flat, at, weight
    if is_at_hand(flat):  # how many there are is known, so that only they need to be added up
        some = recent.view(-1).nonzero().squeeze(1)
        compared, into, weights = flat.index_select(0, some), at.index_select(0, some), weight.index_select(0, some)
    wide = (compared * weights.unsqueeze(1)).to(widest_float(flat.device))
    total = wide.new_zeros(rows * cells, width).index_add_(0, into, wide)
    count = unit.new_zeros(rows * cells).index_add_(0, into, weights)
    mean = total.div_(count.clamp_min(1).unsqueeze(-1)).float()
    alike = flat.mul_(mean.index_select(0, at)).sum(-1).view(rows, length)
    alone = (count == 0).index_select(0, at).view(rows, length)
    return alike.masked_fill_(recent | alone, NEW)


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Of `[..., head_dim]` each, in float32; 0 where either is 0."""
    one, other = one.float(), other.float()
    norms = torch.linalg.vector_norm(one, dim=-1) * torch.linalg.vector_norm(other, dim=-1)
    return (one * other).sum(-1).div_(norms.clamp_min_(1e-30))


def recent_patches(tokens: VideoTokens, share: float) -> int:
    """r, how many of the newest patches are recent: a share of the N/P patches' worth held, at least one."""
    return max(1, int(share * tokens.shape[1] / tokens.grids[-1].cells))


def in_recent_patches(tokens: VideoTokens, share: float) -> Tensor:
    """Which tokens come from the recent patches, `[rows, N]` bool."""
    return tokens.patch > tokens.newest_patch - recent_patches(tokens, share)
