"""Tokens that stand on top of a memory without being part of it: a block, a question, an answer on its way.

A draft hands out positions and remembers where its tokens come from. What the model writes for them lies in the free
slots; only a commit makes it part of the memory.
"""

from collections.abc import Sequence
from enum import Enum

import torch
from torch import Tensor

from infinipot.memory.positions import Cursor, PositionRule, patch_positions, text_positions
from infinipot.policies.base import Grid

NOWHERE = -1  # the patch and cell of text


class Kind(Enum):
    """What a token is: text of the conversation, text that belongs to a temporal patch, or a cell of one."""

    TEXT = "text"
    CAPTION = "caption"
    CELL = "cell"


Run = tuple[int, Kind]  # so many tokens of a kind in a row


class Draft:
    """Tokens to come, in order.

    Attributes:
        cursor: where the stream would stand behind them.
        tokens: how many they are.
        runs: their kinds, in order.
        captions: for each caption token among them the temporal patch that it belongs to.
    """

    def __init__(self, cursor: Cursor, rule: PositionRule) -> None:
        self.cursor = cursor
        self.tokens = 0
        self.runs: list[Run] = []
        self.captions: list[int] = []
        self._rule = rule
        self._origin: list[Tensor] = []
        self._time: list[Tensor] = []

    def text(self, tokens: int, time: float = 0.0) -> Tensor:
        """Adds text tokens; returns their positions, `[3, tokens]` int64."""
        positions = text_positions(self.cursor.next, tokens)
        self.cursor = self.cursor.after_text(tokens)
        self._add(NOWHERE, torch.full((tokens,), NOWHERE), positions[0], positions[0], time, Kind.TEXT)
        return positions

    def patch(self, grid: Grid, time: float, before: int = 0, after: int = 0) -> Tensor:
        """Adds one temporal patch: see `video`; returns positions, `[3, before + P + after]` int64."""
        return self.video(grid, [time], before, after)

    def video(self, grid: Grid, times: Sequence[float], before: int = 0, after: int = 0) -> Tensor:
        """Adds temporal patches between `before` and `after` tokens of text that belong to the first and the last.

        Args:
            grid: of each.
            times: of each, in seconds.

        Returns:
            `[3, before + len(times) · P + after]` int64 positions.
        """
        positions = [self._caption(self.cursor.patch, before, times[0])]
        positions += [self._cells(grid, time) for time in times]
        positions.append(self._caption(self.cursor.patch - 1, after, times[-1]))
        return torch.cat(positions, -1)

    def _cells(self, grid: Grid, time: float) -> Tensor:
        number = self.cursor.patch
        self.cursor = self.cursor.after_patch(grid, time, self._rule)
        positions = patch_positions(self.cursor, grid, self._rule)
        cell = torch.arange(grid.first_cell, grid.first_cell + grid.cells)
        base = self.cursor.newest if self.cursor.base is None else self.cursor.base
        self._add(number, cell, positions[0], torch.full_like(cell, base), time, Kind.CELL)
        return positions

    def origin(self) -> tuple[Tensor, Tensor]:
        """Where the tokens come from: `[tokens, 4]` int32 as in `Slab.origin`, and `[tokens]` float64 seconds."""
        return torch.cat(self._origin), torch.cat(self._time)

    def _caption(self, patch: int, tokens: int, time: float) -> Tensor:
        positions = text_positions(self.cursor.next, tokens)
        if tokens:
            self.cursor = self.cursor.after_caption(tokens)
            self.captions += [patch] * tokens
            self._add(patch, torch.full((tokens,), NOWHERE), positions[0], positions[0], time, Kind.CAPTION)
        return positions

    def _add(self, patch: int, cell: Tensor, temporal: Tensor, base: Tensor, time: float, kind: Kind) -> None:
        origin = torch.stack([torch.full_like(cell, patch), cell, temporal, base], -1)
        self._origin.append(origin.to(torch.int32))
        self._time.append(torch.full(cell.shape, time, dtype=torch.float64))
        self.runs.append((len(cell), kind))
        self.tokens += len(cell)
