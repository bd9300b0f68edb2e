"""One forward over new tokens, as the memory sees it: where their keys and values go, and what they attend to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from infinipot.memory.observation import Observer, Seen
from infinipot.policies.base import HIDDEN

if TYPE_CHECKING:
    from infinipot.memory.memory import Memory


@dataclass(frozen=True, slots=True)
class Step:
    """The tokens of one forward, in slots of their own.

    Attributes:
        memory: whose slots they are.
        start, end: the first of them, and the first behind them.
        positions: `[3, n]` int64, on the CPU.
        highest: no position in the memory is above it.
        observers: are shown what attends to what.
        ahead: how many of the memory's first slots the tokens see beside each other; None for all.
    """

    memory: "Memory"
    start: int
    end: int
    positions: Tensor
    highest: int
    observers: Sequence[Observer] = ()
    ahead: int | None = None
    _shared: dict[tuple[str, torch.device, torch.dtype], list[Tensor]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many tokens they are."""
        return self.end - self.start

    @property
    def length(self) -> int:
        """Slots that the step's last token sees."""
        return self.end if self.ahead is None else self.ahead + self.count

    def _seen(self, stored: Tensor) -> Tensor:
        """Of what some rows store the slots that are seen, the step's own last."""
        if self.ahead is None:
            return stored[:, : self.end]
        return torch.cat([stored[:, : self.ahead], stored[:, self.start : self.end]], 1)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Stores `[kv_heads, n, head_dim]` keys, without rotation, and values of one layer of the model."""
        group, rows = self.memory.place(layer)
        group.keys[rows, self.start : self.end] = self.memory.rotary.to_stored(keys)
        group.values[rows, self.start : self.end] = values

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys, turned to their positions, and values that one layer holds, the step's last: `[kv_heads, N, head_dim]`.

        The keys lie on scratch, until the next read of the memory.
        """
        group, rows = self.memory.place(layer)
        rotary = self.memory.rotary
        keys = self._seen(group.keys[rows])
        types = (torch.float32,) if keys.dtype == torch.float32 else (torch.float32, keys.dtype)
        wide, *narrow = group.scratch(*((tuple(keys.shape), dtype) for dtype in types))
        positions = [self._seen(group.columns[axis][rows]) for axis in group.axes]
        rotary.rotate_(wide.copy_(keys), rotary.angles(positions, self.highest))
        return (narrow[0].copy_(wide) if narrow else wide), self._seen(group.values[rows])

    def rotated(self, queries: Tensor) -> Tensor:
        """Queries `[heads, n, head_dim]` of the model, in the layout of keys and turned to their positions."""
        rotary, at = self.memory.rotary, ("angles", queries.device, torch.float32)
        if at not in self._shared:
            axes = [self.positions[axis].to(queries.device, non_blocking=True) for axis in range(3)]
            self._shared[at] = rotary.angles(axes, self.highest)
        turned = rotary.to_stored(queries).to(torch.float32)
        return rotary.rotate_(turned, self._shared[at]).to(queries.dtype)

    def observe(self, layer: int, raw: Tensor, queries: Tensor, keys: Tensor, scaling: float) -> None:
        """Shows its observers a layer, see `Seen`."""
        for observer in self.observers:
            observer(Seen(self, layer, raw, queries, keys, scaling, self.hidden(layer)))

    def hidden(self, layer: int) -> Tensor | None:
        """The slots of a layer that attention passes over, `[kv_heads, N]` bool; None where there are none."""
        group, rows = self.memory.place(layer)
        return self._seen(group.columns[HIDDEN][rows]) > 0 if HIDDEN in group.columns else None

    def mask(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """`[n, N]`: 0 where a token sees another, -inf where that comes after it; made once for all layers."""
        at = "mask", device, dtype
        if at not in self._shared:
            hidden = torch.full((self.count, self.length), -torch.inf, device=device, dtype=dtype)
            self._shared[at] = [hidden.triu_(self.length - self.count + 1)]
        return self._shared[at][0]
