"""VaN, value norm: how much a token has to say, ‖v‖₂. High means salient.

InfiniPot-V, https://arxiv.org/abs/2506.15745. The norm may be averaged over a token's neighbours on the true
grid, fewer of them the deeper the layer.
"""

from itertools import product
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from infinipot.policies.base import Grid, VideoTokens

Pooling = Literal["none", "layerwise"]

# How far a token's neighbours reach to each side in (patches, rows, columns), for each quarter of the layers:
# 7x7x7, 5x5, 3 and the token alone.
REACH = ((3, 3, 3), (0, 2, 2), (0, 0, 1), (0, 0, 0))


def van(tokens: VideoTokens, pooling: Pooling) -> Tensor:
    """VaN of every token, `[kv_heads, N]` float32, as it is or averaged over neighbours."""
    norm = value_norm(tokens.values)
    reach = REACH[4 * tokens.layer // tokens.layers]
    if pooling == "none" or not any(reach):
        return norm
    return neighbour_mean(norm, tokens.patch, tokens.cell, tokens.grids, reach)


def value_norm(values: Tensor) -> Tensor:
    """‖v‖₂, `[kv_heads, N]` float32. Runs over N first, as memories store it: rows in a row are read faster."""
    return torch.linalg.vector_norm(values.transpose(0, 1), dim=-1, dtype=torch.float32).T


def neighbour_mean(
    norm: Tensor, patch: Tensor, cell: Tensor, grids: tuple[Grid, ...], reach: tuple[int, int, int]
) -> Tensor:
    """The mean over the neighbours that the head holds, itself included; what is not held does not count.

    The patches next to a patch are those before and after it of which the head holds anything, and neighbours
    are of one grid. Tokens are sorted by (patch, cell), so a token's neighbours in one row of one patch are
    a run: two binary searches find it and a running sum adds it up, in scratch that does not grow with the
    grid.

    Args:
        norm, patch, cell: `[kv_heads, N]`.
        reach: how many patches, rows and columns to each side.
    """
    row, column, rows, columns = _layout(grids, cell.device)[:, cell.long()]
    cells = max(grid.first_cell + grid.cells for grid in grids)
    place = _patch_rank(patch) * cells + cell  # rises along N
    running = pad(norm.to(_widest_float(norm.device)).cumsum(1), (1, 0))
    left, right = column.clamp_max(reach[2]), (columns - 1 - column).clamp_max(reach[2])
    total, count = torch.zeros_like(running[:, 1:]), torch.zeros_like(place)
    for ahead, down in product(range(-reach[0], reach[0] + 1), range(-reach[1], reach[1] + 1)):
        centre = place + ahead * cells + down * columns
        inside = (row + down >= 0) & (row + down < rows)
        start = torch.searchsorted(place, centre - left)
        stop = torch.where(inside, torch.searchsorted(place, centre + right, right=True), start)
        total += running.gather(1, stop) - running.gather(1, start)
        count += stop - start
    return (total / count).float()


def _layout(grids: tuple[Grid, ...], device: torch.device) -> Tensor:
    """For each cell number its row, its column, and the rows and columns of its grid: `[4, cells]`."""
    layout = torch.zeros(4, max(grid.first_cell + grid.cells for grid in grids), dtype=torch.int64, device=device)
    for grid in grids:
        number = torch.arange(grid.cells, device=device)
        size = torch.full_like(number, grid.rows), torch.full_like(number, grid.columns)
        own = slice(grid.first_cell, grid.first_cell + grid.cells)
        layout[:, own] = torch.stack([number // grid.columns, number % grid.columns, *size])
    return layout


def _patch_rank(patch: Tensor) -> Tensor:
    """The patches that a head holds, numbered without gaps: `[kv_heads, N]` int64."""
    return pad((patch[:, 1:] != patch[:, :-1]).cumsum(1), (1, 0))


def _widest_float(device: torch.device) -> torch.dtype:
    """What a running sum needs so that its differences stay exact enough; Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
