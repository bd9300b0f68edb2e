"""Tokens that stand on top of a memory without being part of it: a block, a question, an answer on its way.

A draft hands out positions and remembers where its tokens come from. What the model writes for them lies in the free
slots; only a commit makes it part of the memory.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from infinipot.memory.positions import Cursor, PositionRule, patch_positions, text_positions
from infinipot.policies.base import Grid

TEXT = -1


class Draft:
    """Tokens to come, in order.

    Attributes:
        cursor: where the stream would stand behind them.
        tokens: how many they are.
        is_text: for each run of tokens, its length and whether it is text.
    """

    def __init__(self, cursor: Cursor, rule: PositionRule) -> None:
        self.cursor = cursor
        self.tokens = 0
        self.runs: list[tuple[int, bool]] = []
        self._rule = rule
        self._origin: list[Tensor] = []
        self._time: list[Tensor] = []

    def text(self, tokens: int, time: float = 0.0) -> Tensor:
        """Adds text tokens; returns their positions, `[3, tokens]` int64."""
        positions = text_positions(self.cursor.next, tokens)
        self.cursor = self.cursor.after_text(tokens)
        outside = torch.full((tokens,), TEXT)
        self._add(torch.stack([outside, outside, positions[0], positions[0]], -1), time, is_text=True)
        return positions

    def video(self, grid: Grid, times: Sequence[float]) -> Tensor:
        """Adds one temporal patch for each of `times`, in seconds; returns positions, `[3, len(times) · P]` int64."""
        positions = []
        for time in times:
            patch = self.cursor.patch
            self.cursor = self.cursor.after_patch(grid, time, self._rule)
            positions.append(patch_positions(self.cursor, grid))
            assert self.cursor.base is not None
            cell = torch.arange(grid.first_cell, grid.first_cell + grid.cells)
            origin = torch.stack(
                [
                    torch.full_like(cell, patch),
                    cell,
                    positions[-1][0],
                    torch.full_like(cell, self.cursor.base),
                ],
                -1,
            )
            self._add(origin, time, is_text=False)
        return torch.cat(positions, -1)

    def origin(self) -> tuple[Tensor, Tensor]:
        """Where the tokens come from: `[tokens, 4]` int32 as in `Slab.origin`, and `[tokens]` float64 seconds."""
        return torch.cat(self._origin), torch.cat(self._time)

    def _add(self, origin: Tensor, time: float, *, is_text: bool) -> None:
        self._origin.append(origin.to(torch.int32))
        self._time.append(torch.full((len(origin),), time, dtype=torch.float64))
        self.runs.append((len(origin), is_text))
        self.tokens += len(origin)
