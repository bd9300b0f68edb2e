"""All that a memory allocates: the slots of all layers and the recurrent states, how they are filled and named.

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

_STATES = "states."  # the prefix of the names of recurrent states


class Slots:
    """The storage of one memory, allocated once.

    Args:
        cap: slots per row.
        shapes: what each layer of the model stores, and where.
        columns: the names and types of what is stored of a token, beside its key and value.

    Attributes:
        groups: the slots of the layers, grouped by shape and device.
        states: the recurrent states.
        layers: how many layers hold slots.
        bytes: the bytes allocated.
    """

    def __init__(self, cap: int, shapes: Sequence[LayerShape | StateShape], columns: Mapping[str, torch.dtype]) -> None:
        self._arguments = cap, tuple(shapes), dict(columns)
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
        """The group and rows that hold the slots of a layer of the model, by its number."""
        return self._places[layer]

    def copy(self, held: int) -> "Slots":
        """A copy with the same contents in its first `held` slots."""
        other = Slots(*self._arguments)
        other._fill([group.stored(held) for group in self.groups], self.states.committed(), begun=held > 0)
        return other

    def clear(self, held: int, columns: Sequence[str]) -> None:
        """Sets a policy's columns to 0 in the free slots, as they are in new storage.

        Text tokens do not write these columns, so values of evicted tokens remain there. They are cleared only when a
        copy is made, so that copy and original continue with the same numbers and no forward pays for it.

        Args:
            held: how many of the first slots are left as they are.
            columns: the names of the columns.
        """
        for group in self.groups:
            for name in columns:
                group.columns[name][:, held:].zero_()

    def stored(self, held: int) -> dict[str, Tensor]:
        """Views of all tensors that make up what the first `held` slots hold, by name."""
        return self._named([group.stored(held) for group in self.groups])

    def layout(self, held: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """The types and shapes of what `stored` returns."""
        return {
            name: (part.dtype, tuple(part.shape) if name.startswith(_STATES) else (len(part), held, *part.shape[2:]))
            for name, part in self.stored(0).items()
        }

    def fill(self, stored: Mapping[str, Tensor], *, begun: bool) -> None:
        """Copies what `stored` of other storage of this shape returned; `begun`: whether that held anything."""
        slots = [
            {name: stored[f"{number}.{name}"] for name in group.stored(0)} for number, group in enumerate(self.groups)
        ]
        states = range(len(self.states.recurrent))
        recurrent = [(stored[f"{_STATES}{each}.conv"], stored[f"{_STATES}{each}.recurrent"]) for each in states]
        self._fill(slots, recurrent, begun=begun)

    def record(self, start: int, end: int, origin: Origin) -> None:
        """Writes the origin of the tokens in some slots."""
        temporal, height, width = origin.positions
        known = {"temporal": temporal, "height": height, "width": width, "base": origin.base}
        known |= {"patch": origin.patch, "cell": origin.cell, "time": origin.time}
        for group in self.groups:
            for name, column in group.columns.items():
                if name == HIDDEN:
                    column[:, start:end] = 0
                if name in known:
                    column[:, start:end] = known[name].to(column.device, column.dtype, non_blocking=True)

    def _named(self, slots: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        tensors = {f"{number}.{name}": part for number, group in enumerate(slots) for name, part in group.items()}
        for number, (conv, recurrent) in enumerate(self.states.committed()):
            tensors |= {f"{_STATES}{number}.conv": conv, f"{_STATES}{number}.recurrent": recurrent}
        return tensors

    def _fill(
        self, slots: Sequence[Mapping[str, Tensor]], states: Sequence[tuple[Tensor, Tensor]], *, begun: bool
    ) -> None:
        for group, stored in zip(self.groups, slots, strict=True):
            group.fill(stored)
        self.states.fill(states, begun=begun)


def stored_columns(rule: PositionRule, columns: Sequence[str] = ()) -> dict[str, torch.dtype]:
    """The names and types of what a memory stores of each token, beside its key and value."""
    positions = ("temporal", "base") if rule.flat else ("temporal", "height", "width")
    own = dict.fromkeys(("patch", "cell", *positions), torch.int32) | {"time": torch.float64}
    if taken := set(own) & set(columns):
        raise PolicyError(f"a policy's column cannot be called {min(taken)!r}: the memory has one of that name")
    return own | dict.fromkeys(columns, torch.float32)
