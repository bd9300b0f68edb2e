"""What a memory holds of a video, patch by patch and cell by cell, as plain numbers to draw or to send.

Every KV head of every layer keeps cells of its own, so each cell has the share of heads that hold it.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from infinipot.tokens import cell_limit

if TYPE_CHECKING:
    from infinipot.memory.memory import Memory


@dataclass(frozen=True, slots=True, eq=False)
class HeldPatch:
    """A temporal patch of which at least one token is held.

    Attributes:
        number: the index of the patch in its stream.
        time: the time of its first frame, in seconds.
        cells: `[rows, columns]` float32, the share of all KV heads that hold each cell.
    """

    number: int
    time: float
    cells: np.ndarray

    @property
    def tokens(self) -> float:
        """Tokens held of the patch, per layer and KV head, on average."""
        return float(self.cells.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What is held of a video.

    Attributes:
        patches: oldest first.
    """

    patches: tuple[HeldPatch, ...]

    @classmethod
    def of(cls, memory: "Memory") -> "Contents":
        """Counts the tokens of a memory."""
        counts: dict[tuple[int, int], int] = {}
        times: dict[int, float] = {}
        rows = sum(group.count for group in memory.groups)
        size = cell_limit(memory.grids)
        for group in memory.groups:
            columns = {name: group.columns[name][:, : memory.held].cpu().numpy() for name in ("patch", "cell", "time")}
            video = columns["cell"] >= 0
            patch, cell = columns["patch"][video].astype(np.int64), columns["cell"][video]
            keys, count = np.unique(patch * size + cell, return_counts=True)
            for key, number in zip(keys.tolist(), count.tolist(), strict=True):
                place = divmod(key, size)
                counts[place] = counts.get(place, 0) + number
            held, first = np.unique(patch, return_index=True)
            times |= zip(held.tolist(), columns["time"][video][first].tolist(), strict=True)
        return cls(tuple(_patches(memory, counts, times, rows)))

    def over_frame(self) -> np.ndarray:
        """Tokens held of each cell of the newest grid, summed over all patches: `[rows, columns]` float32."""
        if not self.patches:
            return np.zeros((1, 1), np.float32)
        shape = self.patches[-1].cells.shape
        return np.sum([patch.cells for patch in self.patches if patch.cells.shape == shape], axis=0)

    def fullest(self, most: int) -> list[HeldPatch]:
        """At most `most` patches, oldest first: the fullest of each of so many equal parts of the held tokens.

        So there are more of them where more is held.
        """
        if len(self.patches) <= most:
            return list(self.patches)
        tokens = np.array([patch.tokens for patch in self.patches])
        part = np.minimum((np.cumsum(tokens) - tokens / 2) / tokens.sum() * most, most - 1).astype(int)
        parts = (np.flatnonzero(part == number) for number in range(most))
        return [self.patches[own[tokens[own].argmax()]] for own in parts if len(own)]

    def as_dict(self, most: int = 512) -> dict[str, Any]:
        """For JSON: at most `most` patches, with number, time, tokens, and cells as bytes from 0 to 255 in base64."""
        chosen = self.patches if len(self.patches) <= most else self.fullest(most)
        return {
            "patches": [
                {
                    "number": patch.number,
                    "time": round(patch.time, 3),
                    "tokens": round(patch.tokens, 3),
                    "rows": patch.cells.shape[0],
                    "columns": patch.cells.shape[1],
                    "cells": base64.b64encode((patch.cells * 255).round().astype(np.uint8).tobytes()).decode(),
                }
                for patch in chosen
            ],
            "all": len(self.patches),
        }


def _patches(
    memory: "Memory", counts: dict[tuple[int, int], int], times: dict[int, float], rows: int
) -> Iterable[HeldPatch]:
    cells: dict[int, np.ndarray] = {}
    for (number, cell), count in sorted(counts.items()):
        grid = next(grid for grid in memory.grids if cell in grid.numbers)
        if number not in cells:
            cells[number] = np.zeros((grid.rows, grid.columns), np.float32)
        cells[number].flat[cell - grid.first_cell] = count / rows
    for number, share in cells.items():
        yield HeldPatch(number, times[number], share)
