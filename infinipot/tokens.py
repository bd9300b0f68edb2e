"""The types that memory and policies share: grids of cells, and held video tokens. Knows no models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

AT_HAND = {"cpu"}  # kinds of devices that can be read without waiting
_ARRIVALS = 1 << 31  # `VideoTokens.arrival` is below it


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of one temporal patch: `rows` x `columns`, numbered row by row from `first_cell`.

    Each resolution that a stream has seen has a grid and cell numbers of its own, so that tokens of different grids
    never share a cell.
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

    @property
    def corners(self) -> set[int]:
        """The numbers of its four corners, of which some are the same in a row, a column or a single cell."""
        first, last = (self.first_cell + row * self.columns for row in (0, self.rows - 1))
        return {start + step for start in (first, last) for step in (0, self.columns - 1)}


def cell_limit(grids: Sequence[Grid]) -> int:
    """One more than the highest cell number of some grids. Forgotten grids leave gaps below it."""
    return max((grid.first_cell + grid.cells for grid in grids), default=0)


@dataclass(frozen=True, eq=False)
class VideoTokens:
    """N video tokens in each of some rows. A row is one KV head of one layer and holds tokens of its own.

    The tokens of a row are in no particular order; `arrival` has the order in which they came in.

    Attributes:
        patch: `[rows, N]` int32, the temporal patch of each token, numbered through the stream.
        cell: `[rows, N]` int32, the cell number of each token (see `Grid`).
        grids: the grids the stream has seen, the current one last.
        newest_patch: the index of the newest temporal patch given to the stream.
        layer: the layer of each row, out of `layers`.
        head: the KV head of each row, by its number in its layer; other processes may hold other heads.
        columns: `[rows, N]` each, what the policy stored of the tokens when they came in (see `Policy.measure`).
        read: returns "keys", "values" or "rotated" of some of the rows.
        at_once: how many rows' keys or values fit a bounded scratch; None if all do.
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
        """`[rows, N, head_dim]`, keys without rotary rotation, so that they do not differ by time alone."""
        return self.read("keys", slice(None))

    @property
    def rotated(self) -> Tensor:
        """`[rows, N, head_dim]`, keys rotated to their positions, as attention sees them."""
        return self.read("rotated", slice(None))

    @property
    def values(self) -> Tensor:
        """`[rows, N, head_dim]`."""
        return self.read("values", slice(None))

    def by_rows(self, name: str, measure: Callable[[Tensor], Tensor]) -> Tensor:
        """Applies `measure` to the keys or values of all rows, as many rows at a time as fit a bounded scratch.

        Args:
            name: "keys", "values" or "rotated".
            measure: maps `[n, N, head_dim]`, for n rows, to `[n, N]`.

        Returns:
            `[rows, N]` float32.
        """
        result = torch.empty(self.shape, dtype=torch.float32, device=self.cell.device)
        for rows in self.pieces():
            result[rows] = measure(self.read(name, rows))
        return result

    def pieces(self, times: int = 1) -> Iterator[slice]:
        """All rows, in slices for which a bounded scratch holds `times` their keys or values."""
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
        """`[rows, N]` int64, at least 0 and below 2^31: higher for later tokens."""
        if (self.newest_patch + 1) * self.cell_limit <= _ARRIVALS:
            return self._came
        order = self.in_order()  # in so long a stream, the rank of each token in its row
        places = torch.arange(order.shape[1], device=order.device)
        return torch.empty_like(order).scatter_(1, order, places.expand_as(order))

    @property
    def _came(self) -> Tensor:
        """`[rows, N]` int64, a number for each token of the stream: higher for later tokens."""
        return torch.add(self.cell, self.patch.long(), alpha=self.cell_limit)

    @property
    def newest_held(self) -> Tensor:
        """`[rows, 1]` int32, the newest patch of which each row holds anything: a gate may have left out later ones."""
        return self.patch.amax(1, keepdim=True)

    @property
    def at_corner(self) -> Tensor:
        """`[rows, N]` bool, whether a token is at one of the four corners of its patch."""
        corners = torch.tensor([cell for grid in self.grids for cell in grid.corners], dtype=self.cell.dtype)
        return torch.isin(self.cell, corners.to(self.cell.device, non_blocking=True))

    def in_order(self) -> Tensor:
        """`[rows, N]` int64, the indices of each row's tokens in order of arrival."""
        return self._came.argsort(dim=1)

    def part(self, index: Tensor) -> Self:
        """The tokens at `index`, `[rows, n]` int64, as if no others were held."""
        return replace(
            self,
            patch=self.patch.gather(1, index),
            cell=self.cell.gather(1, index),
            columns={name: column.gather(1, index) for name, column in self.columns.items()},
            read=lambda name, rows: take(self.read(name, rows), index[rows]),
        )


@dataclass(frozen=True, eq=False)
class NewTokens(VideoTokens):
    """New tokens, with access to the previous token of each cell.

    `read` also returns "previous" and "has_previous"; the search for them runs when a policy first asks.
    """

    @property
    def has_previous(self) -> Tensor:
        """`[rows, N]` bool, whether the row holds an earlier token of the same cell, new or old."""
        return self.read("has_previous", slice(None))

    @property
    def previous(self) -> Tensor:
        """`[rows, N, head_dim]`, the unrotated key of the latest such token; an arbitrary key if there is none."""
        return self.read("previous", slice(None))


def take(states: Tensor, index: Tensor) -> Tensor:
    """The tokens of `states` `[rows, N, head_dim]` at `index` `[rows, n]` int64: `[rows, n, head_dim]`."""
    rows, length, width = states.shape
    if not states.is_contiguous():
        return states.gather(1, index.unsqueeze(-1).expand(-1, -1, width))
    start = torch.arange(rows, device=states.device).unsqueeze(1) * length
    return states.view(-1, width).index_select(0, (index + start).view(-1)).view(rows, -1, width)


def is_at_hand(tensor: Tensor) -> bool:
    """Whether a tensor's numbers can be read without waiting for a device."""
    return tensor.device.type in AT_HAND
