"""All that a memory allocates: the slots of all layers, and recurrent states beside them; how it is filled and named.

Knows nothing of what is held, of transactions or of policies.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from infinipot.errors import PolicyError
from infinipot.memory.positions import PositionRule
from infinipot.memory.states import States
from infinipot.memory.storage import LayerShape, Rows, StateShape, allocated_bytes
from infinipot.memory.transaction import Origin
from infinipot.policies.base import HIDDEN

_STATES = "states."  # in front of the names of recurrent states


class Slots:
    """The storage of one memory, allocated once.

    Args:
        cap: slots a row.
        shapes: what each layer of the model stores, and where.
        columns: what is stored of a token beside its key and value: names and types.

    Attributes:
        shapes: what each layer stores.
        groups: the layers' slots, those of one shape and device together.
        states: the recurrent states beside them.
        layers: how many layers hold slots.
        bytes: what is allocated.
    """

    def __init__(self, cap: int, shapes: Sequence[LayerShape | StateShape], columns: Mapping[str, torch.dtype]) -> None:
        self.shapes = tuple(shapes)
        slots = [(number, shape) for number, shape in enumerate(shapes) if isinstance(shape, LayerShape)]
        self.layers = len(slots)
        self.groups: list[Rows] = []
        self._places: dict[int, tuple[Rows, slice]] = {}
        for shape in dict.fromkeys(shape for _, shape in slots):
            numbers = [place for place, (_, own) in enumerate(slots) if own == shape]
            group = Rows(cap, shape, numbers, columns)
            self.groups.append(group)
            for place in numbers:
                self._places[slots[place][0]] = group, group.rows_of(place)
        self.states = States(shapes)
        self.bytes = allocated_bytes(cap, shapes, columns)

    def place(self, layer: int) -> tuple[Rows, slice]:
        """Where a layer of the model, by its number, has its slots."""
        return self._places[layer]

    def clear(self, held: int, columns: Sequence[str]) -> None:
        """Sets a policy's columns to 0 in the slots after those held, as they are in new storage.

        Text tokens leave these columns as they are, so stale values of evicted tokens remain. They are cleared only
        when a copy is made, so that copy and original go on to the same numbers; no pass pays for it.

        Args:
            held: how many of the first slots stay as they are.
            columns: their names.
        """
        for group in self.groups:
            for name in columns:
                group.columns[name][:, held:].zero_()

    def stored(self, held: int) -> dict[str, Tensor]:
        """All tensors that make what the first slots hold, by name: views of them."""
        named = {
            f"{number}.{name}": part
            for number, group in enumerate(self.groups)
            for name, part in group.stored(held).items()
        }
        for number, (conv, recurrent) in enumerate(self.states.committed()):
            named |= {f"{_STATES}{number}.conv": conv, f"{_STATES}{number}.recurrent": recurrent}
        return named

    def layout(self, held: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Types and shapes of what `stored` gives."""
        return {
            name: (part.dtype, tuple(part.shape) if name.startswith(_STATES) else (len(part), held, *part.shape[2:]))
            for name, part in self.stored(0).items()
        }

    def fill(self, stored: Mapping[str, Tensor], *, begun: bool) -> None:
        """Takes over what `stored` gave of other storage of this shape; `begun`: whether that held anything."""
        for number, group in enumerate(self.groups):
            group.fill({name: stored[f"{number}.{name}"] for name in group.stored(0)})
        states = range(len(self.states.recurrent))
        recurrent = [(stored[f"{_STATES}{each}.conv"], stored[f"{_STATES}{each}.recurrent"]) for each in states]
        self.states.fill(recurrent, begun=begun)

    def record(self, start: int, end: int, origin: Origin) -> None:
        """Writes where the tokens of some slots come from."""
        temporal, height, width = origin.positions
        known = {"temporal": temporal, "height": height, "width": width, "base": origin.base}
        known |= {"patch": origin.patch, "cell": origin.cell, "time": origin.time}
        for group in self.groups:
            for name, column in group.columns.items():
                if name == HIDDEN:
                    column[:, start:end] = 0
                if name in known:
                    column[:, start:end] = known[name].to(column.device, column.dtype, non_blocking=True)


def stored_columns(rule: PositionRule, columns: Sequence[str] = ()) -> dict[str, torch.dtype]:
    """What a memory stores of each token beside its key and value: names and types."""
    positions = ("temporal", "base") if rule.flat else ("temporal", "height", "width")
    own = dict.fromkeys(("patch", "cell", *positions), torch.int32) | {"time": torch.float64}
    if taken := set(own) & set(columns):
        raise PolicyError(f"a policy's column cannot be called {min(taken)!r}: the memory has one of that name")
    return own | dict.fromkeys(columns, torch.float32)
