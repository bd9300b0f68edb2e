"""Where keys and values lie: storage of a fixed size, allocated once, whose tensors never move.

Layers of one shape on one device lie in one tensor each for keys, values and columns; a row of it is one KV head of one
layer, a slot one token of it. Knows nothing of videos, texts, policies or positions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infinipot.memory.moves import Moves, put, put_tail
from infinipot.tokens import is_at_hand

_PIECE = 2 << 20  # bytes that a CPU moves at once: they stay in its cache between their two places
AXES = ("temporal", "height", "width")  # columns of positions; the first alone where all axes are alike


def lacks_memory(error: Exception) -> bool:
    """Whether a device had no memory left: on a CPU, and on Apple's GPUs, torch has no class of its own for that."""
    said = str(error)
    other = isinstance(error, RuntimeError) and ("can't allocate memory" in said or "out of memory" in said)
    return other or isinstance(error, torch.OutOfMemoryError)


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer of the language model stores per slot, and where."""

    kv_heads: int
    head_dim: int
    device: torch.device
    dtype: torch.dtype

    def __post_init__(self) -> None:
        # "cuda" is "cuda:0" as tensors say it: one device has one name.
        object.__setattr__(self, "device", torch.empty(0, device=self.device).device)

    @property
    def read_bytes(self) -> int:
        """Bytes of scratch a slot over all KV heads: its keys as they are rotated, in float32, and as they are read."""
        width = 4 if self.dtype == torch.float32 else 4 + self.dtype.itemsize
        return self.kv_heads * self.head_dim * width

    def slot_bytes(self, columns: Mapping[str, torch.dtype]) -> int:
        """Bytes of one slot over all KV heads: a key, a value and its columns."""
        beside = sum(_stored(dtype, self.device).itemsize for dtype in columns.values())
        return self.kv_heads * (2 * self.head_dim * self.dtype.itemsize + beside)


@dataclass(frozen=True, slots=True)
class StateShape:
    """What a layer of linear attention stores, whatever it has seen: the end of a convolution's input, and a state.

    Attributes:
        conv: `[1, channels, kernel]`, of type `dtype`.
        recurrent: `[1, heads, key_dim, value_dim]`, float32.
    """

    conv: tuple[int, ...]
    recurrent: tuple[int, ...]
    device: torch.device
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Bytes of the state and of the copy to go back to."""
        return 2 * (math.prod(self.conv) * self.dtype.itemsize + math.prod(self.recurrent) * 4)


