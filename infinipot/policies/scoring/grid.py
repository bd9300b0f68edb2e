"""Where cells lie on their grids, and means over the cells around a token."""

from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

from infinipot.policies.scoring.rounding import widest_float
from infinipot.tokens import Grid, cell_limit


def neighbour_mean(
    norm: Tensor, patch: Tensor, cell: Tensor, grids: tuple[Grid, ...], reach: tuple[int, ...]
) -> Tensor:
    """The mean over each token and those of its neighbours that the row holds.

    Adjacent patches are the previous and the next of which the row holds anything; neighbours are on the same grid.
    Tokens are sorted by (patch, cell), so the neighbours in one grid row of one patch are consecutive: two binary
    searches find them and a running sum adds them up, in scratch that does not grow with the grid. A norm that is not
    finite affects its own token only.

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
    """The row, the column, and the rows and columns of its grid, for each cell number: `[4, cell_limit]`."""
    layout = torch.zeros(4, cell_limit(grids), dtype=torch.int64, device=device)
    for grid in grids:
        number = torch.arange(grid.cells, device=device)
        size = torch.full_like(number, grid.rows), torch.full_like(number, grid.columns)
        own = slice(grid.first_cell, grid.first_cell + grid.cells)
        layout[:, own] = torch.stack([number // grid.columns, number % grid.columns, *size])
    return layout


def _patch_rank(patch: Tensor) -> Tensor:
    """For each token, the rank of its patch among those that the row holds: `[rows, N]` int64."""
    return pad((patch[:, 1:] != patch[:, :-1]).cumsum(1), (1, 0))
