"""TaR, temporal-axis redundancy: how alike a token is to what its cell shows at other times; high: redundant.

InfiniPot-V, https://arxiv.org/abs/2506.15745. Keys are compared with their rotary rotation undone: rotated
keys grow apart with time whatever they show. A piece or a KV head at a time, so that scratch stays a fraction of a
layer.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from infinipot.policies.base import VideoTokens

Reference = Literal["previous", "recent"]
Keys = Literal["unrotated", "rotated"]

PIECE = 1024  # tokens of a head that are compared at once: few enough to stay in a processor's cache
NEW = -torch.inf  # the TaR of a token that has nothing to be compared with: not redundant at all


def tar(tokens: VideoTokens, reference: Reference, recent: float, keys: Keys) -> Tensor:
    """TaR of every token, `[kv_heads, N]` float32: a cosine, or -inf where there is nothing to compare with.

    Args:
        reference: compare with the cell's previous token that the head holds, or with its recent ones.
        recent: for "recent": the share of the held patches that are recent, see `recent_patches`.
        keys: compare them "unrotated", or "rotated" as cached (an ablation).
    """
    if reference == "previous":
        arranged = tokens.unrotate if keys == "unrotated" else partial(_arranged, tokens.keys)
        return against_previous(arranged, tokens.cell)
    compared = tokens.unrotate() if keys == "unrotated" else tokens.keys
    cells = max(grid.first_cell + grid.cells for grid in tokens.grids)
    return against_recent(compared, tokens.cell, in_recent_patches(tokens, recent), cells)


def against_previous(arranged: Callable[[Tensor], Tensor], cell: Tensor) -> Tensor:
    """TaR(t, c) = cos(k(t, c), k(t⁻, c)), where t⁻ is the last patch before t of which the head holds cell c.

    Args:
        arranged: gives the keys of tokens in an order, `[kv_heads, n]` -> `[kv_heads, n, head_dim]`.
        cell: `[kv_heads, N]`, in order of arrival.
    """
    order = cell.argsort(dim=1, stable=True)  # cell by cell, each in order of arrival
    by_cell = cell.gather(1, order)
    again = by_cell[:, 1:] == by_cell[:, :-1]
    cosines = []
    for piece in range(0, cell.shape[1] - 1, PIECE):
        key = arranged(order[:, piece : piece + PIECE + 1]).float()
        norm = torch.linalg.vector_norm(key, dim=-1).clamp_min(1e-9)
        cosines.append((key[:, 1:] * key[:, :-1]).sum(-1) / (norm[:, 1:] * norm[:, :-1]))
    cosine = torch.cat(cosines, dim=1).masked_fill(~again, NEW)
    return torch.full(cell.shape, NEW, device=cell.device).scatter_(1, order[:, 1:], cosine)


def against_recent(keys: Tensor, cell: Tensor, recent: Tensor, cells: int) -> Tensor:
    """TaR(t, c) = 1/|R| Σ_{u ∈ R} cos(k(t, c), k(u, c)), R: the recent patches of which the head holds c.

    Recent tokens, and those of cells without a recent token, are not redundant. With unit keys k̂ the mean of
    cosines is one product, k̂(t, c) · mean_u k̂(u, c). (On CUDA the sum in it is the same to the bit in every
    run only under `torch.use_deterministic_algorithms`.)

    Args:
        keys: `[kv_heads, N, head_dim]`.
        cell: `[kv_heads, N]`, each below `cells`.
        recent: `[kv_heads, N]` bool, which tokens are of recent patches.
    """
    redundancy = torch.empty(cell.shape, device=keys.device)
    for head, key in enumerate(keys):
        unit = functional.normalize(key.float(), dim=-1)
        weight = recent[head].float()
        total = unit.new_zeros(cells, unit.shape[1]).index_add_(0, cell[head], unit * weight[:, None])
        count = unit.new_zeros(cells).index_add_(0, cell[head], weight)
        mean = total / count.clamp_min(1)[:, None]
        cosine = unit.mul_(mean.index_select(0, cell[head])).sum(-1)
        alone = count.index_select(0, cell[head]) == 0
        redundancy[head] = cosine.masked_fill(recent[head] | alone, NEW)
    return redundancy


def _arranged(keys: Tensor, order: Tensor) -> Tensor:
    return torch.stack([key.index_select(0, index) for key, index in zip(keys, order, strict=True)])


def recent_patches(tokens: VideoTokens, share: float) -> int:
    """r, how many of the newest patches are recent: a share of the N/P patches' worth held, at least one."""
    return max(1, int(share * tokens.cell.shape[1] / tokens.grids[-1].cells))


def in_recent_patches(tokens: VideoTokens, share: float) -> Tensor:
    """Which tokens come from the recent patches, `[kv_heads, N]` bool."""
    return tokens.patch > tokens.newest_patch - recent_patches(tokens, share)
