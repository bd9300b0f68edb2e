"""A forward over new tokens, as the memory sees it: where their keys and values go, and what they attend to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from infinipot.memory.observation import Observer, Seen
from infinipot.memory.rotary import Rotary
from infinipot.memory.storage import Rows
from infinipot.memory.window import Window
from infinipot.policies.base import HIDDEN

if TYPE_CHECKING:
    from infinipot.memory.memory import Memory


@dataclass(frozen=True, slots=True)
class Step:
    """The tokens of one forward, in slots of their own.

    Attributes:
        memory: the memory.
        start, end: the first slot of the step, and the first after it.
        positions: `[3, n]` int64, on the CPU.
        highest: an upper bound of all positions in the memory.
        prefixes: digests of what the memory holds before the step and with it; see prefix.py.
        observers: are shown the attention of the step.
        ahead: how many of the memory's first slots the tokens see, besides each other; None for all.
        window: the part of the video that the step's tokens see; None for all. The first `free` tokens see all.
        followers: steps of other memories with the same prefixes, which get the same keys and values. The runner fills
            it in.
    """

    memory: "Memory"
    start: int
    end: int
    positions: Tensor
    highest: int
    prefixes: tuple[bytes, bytes]
    observers: Sequence[Observer] = ()
    ahead: int | None = None
    window: Window | None = None
    free: int = 0
    followers: list["Step"] = field(default_factory=list)
    _masks: dict[tuple[torch.device, torch.dtype], Tensor] = field(default_factory=dict)
    _hidden: dict[Rows, Tensor | None] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of tokens."""
        return self.end - self.start

    @property
    def length(self) -> int:
        """The number of slots that the step's last token sees."""
        return self.end if self.ahead is None else self.ahead + self.count

    def _seen(self, stored: Tensor) -> Tensor:
        """The part of a stored tensor that the step sees, its own slots last."""
        if self.ahead is None:
            return stored[:, : self.end]
        return torch.cat([stored[:, : self.ahead], stored[:, self.start : self.end]], 1)

    def store(self, layer: int, keys: Tensor, values: Tensor, turned: Tensor | None = None) -> None:
        """Stores values, and keys in the layout of `Rotary`; `turned` are the same keys rotated, if known."""
        group, rows = self.memory.place(layer)
        group.keys[rows, self.start : self.end] = keys
        group.values[rows, self.start : self.end] = values
        if self.memory.turned is not None and turned is not None:
            self.memory.turned.add(layer, self.start, turned)

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """The rotated keys and the values that the step sees in a layer, its own last: `[kv_heads, N, head_dim]` each.

        The keys are in scratch that the next read of the memory overwrites.
        """
        group, rows = self.memory.place(layer)
        values = self._seen(group.values[rows])
        if self.memory.turned is not None and self.ahead is None:
            known, keys = self.memory.turned.read(layer, self.end)
            if known < self.end:
                new = slice(known, self.end)
                self._turn(
                    group, group.keys[rows, new], [group.columns[axis][rows, new] for axis in group.axes], keys[:, new]
                )
                self.memory.turned.filled(layer, self.end)
            return keys, values
        stored = self._seen(group.keys[rows])
        return self._turn(group, stored, [self._seen(group.columns[axis][rows]) for axis in group.axes]), values

    def keys(self, layers: Sequence[int]) -> Tensor:
        """The keys of consecutive layers of a group, as `read` returns them: `[rows, N, head_dim]`.

        A view if an answer under way has rotated them all, else a copy.
        """
        turned = self.memory.turned
        known = None if turned is None or self.ahead is not None else turned.rows(layers, self.end)
        return torch.cat([self.read(layer)[0].clone() for layer in layers]) if known is None else known

    def _turn(self, group: Rows, keys: Tensor, positions: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """Rotates keys of some rows to their positions, into `out` or else into the rows' scratch."""
        rotary, shape = self.memory.rotary, tuple(keys.shape)
        angles = rotary.angles(positions, self.highest)
        if keys.dtype == torch.float32:
            return rotary.rotate(keys, angles, group.scratch((shape, keys.dtype))[0] if out is None else out)
        wide, narrow = group.scratch((shape, torch.float32), (shape, keys.dtype))
        return (narrow if out is None else out).copy_(rotary.rotate(keys, angles, wide))

    def observe(self, layer: int, raw: Tensor, queries: Tensor, keys: Tensor, scaling: float) -> None:
        """Shows a layer to the observers, see `Seen`."""
        for observer in self.observers:
            observer(Seen(self, layer, raw, queries, keys, scaling, self.hidden(layer)))

    def hidden(self, layer: int) -> Tensor | None:
        """The slots of a layer that attention skips; None if there are none.

        Returns:
            `[kv_heads, n, N]` bool, for each of the step's tokens, or `[kv_heads, 1, N]` if it is the same for all.
        """
        group, rows = self.memory.place(layer)
        if group not in self._hidden:
            self._hidden[group] = self._hidden_of(group)
        hidden = self._hidden[group]
        return None if hidden is None else hidden[rows]

    def _hidden_of(self, group: Rows) -> Tensor | None:
        """As `hidden`, for all layers of a group: the slots that a policy hides, and those outside the window."""
        columns = group.columns
        hidden = self._seen(columns[HIDDEN]).unsqueeze(1) > 0 if HIDDEN in columns else None
        if self.window is None or self.free >= self.count:
            return hidden
        old = self.window.hidden(*(self._seen(columns[name]) for name in ("patch", "cell", "time"))).unsqueeze(1)
        if self.free:
            old = old & (torch.arange(self.count, device=old.device) >= self.free).unsqueeze(-1)
        return old if hidden is None else hidden | old

    def mask(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The causal mask, `[n, N]`: 0 where a token sees another, else -inf; cached for all layers."""
        at = device, dtype
        if at not in self._masks:
            hidden = torch.full((self.count, self.length), -torch.inf, device=device, dtype=dtype)
            self._masks[at] = hidden.triu_(self.length - self.count + 1)
        return self._masks[at]


class Steps(Sequence[Step]):
    """The steps of one packed forward, of streams of one model.

    Angles are computed once for all layers, and heads of all streams are rotated together.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)
        self._angles: dict[torch.device, Tensor] = {}
        self.counts = [step.count for step in self._steps]

    def __getitem__(self, number: Any) -> Any:
        return self._steps[number]

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def rotary(self) -> Rotary:
        """The rotary embedding, the same for all."""
        return self._steps[0].memory.rotary

    def turned(self, heads: Tensor) -> Tensor:
        """Rotates heads `[heads, n, head_dim]` of the steps' tokens, in the layout of `Rotary`, to their positions."""
        if heads.device not in self._angles:
            positions = torch.cat([step.positions for step in self._steps], 1).to(heads.device, non_blocking=True)
            self._angles[heads.device] = self.rotary.angles([*positions], max(step.highest for step in self._steps))
        wide = torch.empty(heads.shape, dtype=torch.float32, device=heads.device)
        return self.rotary.rotate(heads, self._angles[heads.device], wide).to(heads.dtype)