class Rows:
    """The slots of all layers of one shape on one device, rows of `cap` slots each.

    Args:
        cap: slots a row.
        shape: of each layer.
        layers: their numbers among the layers that hold slots, in order.
        columns: what is stored of a token beside its key and value: names and types.

    Attributes:
        keys, values: `[rows, cap, head_dim]`, keys in the layout of `Rotary`.
        columns: `[rows, cap]` each.
        axes: names of the columns of positions by which keys are rotated.
        layer_of_row, head_of_row: the number of each row's layer, and that of its KV head within the layer.
    """

    def __init__(self, cap: int, shape: LayerShape, layers: Sequence[int], columns: Mapping[str, torch.dtype]) -> None:
        self.cap, self.shape, self.layers = cap, shape, tuple(layers)
        self.layer_of_row = [layer for layer in layers for _ in range(shape.kv_heads)]
        self.head_of_row = [head for _ in layers for head in range(shape.kv_heads)]
        rows = (self.count, cap)
        self.axes = [axis for axis in AXES if axis in columns]
        self.keys = torch.empty(*rows, shape.head_dim, device=shape.device, dtype=shape.dtype)
        self.values = torch.empty_like(self.keys)
        self.columns = {
            name: torch.zeros(rows, device=shape.device, dtype=_stored(dtype, shape.device))
            for name, dtype in columns.items()
        }
        self._scratch = torch.empty(cap * shape.read_bytes, device=shape.device, dtype=torch.uint8)
        self._moved_states = [self._moving(part) for part in (self.keys, self.values)]
        self._moved_columns = [self._moving(part) for part in self.columns.values()]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.layer_of_row)

    @property
    def bytes(self) -> int:
        """What is allocated for good, scratch included; a forward needs activations beside it."""
        return sum(part.nbytes for part in (self.keys, self.values, *self.columns.values(), self._scratch))

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the scratch: room for the keys of one layer, as they are read."""
        return len(self._scratch)

    def rows_of(self, layer: int) -> slice:
        """The rows of one layer, by its number."""
        start = self.layers.index(layer) * self.shape.kv_heads
        return slice(start, start + self.shape.kv_heads)

    def stored(self, held: int) -> dict[str, Tensor]:
        """All that the first slots store, by name: `[rows, held, ...]`, views of it."""
        return {name: part[:, :held] for name, part in self._parts().items()}

    def _parts(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "values": self.values, **self.columns}

    def fill(self, stored: Mapping[str, Tensor]) -> None:
        """Takes over what the first slots of other rows of this shape store, a row at a time."""
        for name, part in self._parts().items():
            for row, content in zip(part, stored[name], strict=True):
                row[: len(content)] = content

    def scratch(self, *shapes: tuple[tuple[int, ...], torch.dtype]) -> list[Tensor]:
        """Tensors of these shapes and types on the one scratch, one after the other."""
        found, start = [], 0
        for shape, dtype in shapes:
            end = start + math.prod(shape) * dtype.itemsize
            found.append(self._scratch[start:end].view(dtype).view(shape))
            start = end
        return found

    def move(self, moves: Moves) -> None:
        """Fills slots from others, as many at once as the scratch holds; allocates nothing beside it."""
        count, moved = len(moves.source), [*self._moved_states, *self._moved_columns]
        if moves.tail is not None and count:
            put_tail((self.keys, self.values), moves, moves.tail)
            moved = self._moved_columns
        for stored, scratch in moved:
            at_once = scratch.shape[0]
            for start in range(0, count, at_once):
                source, target = moves.source, moves.target
                if count > at_once:
                    source, target = (index[start : start + at_once] for index in (source, target))
                waiting = scratch[: min(at_once, count - start)]
                torch.index_select(stored, 0, source, out=waiting)
                put(stored, target, waiting)

    def _moving(self, part: Tensor) -> tuple[Tensor, Tensor]:
        """Two views: of a part, as `[slots of all rows, ...]`, and of scratch for some of these slots."""
        flat = part.flatten(0, 1)
        room = min(len(self._scratch), _PIECE) if is_at_hand(part) else len(self._scratch)
        shape = max(1, room // (flat.itemsize * math.prod(flat.shape[1:]))), *flat.shape[1:]
        return flat, self.scratch((shape, flat.dtype))[0]


def _stored(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The type that a column has on a device: Apple's GPUs have no float64."""
    return torch.float32 if dtype == torch.float64 and device.type == "mps" else dtype


def slot_shapes(shapes: Sequence[LayerShape | StateShape]) -> list[LayerShape]:
    """The shapes of those layers that hold slots."""
    return [shape for shape in shapes if isinstance(shape, LayerShape)]


def token_bytes(shapes: Sequence[LayerShape | StateShape], columns: Mapping[str, torch.dtype]) -> int:
    """Bytes by which a memory grows with each token of its cap, over all layers."""
    return allocated_bytes(1, shapes, columns) - allocated_bytes(0, shapes, columns)


def allocated_bytes(cap: int, shapes: Sequence[LayerShape | StateShape], columns: Mapping[str, torch.dtype]) -> int:
    """Bytes that a memory of this cap allocates, its scratch and the states' copies included."""
    slots = slot_shapes(shapes)
    read = sum(shape.read_bytes for shape in dict.fromkeys(slots))
    states = sum(shape.bytes for shape in shapes if isinstance(shape, StateShape))
    return cap * (sum(shape.slot_bytes(columns) for shape in slots) + read) + states
