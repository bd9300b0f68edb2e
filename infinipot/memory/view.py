"""What a policy is shown of a memory: the cells that some rows hold. Knows where slots lie."""

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

# Bytes that a policy looks at at once. On a CPU they stay in its cache, and in what the allocator keeps: new pages for
# each step cost more than the step does. On a GPU, where it is the number of kernels that counts, they are more, or a
# share of a large memory, and columns are those of all rows.
CACHE, SCRATCH, SHARE = 2 << 20, 8 << 20, 1 / 64
PART = 1 / 8  # the share of all slots that `by_rows` reads there at once, if that is more
_RANKED = 16  # bytes of a token of which columns are looked at alone
_LEAST = 2  # rows at once: a single matrix is multiplied with a vector several times as slowly as two are


@dataclass(frozen=True, slots=True)
class Viewer:
    """Looks at the cells among the first slots of all rows.

    Attributes:
        groups: the rows, by shape and device.
        rotary: how their keys are rotated.
        held: what the slots looked at hold.
        grids, layers: see `VideoTokens`.
        columns: names of the policy's.
        fresh: for each group, contents of some of them that are about to take the place of what is stored.
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
        """All rows, as many at once as a bounded scratch holds: the number of a group, and rows of it.

        Args:
            tokens: how many of a row are looked at.
            reads_states: whether their keys or values are.
            whole_layers: the rows of a layer come together.
            whole: all rows of a group do, whatever that takes.
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
        return places(group.columns["cell"][rows, : self.held.tokens] >= 0, self.held.cells)

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
            return self.rotary.rotate_(keys, self.rotary.angles(positions, self.held.cursor.next))

        return VideoTokens(
            patch=take_part(group.columns["patch"]),
            cell=take_part(group.columns["cell"]),
            columns={name: take_part(column) for name, column in columns.items()},
            read=read,
            **self.place(group, rows, self.held.cells),
        )

    def place(self, group: Rows, rows: slice, tokens: int) -> dict[str, Any]:
        """The arguments of `VideoTokens` that do not depend on the tokens, for `tokens` of each of some rows."""
        return {
            "grids": self.grids,
            "newest_patch": self.held.cursor.patch - 1,
            "layer": group.layer_of_row[rows],
            "layers": self.layers,
            "head": [self.rank * group.shape.kv_heads + head for head in group.head_of_row[rows]],
            "at_once": _at_once(group, tokens, part=PART),
        }

    def _taking(self, group: Rows, rows: slice) -> Callable[..., Tensor]:
        """Takes the cells of rows, or of some of them, from what is stored of all slots: a view if they are a run."""
        run = self.held.run
        index = self.slots(group, rows) if run is None else None

        def part(stored: Tensor, some: slice = slice(None)) -> Tensor:
            own = stored[rows][some]
            if index is None:
                return own[:, run]
            return take(own, index[some]) if own.dim() > 2 else own.gather(1, index[some])

        return part


def _at_once(group: Rows, tokens: int, part: float = 0.0) -> int:
    """Rows of which a bounded scratch holds the keys, in float32, of so many tokens each.

    Args:
        part: of the slots of all rows, which are read at once where nobody's cache is the limit, if that is more.
    """
    at_hand = is_at_hand(group.keys)
    room = CACHE if at_hand else max(SCRATCH, int(SHARE * group.bytes))
    slots = 0 if at_hand else int(part * group.cap * group.count)
    return max(_LEAST, max(room // (4 * group.shape.head_dim), slots) // max(tokens, 1))
