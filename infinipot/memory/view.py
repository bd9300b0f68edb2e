"""What a policy is shown of a memory: the cells that some rows hold, or that come in. Knows where slots lie."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infinipot.memory.rotary import Rotary
from infinipot.memory.storage import Rows, places
from infinipot.tokens import Grid, NewTokens, VideoTokens, take

# Keys or values that are read at once: as many bytes, in float32, as a processor's cache holds; on a GPU, where it is
# the number of kernels that counts, a share of all rows if that is more.
SCRATCH = 8 << 20
SHARE, SHARE_ON_CPU = 1 / 16, 0.0


@dataclass(frozen=True, slots=True)
class Viewer:
    """Looks at the cells among the first slots of all rows.

    Attributes:
        groups: the rows, by shape and device.
        rotary: how their keys are rotated.
        length: the slots looked at.
        cells: the run of slots that cells fill in all rows; None where they lie scattered.
        count: how many cells each row has among them.
        grids, newest_patch, layers: see `VideoTokens`.
        columns: names of the policy's.
        fresh: for each group, contents of some of them that are about to take the place of what is stored.
        highest: no position is above it.
        rank: this process's number among those that share the heads.
    """

    groups: Sequence[Rows]
    rotary: Rotary
    length: int
    cells: slice | None
    count: int
    grids: tuple[Grid, ...]
    newest_patch: int
    layers: int
    columns: Sequence[str] = ()
    fresh: Sequence[Mapping[str, Tensor]] = ()
    highest: int = 0
    rank: int = 0

    def chunks(self, tokens: int, reads_states: bool, *, whole_layers: bool = False) -> Iterator[tuple[int, slice]]:
        """All rows, as many at once as a bounded scratch holds the keys of: the number of a group, and rows of it.

        Args:
            tokens: how many of a row are looked at.
            reads_states: whether their keys or values are; else all rows of a group come at once.
            whole_layers: the rows of a layer come together.
        """
        for number, group in enumerate(self.groups):
            rows = len(group.layer)
            at_once = self._at_once(group, tokens) if reads_states else rows
            heads = group.shape.kv_heads
            at_once = max(heads, at_once - at_once % heads) if whole_layers else at_once
            for start in range(0, rows, at_once):
                yield number, slice(start, min(start + at_once, rows))

    def _at_once(self, group: Rows, tokens: int) -> int:
        """Rows of which a bounded scratch holds the keys, in float32, of so many tokens each."""
        width = 4 * group.shape.head_dim * max(tokens, 1)
        share = SHARE_ON_CPU if group.shape.device.type == "cpu" else SHARE
        return max(1, SCRATCH // width, int(share * len(group.layer)))

    def slots(self, group: Rows, rows: slice) -> Tensor:
        """The slots of the cells of some rows, `[rows, count]` int64 ascending."""
        if self.cells is not None:
            run = torch.arange(self.cells.start, self.cells.stop, device=group.shape.device)
            return run.expand(rows.stop - rows.start, -1)
        return places(group.columns["cell"][rows, : self.length] >= 0, self.count)

    def tokens(self, group: Rows, rows: slice) -> VideoTokens:
        """The cells of some rows."""
        take_part = self._taking(group, rows)
        columns = {name: group.columns[name] for name in self.columns}
        for each, fresh in zip(self.groups, self.fresh, strict=False):
            columns |= fresh if each is group else {}

        def read(name: str, some: slice) -> Tensor:
            if name != "rotated":
                return take_part({"keys": group.keys, "values": group.values}[name], some)
            keys = take_part(group.keys, some).to(torch.float32, copy=True)
            positions = [take_part(group.columns[axis], some) for axis in group.axes]
            return self.rotary.rotate_(keys, self.rotary.angles(positions, self.highest))

        return VideoTokens(
            patch=take_part(group.columns["patch"]),
            cell=take_part(group.columns["cell"]),
            columns={name: take_part(column) for name, column in columns.items()},
            read=read,
            at_once=self._at_once(group, self.count),
            **self._place(group, rows),
        )

    def new_tokens(self, group: Rows, rows: slice, new: "NewSlots", previous: Tensor) -> NewTokens:
        """Cells that come in, the same of all rows, with `previous` slots of all rows: see `previous_slots`."""
        where = previous[rows]

        def part(tensor: Tensor) -> Tensor:
            return tensor[rows, new.run] if new.is_run else tensor[rows].index_select(1, new.slots)

        def read(name: str, some: slice) -> Tensor:
            if name == "previous":
                return take(group.keys[rows][some], where[some].clamp_min(0))
            return part({"keys": group.keys, "values": group.values}[name])[some]

        return NewTokens(
            patch=part(group.columns["patch"]),
            cell=part(group.columns["cell"]),
            has_previous=where >= 0,
            read=read,
            **self._place(group, rows),
        )

    def previous_slots(self, group: Rows, held: int, new: "NewSlots") -> Tensor:
        """For each new token the slot of a row's latest token of its cell before it, among the first `held` or new.

        Returns:
            `[rows, n]` int64, of all rows at once: few kernels, since it looks at columns alone; -1 for none.
        """
        device, cap = group.shape.device, group.cap
        cell, patch = (group.columns[name][:, :held].long() for name in ("cell", "patch"))
        stamp = torch.where(cell >= 0, patch * cap + torch.arange(held, device=device), -1)
        latest = torch.full((len(cell), self.cells_ever), -1, device=device, dtype=torch.int64)
        latest.scatter_reduce_(1, cell.clamp_min(0), stamp, "amax")
        stamp = latest.index_select(1, new.cells)
        return torch.where(new.earlier >= 0, new.earlier, torch.where(stamp >= 0, stamp % cap, -1))

    @property
    def cells_ever(self) -> int:
        """Cell numbers are below it."""
        return max(grid.first_cell + grid.cells for grid in self.grids)

    def _place(self, group: Rows, rows: slice) -> dict:
        return {
            "grids": self.grids,
            "newest_patch": self.newest_patch,
            "layer": group.layer[rows],
            "layers": self.layers,
            "head": [self.rank * group.shape.kv_heads + head for head in group.head[rows]],
        }

    def _taking(self, group: Rows, rows: slice) -> Callable[..., Tensor]:
        """Takes the cells of rows, or of some of them, from what is stored of all slots: a view if they are a run."""
        index = self.slots(group, rows) if self.cells is None else None

        def part(stored: Tensor, some: slice = slice(None)) -> Tensor:
            own = stored[rows][some]
            if index is None:
                return own[:, self.cells]
            return take(own, index[some]) if own.dim() > 2 else own.gather(1, index[some])

        return part


@dataclass(frozen=True, slots=True)
class NewSlots:
    """Where cells that come in lie, in order of arrival, on one device.

    Attributes:
        slots, cells: `[n]` int64, their slots, and their cells.
        earlier: `[n]` int64, the slot of the latest new token of the same cell before each, -1 for none.
        run: from the first slot to the last.
        is_run: whether no other tokens lie between them.
    """

    slots: Tensor
    cells: Tensor
    earlier: Tensor
    run: slice
    is_run: bool

    @classmethod
    def of(cls, slots: Tensor, cells: Tensor) -> "NewSlots":
        """Of slots and cells on the CPU."""
        earlier, last = [], dict[int, int]()
        for slot, cell in zip(slots.tolist(), cells.tolist(), strict=True):
            earlier.append(last.get(cell, -1))
            last[cell] = slot
        run = slice(int(slots[0]), int(slots[-1]) + 1)
        return cls(slots, cells.long(), torch.tensor(earlier), run, len(slots) == run.stop - run.start)

    def to(self, device: torch.device) -> "NewSlots":
        """The same on another device."""
        slots, cells, earlier = (part.to(device, non_blocking=True) for part in (self.slots, self.cells, self.earlier))
        return NewSlots(slots, cells, earlier, self.run, self.is_run)
