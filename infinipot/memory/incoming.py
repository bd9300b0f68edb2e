"""Cells that come in: what a policy measures of them, once, and what it may compare them with.

A token's previous one is the latest of its cell that its row holds. Each row holds tokens of its own, so it takes a
search through all that is held; a policy that does not ask for it has none done. Knows where slots lie.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from infinipot.errors import PolicyError
from infinipot.memory.storage import Rows
from infinipot.memory.transaction import Kind, Transaction
from infinipot.memory.view import Viewer
from infinipot.policies.base import Policy
from infinipot.tokens import NewTokens, take


def write_columns(policy: Policy, viewer: Viewer, transaction: Transaction) -> None:
    """Stores what a policy measures of a transaction's cells.

    Args:
        policy: whose columns there are.
        viewer: of what is held without the transaction, behind which its tokens lie.
        transaction: has cells.

    Raises:
        PolicyError: a column is not one float32 a token.
    """
    slots, cells = _cells_of(transaction, viewer.held.tokens), torch.cat(transaction.cells).long()
    incoming = [Incoming(viewer, group, slots, cells) for group in viewer.groups]
    for number, rows in viewer.chunks(len(slots), reads_states=True):
        own, shape = incoming[number], (rows.stop - rows.start, len(slots))
        measured = policy.measure(own.tokens(rows))
        for name in policy.columns:
            _check(policy, name, measured.get(name), shape)
        own.store(rows, {name: measured[name] for name in policy.columns})


def _cells_of(transaction: Transaction, start: int) -> Tensor:
    """The slots of a transaction's cells, `[n]` int64 on the CPU, where its tokens lie from `start` on."""
    slots: list[int] = []
    for tokens, kind in transaction.runs:
        slots += range(start, start + tokens) if kind is Kind.CELL else ()
        start += tokens
    return torch.tensor(slots)


def _check(policy: Policy, name: str, column: Tensor | None, shape: tuple[int, int]) -> None:
    if column is None or column.shape != shape or column.dtype != torch.float32:
        given = "nothing" if column is None else f"{column.dtype} of shape {tuple(column.shape)}"
        raise PolicyError(
            f"policy {policy.name!r} gave {given} for its column {name!r}: float32 of shape {shape} was asked for"
        )


class Incoming:
    """Cells that come into one group of rows, the same into each.

    Args:
        viewer: of what is held without them.
        group: the rows.
        slots, cells: `[n]` int64 on the CPU, where they lie in order of arrival, and which cells they are.
    """

    def __init__(self, viewer: Viewer, group: Rows, slots: Tensor, cells: Tensor) -> None:
        self._viewer, self._group = viewer, group
        self._given = slots, cells
        self._slots = slots.to(group.shape.device, non_blocking=True)
        first, last = int(slots[0]), int(slots[-1])
        self._run = slice(first, last + 1) if last + 1 - first == len(slots) else None

    def tokens(self, rows: slice) -> NewTokens:
        """Those of some rows, as a policy sees them."""
        group = self._group

        def read(name: str, some: slice) -> Tensor:
            if name == "previous":
                return take(group.keys[rows][some], self._previous[rows][some].clamp_min(0))
            if name == "has_previous":
                return self._previous[rows][some] >= 0
            return self._part({"keys": group.keys, "values": group.values}[name][rows][some])

        return NewTokens(
            patch=self._part(group.columns["patch"][rows]),
            cell=self._part(group.columns["cell"][rows]),
            read=read,
            **self._viewer.place(group, rows),
        )

    def store(self, rows: slice, columns: Mapping[str, Tensor]) -> None:
        """Writes the columns of some rows."""
        for name, column in columns.items():
            if self._run is not None:
                self._group.columns[name][rows, self._run] = column
            else:
                self._group.columns[name][rows].index_copy_(1, self._slots, column)

    def _part(self, stored: Tensor) -> Tensor:
        """Of what some rows store of all slots that of these tokens: a view where they are one run."""
        return stored.index_select(1, self._slots) if self._run is None else stored[:, self._run]

    @cached_property
    def _previous(self) -> Tensor:
        """For each token the slot of its row's latest token of its cell before it, held or new, or -1.

        Returns:
            `[rows, n]` int64, of all rows at once: few kernels, since it looks at columns alone.
        """
        viewer, columns, held = self._viewer, self._group.columns, self._viewer.held.tokens
        device, cap = self._group.shape.device, self._group.cap
        cell, patch = (columns[name][:, :held].long() for name in ("cell", "patch"))
        stamp = torch.where(cell >= 0, patch * cap + torch.arange(held, device=device), -1)
        latest = torch.full((len(cell), viewer.cells_ever), -1, device=device, dtype=torch.int64)
        latest.scatter_reduce_(1, cell.clamp_min(0), stamp, "amax")
        slots, cells = self._given
        stamp = latest.index_select(1, cells.to(device, non_blocking=True))
        earlier = torch.tensor(_earlier(slots.tolist(), cells.tolist())).to(device, non_blocking=True)
        return torch.where(earlier >= 0, earlier, torch.where(stamp >= 0, stamp % cap, -1))


def _earlier(slots: Sequence[int], cells: Sequence[int]) -> list[int]:
    """For each new token the slot of the latest new token of its cell before it, -1 for none."""
    found, last = [], dict[int, int]()
    for slot, cell in zip(slots, cells, strict=True):
        found.append(last.get(cell, -1))
        last[cell] = slot
    return found
