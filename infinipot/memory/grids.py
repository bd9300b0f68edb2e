"""How cells are numbered for each frame size that a video has had, and which sizes are forgotten.

Each size has cell numbers of its own, so that tokens of two sizes never share a cell. If a camera or window kept
changing its size, the numbers, and all that is allocated for each of them, would grow without bound. So once there are
many sizes, those of which nothing is held are forgotten and their numbers reused. Knows columns, not who chose what is
held.
"""

from collections.abc import Sequence

import torch

from infinipot.errors import FrameError
from infinipot.memory.storage import Rows
from infinipot.tokens import Grid, cell_limit

KNOWN_GRIDS = 256  # with more, each new size removes those of which nothing is held
MOST_GRIDS = 1024  # the most that can be held at once
Grids = tuple[Grid, ...]


def grid_of(grids: Grids, rows: int, columns: int) -> Grid:
    """The known grid of this size, or else a new one with the first free numbers."""
    known = next((grid for grid in grids if (grid.rows, grid.columns) == (rows, columns)), None)
    if known is not None:
        return known
    start = 0
    for grid in sorted(grids, key=lambda grid: grid.first_cell):
        if grid.first_cell - start >= rows * columns:
            break
        start = grid.first_cell + grid.cells
    return Grid(rows, columns, start)


def with_current(grids: Grids, rows: int, columns: int, groups: Sequence[Rows], held: int) -> Grids:
    """The known grids with the grid of this size as the current one, which is last.

    Args:
        grids: the known grids so far.
        rows, columns: the size.
        groups: all rows.
        held: how many of the first slots of each row hold tokens.

    Raises:
        FrameError: cells of too many sizes are held.
    """
    known = grid_of(grids, rows, columns)
    if known not in grids and len(grids) >= KNOWN_GRIDS:
        grids = _held(grids, groups, held)
        known = grid_of(grids, rows, columns)
    return (*(grid for grid in grids if grid != known), known)


def _held(grids: Grids, groups: Sequence[Rows], held: int) -> Grids:
    """The grids of which anything is held, and the current one. Reads the cells, and so waits for the devices."""
    seen = torch.zeros(cell_limit(grids) + 1, dtype=torch.bool)  # the first is for text
    for group in groups:
        cell = group.columns["cell"][:, :held].long().clamp_min_(-1).add_(1).view(-1)
        seen |= torch.zeros(len(seen), dtype=torch.bool, device=cell.device).index_fill_(0, cell, True).cpu()
    remaining = tuple(grid for grid in grids if grid is grids[-1] or seen[grid.first_cell + 1 :][: grid.cells].any())
    if len(remaining) >= MOST_GRIDS:
        raise FrameError(f"frames of {len(remaining)} sizes are held, which is as many as a memory tells apart")
    return remaining
