"""What memory and policies both speak of: grids of cells, and the video tokens that are held. Knows no models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

AT_HAND = {"cpu"}  # kinds of devices that nobody has to wait for
_ARRIVALS = 1 << 31  # `VideoTokens.arrival` is below it


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of one temporal patch: `rows` x `columns`, numbered row by row from `first_cell`.

    Each resolution that a stream has seen has a grid of its own, with cell numbers of its own, so that tokens
    of different grids never share a cell.
    """

    rows: int
    columns: int
    first_cell: int

    @property
    def cells(self) -> int:
        """Cells per temporal patch (P)."""
        return self.rows * self.columns

    @property
    def numbers(self) -> range:
        """The numbers of its cells."""
        return range(self.first_cell, self.first_cell + self.cells)


def cell_limit(grids: Sequence[Grid]) -> int:
    """One more than the highest cell number of some grids; grids that were forgotten have left gaps below it."""
    return max((grid.first_cell + grid.cells for grid in grids), default=0)


@dataclass(frozen=True, eq=False)
class VideoTokens:
    """N video tokens of each of some rows, a row being one KV head of one layer, which holds tokens of its own.

    The tokens of a row stand in no particular order: `arrival` says in which they came.

    Attributes:
        patch: `[rows, N]` int32, the temporal patch of the stream that a token comes from.
        cell: `[rows, N]` int32, the cell it comes from (see `Grid`).
        grids: the grids the stream has seen, the current one last.
        newest_patch: index of the newest temporal patch that was given to the stream.
        layer: of each row, out of `layers`.
        head: of each row, its number in its layer; other processes may hold those before it.
        columns: `[rows, N]` each, what the policy stored of the tokens when they came in (see `Policy.measure`).
        read: gives "keys", "values" or "rotated" of some of the rows.
        at_once: rows whose states a bounded scratch holds; None where it holds those of all.
    """

    patch: Tensor
    cell: Tensor
    grids: tuple[Grid, ...]
    newest_patch: int
    layer: Sequence[int]
    layers: int
    head: Sequence[int]
    read: Callable[[str, slice], Tensor] = field(repr=False)
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    at_once: int | None = None

    @property
    def keys(self) -> Tensor:
        """`[rows, N, head_dim]`, without their rotary rotation, so that time alone makes no difference between them."""
        return self.read("keys", slice(None))

    @property
    def rotated(self) -> Tensor:
        """`[rows, N, head_dim]`, the keys turned to their positions, as attention sees them."""
        return self.read("rotated", slice(None))

    @property
    def values(self) -> Tensor:
        """`[rows, N, head_dim]`."""
        return self.read("values", slice(None))

    def by_rows(self, name: str, measure: Callable[[Tensor], Tensor]) -> Tensor:
        """What `measure` makes of the states of each row, read for as many rows at once as a bounded scratch holds.

        Args:
            name: "keys", "values" or "rotated".
            measure: `[n, N, head_dim]`, of n rows, to `[n, N]`.

        Returns:
            `[rows, N]` float32.
        """
        told = torch.empty(self.shape, dtype=torch.float32, device=self.cell.device)
        for rows in self.pieces():
            told[rows] = measure(self.read(name, rows))
        return told

    def pieces(self, times: int = 1) -> Iterator[slice]:
        """All rows, as many at once as those of which a bounded scratch holds so many times the states."""
        rows = len(self.cell)
        at_once = max(1, (self.at_once or rows) // times)
        return (slice(start, min(start + at_once, rows)) for start in range(0, rows, at_once))

    @property
    def shape(self) -> torch.Size:
        """Rows and N."""
        return self.cell.shape

    @property
    def cell_limit(self) -> int:
        """One more than the highest cell number that a token can have."""
        return cell_limit(self.grids)

    @cached_property
    def arrival(self) -> Tensor:
        """`[rows, N]` int64 from 0 to below 2^31: higher for what came later."""
        if (self.newest_patch + 1) * self.cell_limit <= _ARRIVALS:
            return self._came
        order = self.in_order()  # of a stream as long as that: each token's place among those of its row
        places = torch.arange(order.shape[1], device=order.device)
        return torch.empty_like(order).scatter_(1, order, places.expand_as(order))

    @property
    def _came(self) -> Tensor:
        """`[rows, N]` int64, a number for each token of a stream: higher for what came later."""
        return torch.add(self.cell, self.patch.long(), alpha=self.cell_limit)

    @property
    def newest_held(self) -> Tensor:
        """`[rows, 1]` int32, the newest patch of which a row holds anything: a gate may have left later ones out."""
        return self.patch.amax(1, keepdim=True)

    @property
    def at_corner(self) -> Tensor:
        """`[rows, N]` bool, whether a token is of one of the four corners of its patch."""
        corner = torch.zeros_like(self.cell, dtype=torch.bool)
        for grid in self.grids:
            last_row = grid.first_cell + grid.cells - grid.columns
            for cell in {first + step for first in (grid.first_cell, last_row) for step in (0, grid.columns - 1)}:
                corner |= self.cell == cell
        return corner

    def in_order(self) -> Tensor:
        """`[rows, N]` int64, the tokens of each row in order of arrival."""
        return self._came.argsort(dim=1)

    def part(self, index: Tensor) -> Self:
        """Some tokens of each row, as if no others were held: those at `index` `[rows, n]` int64."""
        return replace(
            self,
            patch=self.patch.gather(1, index),
            cell=self.cell.gather(1, index),
            columns={name: column.gather(1, index) for name, column in self.columns.items()},
            read=lambda name, rows: take(self.read(name, rows), index[rows]),
        )


@dataclass(frozen=True, eq=False)
class NewTokens(VideoTokens):
    """Tokens that come in, beside what their rows hold at that moment, other new tokens included.

    `read` gives "previous" and "has_previous" as well: the earlier tokens are looked for when a policy first asks.
    """

    @property
    def has_previous(self) -> Tensor:
        """`[rows, N]` bool, whether the row holds an earlier token of the same cell."""
        return self.read("has_previous", slice(None))

    @property
    def previous(self) -> Tensor:
        """`[rows, N, head_dim]`, the key of the latest of those, without rotation; any key where there is none."""
        return self.read("previous", slice(None))


def take(states: Tensor, index: Tensor) -> Tensor:
    """Of `[rows, N, head_dim]` the tokens at `index` `[rows, n]` int64: `[rows, n, head_dim]`."""
    rows, length, width = states.shape
    if not states.is_contiguous():
        return states.gather(1, index.unsqueeze(-1).expand(-1, -1, width))
    start = torch.arange(rows, device=states.device).unsqueeze(1) * length
    return states.view(-1, width).index_select(0, (index + start).view(-1)).view(rows, -1, width)


def is_at_hand(tensor: Tensor) -> bool:
    """Whether it waits for no device to look at a tensor's numbers."""
    return tensor.device.type in AT_HAND
