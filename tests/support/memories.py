"""What a memory holds, as tests compare it."""

from dataclasses import dataclass

import torch

from infinipot import Stream
from infinipot.memory import Memory, Rotary
from infinipot.tokens import VideoTokens, take


def to_model(rotary: Rotary, heads: torch.Tensor) -> torch.Tensor:
    """Heads `[..., head_dim]` as they are stored, in the model's own layout."""
    stored = rotary.to_stored(torch.arange(heads.shape[-1])[None])[0]
    return heads[..., stored.argsort()]


def view(memory: Memory, group: int = 0) -> VideoTokens:
    """The cells of all rows of a group, as a policy sees them."""
    rows = memory.groups[group]
    return memory._viewer(memory.state).tokens(rows, slice(0, rows.count))


def parts(memory: Memory) -> list[torch.Tensor]:
    """All that the held slots store, as it lies: views of it."""
    stored = [part for group in memory.groups for part in (group.keys, group.values, *group.columns.values())]
    return [part[:, : memory.held] for part in stored]


def held(stream: Stream) -> list[torch.Tensor]:
    """Everything a stream's memory holds, copied."""
    memory = stream._state.memory
    copies = [part.clone() for part in parts(memory)]
    copies += [state.clone() for layer in memory.states.recurrent for state in layer.states()]
    return [
        *copies,
        torch.tensor([memory.held, memory.state.text, *memory.state.turns]),
        torch.tensor(memory.cursor.next),
    ]


@dataclass(frozen=True)
class Slots:
    """What one layer holds, in order of arrival, text first and captions behind it: `[kv_heads, held]` each.

    Attributes:
        base: of cells where their patch's layout begins; of text its own position.
        keys: as a model makes them, turned to their positions, and raw: without; `[kv_heads, held, head_dim]`.
        values: `[kv_heads, held, head_dim]`.
    """

    patch: torch.Tensor
    cell: torch.Tensor
    temporal: torch.Tensor
    base: torch.Tensor
    time: torch.Tensor
    keys: torch.Tensor
    raw: torch.Tensor
    values: torch.Tensor


def slots(memory: Memory, layer: int = 0) -> Slots:
    """What a layer of a memory holds, by its number among those that hold slots."""
    group = next(group for group in memory.groups if layer in group.layers)
    rows = group.rows_of(layer)
    columns = {name: column[rows, : memory.held].long() for name, column in group.columns.items() if name != "time"}
    time = group.columns["time"][rows, : memory.held]
    cell, patch, temporal = columns["cell"], columns["patch"], columns["temporal"]
    first = torch.zeros_like(cell)
    for grid in memory.grids:
        inside = (cell >= grid.first_cell) & (cell < grid.first_cell + grid.cells)
        first = torch.where(inside, (cell - grid.first_cell) // grid.columns, first)
    base = columns["base"] if "base" in columns else columns["height"] - first
    positions = [group.columns[axis][rows, : memory.held] for axis in group.axes]
    raw, rotary = group.keys[rows, : memory.held], memory.rotary
    turned = rotary.rotate_(raw.to(torch.float32, copy=True), rotary.angles(positions, memory.cursor.next))
    kind = torch.where(patch < 0, 0, torch.where(cell < 0, 1, 2))
    place = (((kind << 20) + patch.clamp_min(0)) * 4096 + cell.clamp_min(-1)) * (1 << 20) + temporal
    order = place.argsort(dim=1, stable=True)
    plain = (part.gather(1, order) for part in (patch, cell.clamp_min(-1), temporal, base, time))
    states = to_model(rotary, turned), to_model(rotary, raw), group.values[rows, : memory.held]
    return Slots(*plain, *(take(part, order) for part in states))


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
