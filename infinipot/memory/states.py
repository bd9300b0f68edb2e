"""Layers with a recurrent state instead of keys and values (linear attention). The cap does not apply to them.

Their state never grows. Like slots, they can be rolled back to what was last committed. This is the only part of the
memory that knows how a transformers cache works.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionLayer

from infinipot.memory.storage import LayerShape, StateShape


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
        """The present state."""
        conv, recurrent = self.conv_states[0], self.recurrent_states[0]
        assert conv is not None, "both are there from the start"
        assert recurrent is not None
        return conv, recurrent

    @property
    def committed(self) -> tuple[Tensor, Tensor]:
        """The state that was last committed."""
        conv, recurrent = self._committed
        return conv, recurrent

    def fill(self, conv: Tensor, recurrent: Tensor, *, begun: bool) -> None:
        """Takes over a state that was committed elsewhere; `begun`: whether the model has run over anything yet."""
        for saved, state in zip(self._committed, (conv, recurrent), strict=True):
            saved.copy_(state)
        self._begun = begun
        self.roll_back()

    def go_back(self, states: Sequence[Tensor], begun: bool) -> None:
        """Restores an earlier state from copies."""
        for state, saved in zip(self.states(), states, strict=True):
            state.copy_(saved)
        self.has_previous_state[0] = begun

    def commit(self) -> None:
        """Makes the present state the one to roll back to."""
        for saved, state in zip(self._committed, self.states(), strict=True):
            saved.copy_(state)
        self._begun = self.has_previous_state[0]

    def roll_back(self) -> None:
        """Goes back to the state that was last committed."""
        for saved, state in zip(self._committed, self.states(), strict=True):
            state.copy_(saved)
        self.has_previous_state[0] = self._begun


class SlotLayer(CacheLayerMixin):
    """A placeholder for a layer whose keys and values are in the memory: it returns its input."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Does nothing: there is nothing to initialize."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Returns both unchanged: attention itself writes them to the memory."""
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class States(Cache):
    """The transformers cache of all layers.

    Attributes:
        recurrent: the layers with a recurrent state; empty if a model has none.
    """

    def __init__(self, shapes: Sequence[LayerShape | StateShape]) -> None:
        layers = [StateLayer(shape) if isinstance(shape, StateShape) else SlotLayer() for shape in shapes]
        self.recurrent = [layer for layer in layers if isinstance(layer, StateLayer)]
        super().__init__(layers=list(layers))

    def commit(self) -> None:
        """Makes the present states those to roll back to."""
        for layer in self.recurrent:
            layer.commit()

    def roll_back(self) -> None:
        """Goes back to the states that were last committed."""
        for layer in self.recurrent:
            layer.roll_back()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """On exit, restores the states from before, committed or not."""
        states = [tuple(state.clone() for state in layer.states()) for layer in self.recurrent]
        begun = [layer.has_previous_state[0] for layer in self.recurrent]
        try:
            yield
        finally:
            for layer, saved, had in zip(self.recurrent, states, begun, strict=True):
                layer.go_back(saved, had)

    def committed(self) -> list[tuple[Tensor, Tensor]]:
        """The states that were last committed."""
        return [layer.committed for layer in self.recurrent]

    def fill(self, states: Sequence[tuple[Tensor, Tensor]], *, begun: bool) -> None:
        """Takes over states that were committed elsewhere."""
        for layer, state in zip(self.recurrent, states, strict=True):
            layer.fill(*state, begun=begun)
