"""What a policy is shown of a memory: the cells that rows hold. Knows where slots lie."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infinipot.memory.held import Held
from infinipot.memory.moves import places
from infinipot.memory.rotary import Rotary
from infinipot.memory.storage import Rows
from infinipot.tokens import Grid, VideoTokens, is_at_hand, take

# The bytes that a policy is shown at a time. On a CPU they stay in its cache and in pages that the allocator keeps: new
# pages for each step cost more than the step itself. On a GPU the number of kernels matters, so there are more bytes,
# or a share of a large memory, and columns of all rows at once.
CACHE, SCRATCH, SHARE = 2 << 20, 8 << 20, 1 / 64
PART = 1 / 8  # the share of all slots that `by_rows` reads at once on a GPU, if that is more
_RANKED = 16  # bytes per token if only columns are read
_LEAST = 2  # rows at once: multiplying one matrix with a vector is several times slower than two


@dataclass(frozen=True, slots=True)
class Viewer:
    """Looks at the cells among the first slots of all rows.

    Attributes:
        groups: the rows, by shape and device.
        rotary: how their keys are rotated.
        held: what these slots hold.
        grids, layers: see `VideoTokens`.
        columns: the names of the policy's columns.
        fresh: for each group, new contents of some columns, shown in place of what is stored.
        rank: this process's number among those that share the heads.
    """

    groups: Sequence[Rows]
    rotary: Rotary
    held: Held
    grids: tuple[Grid, ...]
    layers: int
    columns: Sequence[str] = ()
    fresh: Sequence[Mapping[str, Tensor]] = ()
    rank: int = 0

    def chunks(
        self, tokens: int, reads_states: bool, *, whole_layers: bool = False, whole: bool = False
    ) -> Iterator[tuple[int, slice]]:
        """All rows in chunks that fit a bounded scratch, each as the number of a group and rows of it.

        Args:
            tokens: how many tokens of each row are read.
            reads_states: whether their keys or values are read.
            whole_layers: whether all rows of a layer are in one chunk.
            whole: whether all rows of a group are in one chunk, however large.
        """
        for number, group in enumerate(self.groups):
            rows = group.count
            if whole:
                at_once = rows
            elif reads_states:
                at_once = _at_once(group, tokens)
            else:
                at_once = max(_LEAST, CACHE // (_RANKED * max(tokens, 1))) if is_at_hand(group.keys) else rows
            heads = group.shape.kv_heads
            at_once = max(heads, at_once - at_once % heads) if whole_layers else at_once
            for start in range(0, rows, at_once):
                yield number, slice(start, min(start + at_once, rows))

    def slots(self, group: Rows, rows: slice) -> Tensor:
        """The slots of the cells of some rows, `[rows, count]` int64 ascending."""
        if self.held.run is not None:
            run = torch.arange(self.held.run.start, self.held.run.stop, device=group.shape.device)
            return run.expand(rows.stop - rows.start, -1)
        return places(group.columns["cell"][rows, : self.held.tokens] >= 0, self.held.cell_tokens)

    def tokens(self, group: Rows, rows: slice) -> VideoTokens:
        """The cells of some rows, as a policy sees them."""
        take_part = self._taking(group, rows)
        columns = {name: group.columns[name] for name in self.columns}
        for each, fresh in zip(self.groups, self.fresh, strict=False):
            columns |= fresh if each is group else {}

        def read(name: str, some: slice) -> Tensor:
            if name != "rotated":
                return take_part({"keys": group.keys, "values": group.values}[name], some)
            keys = take_part(group.keys, some).to(torch.float32, copy=True)
            positions = [take_part(group.columns[axis], some) for axis in group.axes]
            return self.rotary.rotate_(keys, self.rotary.angles(positions, self.held.cursor.next))

        return VideoTokens(
            patch=take_part(group.columns["patch"]),
            cell=take_part(group.columns["cell"]),
            columns={name: take_part(column) for name, column in columns.items()},
            read=read,
            **self.place(group, rows, self.held.cell_tokens),
        )

    def place(self, group: Rows, rows: slice, tokens: int) -> dict[str, Any]:
        """The arguments of `VideoTokens` that do not depend on the tokens, for `tokens` of them in each row."""
        return {
            "grids": self.grids,
            "newest_patch": self.held.cursor.patch - 1,
            "layer": group.layer_of_row[rows],
            "layers": self.layers,
            "head": [self.rank * group.shape.kv_heads + head for head in group.head_of_row[rows]],
            "at_once": _at_once(group, tokens, part=PART),
        }

    def _taking(self, group: Rows, rows: slice) -> Callable[..., Tensor]:
        """A function that selects the cells of these rows from a stored tensor: a view if they are contiguous."""
        run = self.held.run
        index = self.slots(group, rows) if run is None else None

        def part(stored: Tensor, some: slice = slice(None)) -> Tensor:
            own = stored[rows][some]
            if index is None:
                return own[:, run]
            return take(own, index[some]) if own.dim() > 2 else own.gather(1, index[some])

        return part


def _at_once(group: Rows, tokens: int, part: float = 0.0) -> int:
    """How many rows fit a bounded scratch, with the float32 keys of `tokens` tokens each.

    Args:
        part: a share of all slots to read at once on a GPU, if that is more.
    """
    at_hand = is_at_hand(group.keys)
    room = CACHE if at_hand else max(SCRATCH, int(SHARE * group.bytes))
    slots = 0 if at_hand else int(part * group.cap * group.count)
    return max(_LEAST, max(room // (4 * group.shape.head_dim), slots) // max(tokens, 1))
