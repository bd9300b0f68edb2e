"""Where keys and values lie: storage of a fixed size, allocated once, and the transformers cache that writes to it.

The only file that knows how a transformers cache works. It knows nothing of videos, text or policies: a slot is a row.
Layers that keep a recurrent state in place of keys and values (linear attention) stand beside them: the cap is not for
those, their state never grows; what is common is that all go back to what was last committed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionLayer

from infinipot.errors import CapError

COORDINATE_BYTES, NOTE_BYTES = 4 * 4 + 8, 4


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer of the language model stores per slot, and where."""

    kv_heads: int
    head_dim: int
    device: torch.device
    dtype: torch.dtype

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot over all KV heads: a key, a value, its coordinates and a policy's note."""
        return self.kv_heads * (2 * self.head_dim * self.dtype.itemsize + COORDINATE_BYTES + NOTE_BYTES)


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


class Slab:
    """`cap` slots of one layer. Rows run over slots first, then heads, so that a gather moves whole rows.

    Attributes:
        keys, values: `[cap, kv_heads, head_dim]`.
        origin: `[cap, kv_heads, 4]` int32: temporal patch (-1 for text), cell, temporal position, base position.
        time: `[cap, kv_heads]` float64, seconds of video time.
        notes: `[cap, kv_heads]` float32, what the policy noted of cells that it has been shown.
    """

    __slots__ = ("keys", "notes", "origin", "time", "values")

    def __init__(self, cap: int, shape: LayerShape) -> None:
        rows = (cap, shape.kv_heads)
        self.keys = torch.empty(*rows, shape.head_dim, device=shape.device, dtype=shape.dtype)
        self.values = torch.empty_like(self.keys)
        self.origin = torch.empty(*rows, 4, device=shape.device, dtype=torch.int32)
        # Apple's GPUs have no float64.
        seconds = torch.float32 if shape.device.type == "mps" else torch.float64
        self.time = torch.empty(*rows, device=shape.device, dtype=seconds)
        self.notes = torch.zeros(*rows, device=shape.device, dtype=torch.float32)

    def parts(self) -> tuple[Tensor, ...]:
        return self.keys, self.values, self.origin, self.time, self.notes

    def gather(self, source: "Slab", rows: Tensor) -> None:
        """Fills the first slots with those of `source` that `rows` `[n, kv_heads]` names: slot · kv_heads + head.

        Allocates nothing.
        """
        slots, heads = rows.shape
        flat = rows.view(-1)
        for mine, theirs in zip(self.parts(), source.parts(), strict=True):
            width = theirs[0, 0].numel()
            out = mine[:slots].view(slots * heads, width)
            torch.index_select(theirs.view(-1, width), 0, flat, out=out)


