"""What an answer rests on: the moments of the video that the tokens which made it attended to.

Heads differ: most look everywhere, or at what every question has in common; those that look something up look at few
moments, and hardly at the text. So each head counts by how much it looks at the video and how peaked that is. That
attention went somewhere does not prove that the answer came from there; it says where to look first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infinipot.memory import Memory
from infinipot.memory.observation import Seen
from infinipot.tokens import Grid

_LISTENED = 8  # tokens of an answer whose attention counts: the first ones
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
            "cells": self.cells.astype(float).round(4).tolist(),
        }


class Answer(str):
    """An answer, with what it rests on where that was asked for.

    Attributes:
        evidence: the heaviest span first; empty where nothing of the video was held. It is put together when it is
            first looked at, of what was seen when the answer was made.
    """

    _gaze: "Gaze | None" = None

    @classmethod
    def of(cls, text: str, gaze: "Gaze | None") -> "Answer":
        """A text, and what was looked at while it was made."""
        answer = cls(text)
        answer._gaze = gaze
        return answer

    @cached_property
    def evidence(self) -> tuple[Span, ...]:
        return () if self._gaze is None else tuple(self._gaze.spans())


class Gaze:
    """An observer of where the question's last token and the first ones of the answer look.

    Args:
        seconds: that a temporal patch lasts.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._grids: tuple[Grid, ...] = ()
        self._looks: dict[int, Tensor] = {}  # of the step under way: [kv_heads, heads of one KV head, N] by layer
        self._seen: list[_Seen] = []
        self._steps = 0
        self._memory: Memory | None = None

    def __call__(self, seen: Seen) -> None:
        if seen.layer in self._looks:
            self._fold()
        if self._steps > _LISTENED:
            return
        self._memory, self._grids = seen.step.memory, seen.step.memory.grids
        last = seen.queries[:, -1].unflatten(0, (len(seen.keys), -1))  # which sees all there is
        scores = (last @ seen.keys.transpose(1, 2)).float().mul_(seen.scaling)
        if seen.hidden is not None:
            scores.masked_fill_(seen.hidden.unsqueeze(1), -torch.inf)
        self._looks[seen.layer] = scores.softmax(-1)

    def _fold(self) -> None:
        """Weighs the step that is over, all layers of one shape at once, and lets go of its looks."""
        if self._memory is not None and self._looks:
            if not self._seen:
                shapes = {look.shape for look in self._looks.values()}
                alike = ([each for each, look in self._looks.items() if look.shape == shape] for shape in shapes)
                self._seen = [_Seen.of(self._memory, layers, self._looks[layers[0]].shape[-1]) for layers in alike]
            for each in self._seen:
                each.add(torch.stack([self._looks[layer] for layer in each.layers]))
        self._looks.clear()
        self._steps += 1

    def end(self) -> None:
        """Takes what is needed of the memory, ahead of its next change, and lets go of it."""
        self._fold()
        self._memory = None

    def spans(self) -> list[Span]:
        """What was looked at, merged to spans, the heaviest first."""
        if not self._seen:
            return []
        patches, cells, times, weights = (
            np.concatenate(parts) for parts in zip(*(each.by_cell() for each in self._seen), strict=True)
        )
        if not len(patches) or weights.sum() <= 0:
            return []
        numbers, place = np.unique(patches, return_inverse=True)
        weight = np.bincount(place, weights)
        chosen = np.flatnonzero(weight >= _WORTH * weight.max())
        spans = []
        for run in np.split(chosen, np.flatnonzero(np.diff(numbers[chosen]) > _APART) + 1):
            inside = (place >= run[0]) & (place <= run[-1])
            heaviest = patches == numbers[run[weight[run].argmax()]]
            spans.append(
                Span(
                    start=float(times[inside].min()),
                    end=float(times[inside].max() + self._seconds),
                    weight=float(weights[inside].sum() / weights.sum()),
                    time=float(times[heaviest][0]),
                    cells=_over_frame(self._grids, cells[inside], weights[inside], int(cells[heaviest][0])),
                )
            )
        return sorted(spans, key=lambda span: -span.weight)


@dataclass(slots=True, eq=False)
class _Seen:
    """What the tokens in some layers' slots were worth.

    Attributes:
        layers: their numbers; all have KV heads of one shape.
        patch, cell: `[layers, kv_heads, N]`, where each token comes from; cell -1 for text.
        time: `[layers, kv_heads, N]` in seconds.
        video: whether a slot holds a cell.
        place: of each token's patch among the `count` that are held.
        worth: of each token, over all heads that look at it.
    """

    layers: Sequence[int]
    patch: Tensor
    cell: Tensor
    time: Tensor
    video: Tensor
    place: Tensor
    count: int
    worth: Tensor

    @classmethod
    def of(cls, memory: Memory, layers: Sequence[int], length: int) -> "_Seen":
        """Nothing yet, of so many slots."""
        patch, cell, time = (
            torch.stack([group.columns[name][rows, :length] for group, rows in map(memory.place, layers)])
            for name in ("patch", "cell", "time")
        )
        video = cell >= 0
        numbers = patch[video].unique()
        place = torch.searchsorted(numbers, patch.contiguous()).clamp_(max=max(len(numbers) - 1, 0))
        worth = torch.zeros(patch.shape, device=patch.device)
        return cls(layers, patch, cell, time, video, place, max(len(numbers), 1), worth)

    def add(self, looks: Tensor) -> None:
        """Adds what one token looked at: `[layers, kv_heads, heads of one KV head, N]`.

        A head counts by the square of: the sum of the squared shares of its attention that moments of the video get,
        which is 1 where all of it lies on a single moment, and small where it is spread, or lies on the text.
        """
        length = self.patch.shape[-1]
        looked = looks[..., :length] * self.video.unsqueeze(2)
        share = looked.sum(-1).clamp_min(1e-9)
        patches = looked.new_zeros(*looked.shape[:-1], self.count)
        patches.scatter_add_(-1, self.place.unsqueeze(2).expand_as(looked), looked)
        counts = patches.square_().sum(-1).square_()
        self.worth += torch.einsum("lkgn,lkg->lkn", looked, counts / share)

    def by_cell(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Patch, cell, time and weight of each cell that is held by some head."""
        patch, cell, time, worth = (
            part[self.video].cpu().numpy() for part in (self.patch, self.cell, self.time, self.worth)
        )
        size = int(cell.max(initial=0)) + 1
        keys, first, place = np.unique(patch.astype(np.int64) * size + cell, return_index=True, return_inverse=True)
        return keys // size, keys % size, time[first], np.bincount(place, worth)


def _over_frame(grids: Sequence[Grid], cells: np.ndarray, weights: np.ndarray, like: int) -> np.ndarray:
    """Weights by cell of the grid that a cell belongs to, `[rows, columns]`."""
    grid = next(each for each in grids if each.first_cell <= like < each.first_cell + each.cells)
    own = (cells >= grid.first_cell) & (cells < grid.first_cell + grid.cells)
    found = np.bincount(cells[own] - grid.first_cell, weights[own], grid.cells).reshape(grid.rows, grid.columns)
    return (found / max(found.sum(), 1e-12)).astype(np.float32)
