"""What an answer rests on: the moments of the video that the tokens which made it attended to.

Heads differ: most look everywhere, or at what every question has in common; those that look something up look at few
moments. So each head counts by how peaked its attention to the video is. That attention went somewhere does not prove
that the answer came from there; it says where to look first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infinipot.memory import Memory
from infinipot.memory.observation import Seen

_LISTENED = 24  # tokens of an answer whose attention counts: the first ones
_WORTH = 0.25  # of the heaviest patch's weight that another one needs to belong to a span
_APART = 2  # temporal patches from one of a span to the next: some between them may have left the memory


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """A stretch of the video that an answer rests on.

    Attributes:
        start, end: in seconds.
        weight: its share of what the answer rests on, from 0 to 1.
        time: of its heaviest patch.
        cells: `[rows, columns]` float32, shares of the weight by cell, of all its patches; they sum to 1.
    """

    start: float
    end: float
    weight: float
    time: float
    cells: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "weight": round(self.weight, 4),
            "time": round(self.time, 3),
            "cells": self.cells.round(4).tolist(),
        }


class Answer(str):
    """An answer, with what it rests on where that was asked for.

    Attributes:
        evidence: the heaviest span first; empty where nothing of the video was held.
    """

    evidence: tuple[Span, ...] = ()

    @classmethod
    def of(cls, text: str, evidence: Sequence[Span]) -> "Answer":
        """A text with its evidence."""
        answer = cls(text)
        answer.evidence = tuple(evidence)
        return answer


@dataclass(slots=True)
class Gaze:
    """An observer of where the question's last token and the answer's look.

    Attributes:
        layers: attention of each layer, by its number, `[kv_heads, heads of one KV head, N]`, summed over tokens.
        steps: that were observed.
    """

    layers: dict[int, Tensor] = field(default_factory=dict)
    steps: int = 0

    def __call__(self, seen: Seen) -> None:
        if seen.layer == min(self.layers, default=seen.layer):
            self.steps += 1
        if self.steps > 1 + _LISTENED:
            return
        last = torch.tensor([seen.step.count - 1])
        looks = next(seen.weights(last))[:, :, 0]
        before = self.layers.get(seen.layer)
        if before is not None:
            looks[..., : before.shape[-1]] += before
        self.layers[seen.layer] = looks

    def spans(self, memory: Memory, seconds: float) -> list[Span]:
        """What was looked at, merged to spans, the heaviest first.

        Args:
            memory: with the draft on it whose steps were observed.
            seconds: that a temporal patch lasts.
        """
        patches, cells, times, weights = _by_cell(memory, self.layers)
        if not len(patches) or weights.sum() <= 0:
            return []
        numbers, place = np.unique(patches, return_inverse=True)
        weight = np.bincount(place, weights)
        chosen = np.flatnonzero(weight >= _WORTH * weight.max())
        spans = []
        for run in np.split(chosen, np.flatnonzero(np.diff(numbers[chosen]) > _APART) + 1):
            inside = (place >= run[0]) & (place <= run[-1])
            heaviest = numbers[run[weight[run].argmax()]]
            own = times[inside]
            spans.append(
                Span(
                    start=float(own.min()),
                    end=float(own.max() + seconds),
                    weight=float(weights[inside].sum() / weights.sum()),
                    time=float(times[patches == heaviest][0]),
                    cells=_over_frame(memory, cells[inside], weights[inside], int(cells[patches == heaviest][0])),
                )
            )
        return sorted(spans, key=lambda span: -span.weight)


def _by_cell(memory: Memory, layers: dict[int, Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Patch, cell, time and weight of each cell that some head holds; weights of all heads, each by its peakedness."""
    size = max((grid.first_cell + grid.cells for grid in memory.grids), default=0)
    keys, shares, seconds = [], [], []
    for number, looks in layers.items():
        group, rows = memory.place(number)
        length = looks.shape[-1]
        patch, cell, time = (group.columns[name][rows, :length].cpu().numpy() for name in ("patch", "cell", "time"))
        looked = looks.cpu().double().numpy()
        for head in range(len(looked)):
            video = cell[head] >= 0
            if not video.any():
                continue
            own = looked[head][:, video]
            _, place = np.unique(patch[head][video], return_inverse=True)
            by_patch = np.stack([np.bincount(place, each) for each in own])
            total = np.maximum(own.sum(1, keepdims=True), 1e-12)
            peaked = ((by_patch / total) ** 2).sum(1, keepdims=True)
            keys.append(patch[head][video].astype(np.int64) * size + cell[head][video])
            seconds.append(time[head][video])
            shares.append((own / total * peaked**2).sum(0))
    if not keys:
        return tuple(np.zeros(0) for _ in range(4))  # type: ignore[return-value]
    found, first, place = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
    weights = np.bincount(place, np.concatenate(shares))
    return found // size, found % size, np.concatenate(seconds)[first], weights


def _over_frame(memory: Memory, cells: np.ndarray, weights: np.ndarray, like: int) -> np.ndarray:
    """Weights by cell of the grid that a cell belongs to, `[rows, columns]`."""
    grid = next(each for each in memory.grids if each.first_cell <= like < each.first_cell + each.cells)
    own = (cells >= grid.first_cell) & (cells < grid.first_cell + grid.cells)
    found = np.bincount(cells[own] - grid.first_cell, weights[own], grid.cells).reshape(grid.rows, grid.columns)
    return (found / max(found.sum(), 1e-12)).astype(np.float32)
