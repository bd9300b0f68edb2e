"""New cells: what a policy measures of them, once, and the earlier tokens it can compare them with.

A token's previous token is the latest one of its cell that its row holds. Each row holds tokens of its own, so finding
it takes a search through all that is held, which is done only if the policy asks for it. Knows where slots lie.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from infinipot.errors import PolicyError
from infinipot.memory.storage import Rows
from infinipot.memory.transaction import Kind, Transaction
from infinipot.memory.view import Viewer
from infinipot.policies.base import Policy
from infinipot.tokens import NewTokens, cell_limit


def write_columns(policy: Policy, viewer: Viewer, transaction: Transaction) -> None:
    """Stores the columns that a policy measures of a transaction's cells.

    Args:
        policy: a policy with columns.
        viewer: shows what is held without the transaction, whose tokens come after it.
        transaction: a transaction with cells.

    Raises:
        PolicyError: a column is not one float32 per token.
    """
    slots, cells = _cells_of(transaction, viewer.held.tokens), torch.cat(transaction.cell_numbers).long().numpy()
    for group in viewer.groups:
        incoming, shape = Incoming(viewer, group, slots, cells), (group.count, len(slots))
        measured = policy.measure(incoming.tokens())
        for name in policy.columns:
            _check(policy, name, measured.get(name), shape)
        incoming.store({name: measured[name] for name in policy.columns})


def _cells_of(transaction: Transaction, start: int) -> np.ndarray:
    """The slots of a transaction's cells, `[n]` int64, if its tokens start at slot `start`."""
    slots = []
    for tokens, kind in transaction.runs:
        if kind is Kind.CELL:
            slots.append(np.arange(start, start + tokens))
        start += tokens
    return np.concatenate(slots)


def _check(policy: Policy, name: str, column: Tensor | None, shape: tuple[int, int]) -> None:
    if column is None or column.shape != shape or column.dtype != torch.float32:
        result = "nothing" if column is None else f"{column.dtype} of shape {tuple(column.shape)}"
        raise PolicyError(
            f"policy {policy.name!r} gave {result} for its column {name!r}: float32 of shape {shape} was asked for"
        )


class Incoming:
    """The new cells of one group of rows, the same in each row.

    Args:
        viewer: shows what is held without them.
        group: the rows.
        slots, cells: `[n]` int64, their slots in order of arrival, and their cell numbers.
    """

    def __init__(self, viewer: Viewer, group: Rows, slots: np.ndarray, cells: np.ndarray) -> None:
        self._viewer, self._group = viewer, group
        self._numbers = slots, cells
        first, last = int(slots[0]), int(slots[-1])
        self._run = slice(first, last + 1) if last + 1 - first == len(slots) else None

    def tokens(self) -> NewTokens:
        """The new cells of all rows, as a policy sees them."""
        group = self._group

        def read(name: str, some: slice) -> Tensor:
            if name == "previous":
                at = self._previous[1][some]
                return group.keys.flatten(0, 1).index_select(0, at.reshape(-1)).view(*at.shape, -1)
            if name == "has_previous":
                return self._previous[0][some]
            return self._part({"keys": group.keys, "values": group.values}[name][some])

        return NewTokens(
            patch=self._part(group.columns["patch"]),
            cell=self._part(group.columns["cell"]),
            read=read,
            **self._viewer.place(group, slice(None), len(self._numbers[0])),
        )

    def store(self, columns: Mapping[str, Tensor]) -> None:
        """Writes the columns of all rows."""
        for name, column in columns.items():
            if self._run is not None:
                self._group.columns[name][:, self._run] = column
            else:
                self._group.columns[name].index_copy_(1, self._slots, column)

    def _part(self, stored: Tensor) -> Tensor:
        """What the slots of the new tokens hold in some stored tensor: a view if the slots are contiguous."""
        return stored.index_select(1, self._slots) if self._run is None else stored[:, self._run]

    @cached_property
    def _slots(self) -> Tensor:
        """The slots of the tokens, on the rows' device."""
        return self._there(self._numbers[0])

    def _there(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self._group.shape.device, non_blocking=True)

    @cached_property
    def _previous(self) -> tuple[Tensor, Tensor]:
        """Whether each row holds an earlier token of the same cell, and where the latest of those is, held or new.

        Returns:
            `[rows, n]` bool, and `[rows, n]` int64, row · cap + slot, or any slot if there is none. All rows are
            searched at once, in few kernels, since only columns are read.
        """
        slots, cells = self._numbers
        new = self._there(_earlier(slots, cells))
        first, end = int(cells.min()), int(cells.max()) + 1
        latest = self._latest(first, end).index_select(1, self._there(cells - first))
        slot = torch.where(new >= 0, new, latest)
        rows, cap = self._group.count, self._group.cap
        start = torch.arange(0, rows * cap, cap, device=slot.device).unsqueeze(1)
        return slot >= 0, slot.clamp_min_(0).add_(start)

    def _latest(self, first: int, end: int) -> Tensor:
        """The slot of the latest token of each cell from `first` to `end` - 1, -1 for none: `[rows, cells]` int64."""
        viewer, columns, cap = self._viewer, self._group.columns, self._group.cap
        held = viewer.held
        run = slice(0, held.tokens) if held.run is None else held.run
        cell, patch = (columns[name][:, run].to(torch.int64, copy=True) for name in ("cell", "patch"))
        stamp = patch.mul_(cap).add_(torch.arange(run.start, run.stop, device=cell.device))
        if held.run is None or end - first < cell_limit(viewer.grids):  # there is text between them, or other cells
            stamp.masked_fill_((cell < first) | (cell >= end), -1)
            cell.sub_(first).clamp_(0, end - first - 1)
        latest = torch.full((len(cell), end - first), -1, device=cell.device, dtype=torch.int64)
        latest.scatter_reduce_(1, cell, stamp, "amax")
        return torch.where(latest >= 0, latest % cap, -1)


def _earlier(slots: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """For each new token the slot of the previous new token of its cell, -1 for none: `[n]` int64."""
    order = cells.argsort(kind="stable")  # cell by cell, in order of arrival
    here, later = order[:-1], order[1:]
    earlier = np.full_like(slots, -1)
    earlier[later] = np.where(cells[later] == cells[here], slots[here], -1)
    return earlier
