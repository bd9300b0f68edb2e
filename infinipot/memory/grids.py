"""How the cells of the sizes of frames that a video has had are numbered, and which sizes are forgotten.

Each size has numbers of its own, so that tokens of two sizes never share a cell. A camera or a window that changes its
size again and again would make ever more of them: what is made for each number, such as where a cell was held last,
would take ever more memory. So sizes of which nothing is held are forgotten where there are many, and their numbers are
free again. Knows columns, not who chose what is held.
"""

from collections.abc import Sequence

import torch

from infinipot.errors import FrameError
from infinipot.memory.storage import Rows
from infinipot.tokens import Grid, cell_limit

KNOWN_GRIDS = 256  # beyond it, each new size makes those leave of which nothing is held
MOST_GRIDS = 1024  # that are held at once
Grids = tuple[Grid, ...]


def grid_of(grids: Grids, rows: int, columns: int) -> Grid:
    """The grid of a size: a known one, or else one with the first numbers that are free."""
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
    """The known grids after the grid of this size has become the current one, which stands last.

    Args:
        grids: so far.
        rows, columns: the size.
        groups: of all rows.
        held: how many of their first slots hold tokens.

    Raises:
        FrameError: cells of too many sizes are held.
    """
    known = grid_of(grids, rows, columns)
    if known not in grids and len(grids) >= KNOWN_GRIDS:
        grids = _held(grids, groups, held)
        known = grid_of(grids, rows, columns)
    return (*(grid for grid in grids if grid != known), known)


def _held(grids: Grids, groups: Sequence[Rows], held: int) -> Grids:
    """The grids of which anything is held, and the current one. Looks at the cells, and so waits for the devices."""
    seen = torch.zeros(cell_limit(grids) + 1, dtype=torch.bool)  # the first is for text
    for group in groups:
        cell = group.columns["cell"][:, :held].long().clamp_min_(-1).add_(1).view(-1)
        seen |= torch.zeros(len(seen), dtype=torch.bool, device=cell.device).index_fill_(0, cell, True).cpu()
    kept = tuple(grid for grid in grids if grid is grids[-1] or seen[grid.first_cell + 1 :][: grid.cells].any())
    if len(kept) >= MOST_GRIDS:
        raise FrameError(f"frames of {len(kept)} sizes are held, which is as many as a memory tells apart")
    return kept
