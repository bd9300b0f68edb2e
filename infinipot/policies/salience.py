"""VaN, value norm: how much a token has to say, ‖v‖₂. High means salient.

InfiniPot-V, https://arxiv.org/abs/2506.15745. The norm may be averaged over a token's neighbours on the true
grid, fewer of them the deeper the layer.
"""

from collections.abc import Callable, Iterator
from itertools import groupby, product
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from infinipot.policies.rounding import widest_float
from infinipot.tokens import Grid, VideoTokens, cell_limit

Pooling = Literal["none", "layerwise"]
K = TypeVar("K")

# How far a token's neighbours reach to each side in (patches, rows, columns), for each quarter of the layers:
# 7x7x7, 5x5, 3 and the token alone.
REACH = ((3, 3, 3), (0, 2, 2), (0, 0, 1), (0, 0, 0))


def van(tokens: VideoTokens, pooling: Pooling) -> Tensor:
    """VaN of every token, `[rows, N]` float32, as it is or averaged over neighbours; from its column "van"."""
    norm = tokens.columns["van"]
    if pooling == "none":
        return norm
    order = tokens.in_order()
    patch, cell, pooled = (part.gather(1, order) for part in (tokens.patch, tokens.cell, norm))
    for reach, rows in by_group(tokens, lambda layer: REACH[4 * layer // tokens.layers]):
        if any(reach):
            pooled[rows] = neighbour_mean(pooled[rows], patch[rows], cell[rows], tokens.grids, reach)
    return norm.scatter(1, order, pooled)


def value_norm(values: Tensor) -> Tensor:
    """‖v‖₂ in float32: `[rows, N]` of `[rows, N, head_dim]`."""
    return torch.linalg.vector_norm(values, dim=-1, dtype=torch.float32)


def by_group(tokens: VideoTokens, group: Callable[[int], K]) -> Iterator[tuple[K, slice]]:
    """The rows whose layers are of one group, run by run, with that group.

    Args:
        tokens: whose rows lie layer by layer.
        group: that a layer is of, by the number of the layer.
    """
    start = 0
    for key, run in groupby(map(group, tokens.layer)):
        end = start + len(list(run))
        yield key, slice(start, end)
        start = end


def neighbour_mean(
    norm: Tensor, patch: Tensor, cell: Tensor, grids: tuple[Grid, ...], reach: tuple[int, ...]
) -> Tensor:
    """The mean over the neighbours that the row holds, itself included; what is not held does not count.

    The patches next to a patch are those before and after it of which the row holds anything, and neighbours
    are of one grid. Tokens are sorted by (patch, cell), so a token's neighbours in one row of one patch are
    a run: two binary searches find it and a running sum adds it up, in scratch that does not grow with the
    grid. A norm that is no finite number counts for its own token alone.

    Args:
        norm, patch, cell: `[rows, N]`, in order of arrival.
        reach: how many patches, rows and columns to each side.
    """
    row, column, rows, columns = layout(grids, cell.device)[:, cell.long()]
    cells = cell_limit(grids)
    place = _patch_rank(patch) * cells + cell  # rises along N
    finite = norm.isfinite()
    wide = widest_float(norm.device)
    running = pad(norm.masked_fill(~finite, 0.0).to(wide).cumsum(1), (1, 0))
    counted = pad(finite.long().cumsum(1), (1, 0))
    left, right = column.clamp_max(reach[2]), (columns - 1 - column).clamp_max(reach[2])
    total, count = torch.zeros_like(running[:, 1:]), torch.zeros_like(place)
    for ahead, down in product(range(-reach[0], reach[0] + 1), range(-reach[1], reach[1] + 1)):
        centre = place + ahead * cells + down * columns
        inside = (row + down >= 0) & (row + down < rows)
        start = torch.searchsorted(place, centre - left)
        stop = torch.where(inside, torch.searchsorted(place, centre + right, right=True), start)
        total += running.gather(1, stop) - running.gather(1, start)
        count += counted.gather(1, stop) - counted.gather(1, start)
    return torch.where(finite, (total / count.clamp_min(1)).float(), norm)


def layout(grids: tuple[Grid, ...], device: torch.device) -> Tensor:
    """For each cell number its row, its column, and the rows and columns of its grid: `[4, cells]`."""
    layout = torch.zeros(4, cell_limit(grids), dtype=torch.int64, device=device)
    for grid in grids:
        number = torch.arange(grid.cells, device=device)
        size = torch.full_like(number, grid.rows), torch.full_like(number, grid.columns)
        own = slice(grid.first_cell, grid.first_cell + grid.cells)
        layout[:, own] = torch.stack([number // grid.columns, number % grid.columns, *size])
    return layout


def _patch_rank(patch: Tensor) -> Tensor:
    """The patches that a row holds, numbered without gaps: `[rows, N]` int64."""
    return pad((patch[:, 1:] != patch[:, :-1]).cumsum(1), (1, 0))