class BoundedLayer(CacheLayerMixin):
    """One layer's part of the cache: appends to its slab, never beyond the cap.

    Attributes:
        filled: slots in use, and peak: the most that ever were.
    """

    is_sliding = False

    def __init__(self, cap: int, shape: LayerShape) -> None:
        super().__init__()
        self.cap = cap
        self.shape = shape
        self.slab = Slab(cap, shape)
        self.filled = 0
        self.peak = 0
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the storage was allocated when the stream opened."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Appends `[1, kv_heads, n, head_dim]` keys and values; returns all that is held, new ones last.

        Raises:
            CapError: they do not fit. Callers check before any work, so this is the last line of defence.
        """
        start, end = self.filled, self.filled + key_states.shape[-2]
        if end > self.cap:
            raise CapError(f"the memory holds {start} of {self.cap} tokens: {end - start} more do not fit")
        self.slab.keys[start:end].copy_(key_states[0].transpose(0, 1))
        self.slab.values[start:end].copy_(value_states[0].transpose(0, 1))
        self.filled = end
        self.peak = max(self.peak, end)
        return self._as_states(self.slab.keys), self._as_states(self.slab.values)

    def write_notes(self, notes: Tensor) -> None:
        """Stores a policy's notes `[kv_heads, n]` of the last n slots that are filled."""
        self.slab.notes[self.filled - notes.shape[1] : self.filled] = notes.T

    def _as_states(self, rows: Tensor) -> Tensor:
        return rows[: self.filled].transpose(0, 1).unsqueeze(0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.filled + query_length, 0

    def get_seq_length(self) -> int:
        return self.filled

    def get_max_length(self) -> int:
        return self.cap


class StateLayer(LinearAttentionLayer):
    """One layer's recurrent state, and the one that was last committed."""

    def __init__(self, shape: StateShape) -> None:
        super().__init__()
        self.lazy_initialization(
            conv_states=torch.zeros(shape.conv, device=shape.device, dtype=shape.dtype),
            recurrent_states=torch.zeros(shape.recurrent, device=shape.device, dtype=torch.float32),
        )
        self._committed = tuple(state.clone() for state in self.states())
        self._begun = False

    def states(self) -> tuple[Tensor, Tensor]:
        """The state as the model left it."""
        conv, recurrent = self.conv_states[0], self.recurrent_states[0]
        assert conv is not None, "both are there from the start"
        assert recurrent is not None
        return conv, recurrent

    def commit(self) -> None:
        """Makes the state as it is the one to go back to."""
        for kept, state in zip(self._committed, self.states(), strict=True):
            kept.copy_(state)
        self._begun = self.has_previous_state[0]

    def roll_back(self) -> None:
        """Goes back to the state that was last committed."""
        for kept, state in zip(self._committed, self.states(), strict=True):
            state.copy_(kept)
        self.has_previous_state[0] = self._begun


class BoundedCache(Cache):
    """A transformers cache whose layers never hold more than `cap` slots, and a spare slab for each kind of layer.

    A rewrite gathers the slots that stay from a layer's slab into the spare one and exchanges the two, layer by
    layer: scratch is one layer's, and nothing is copied twice.

    Attributes:
        bounded: the layers that hold keys and values.
        recurrent: those that hold a state.
    """

    def __init__(self, cap: int, shapes: Sequence[LayerShape | StateShape]) -> None:
        layers = [BoundedLayer(cap, at) if isinstance(at, LayerShape) else StateLayer(at) for at in shapes]
        self.bounded = [layer for layer in layers if isinstance(layer, BoundedLayer)]
        self.recurrent = [layer for layer in layers if isinstance(layer, StateLayer)]
        super().__init__(layers=list(layers))
        self._spare = {layer.shape: Slab(cap, layer.shape) for layer in self.bounded}

    def rewrite(self, layer: int, rows: Tensor) -> None:
        """Keeps of one bounded layer the slots that `rows` `[n, kv_heads]` names, in that order: see `Slab.gather`."""
        bounded = self.bounded[layer]
        spare = self._spare[bounded.shape]
        spare.gather(bounded.slab, rows)
        bounded.slab, self._spare[bounded.shape] = spare, bounded.slab
        bounded.filled = rows.shape[0]

    def commit(self) -> None:
        """Makes what the layers with a state hold what `roll_back` goes back to."""
        for layer in self.recurrent:
            layer.commit()

    def roll_back(self, slots: int) -> None:
        """Forgets every slot from `slots` on, and all states since the last commit."""
        for layer in self.bounded:
            layer.filled = slots
        for state in self.recurrent:
            state.roll_back()


def slot_shapes(shapes: Sequence[LayerShape | StateShape]) -> list[LayerShape]:
    """Those of the layers that hold slots."""
    return [shape for shape in shapes if isinstance(shape, LayerShape)]


def allocated_bytes(cap: int, shapes: Sequence[LayerShape | StateShape]) -> int:
    """Bytes that a cache of this cap allocates, its spare slabs and the states' copies included."""
    slots = slot_shapes(shapes)
    spares = {shape: shape.slot_bytes for shape in slots}
    states = sum(shape.bytes for shape in shapes if isinstance(shape, StateShape))
    return cap * (sum(shape.slot_bytes for shape in slots) + sum(spares.values())) + states
