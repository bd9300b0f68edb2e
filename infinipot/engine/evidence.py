"""An answer, and what it rests on: the moments of the video that the tokens which made it attended to.

Heads differ: most look everywhere, or at what every question has in common; those that look something up look at few
moments, and hardly at the text. So each head counts by how much it looks at the video and how peaked that is. That
attention went somewhere does not prove that the answer came from there; it says where to look first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from infinipot.memory import Step
from infinipot.memory.observation import Seen
from infinipot.memory.storage import Rows
from infinipot.tokens import Grid

_LISTENED = 8  # tokens of an answer whose attention counts: the first ones
_WORTH = 0.25  # of the heaviest patch's weight that another one needs to belong to a span
_PIECE = 4 << 20  # weights of attention that are worked out at once
_KEPT = 1 << 20  # of them that wait to be weighed
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


FinishReason = Literal["stop", "length"]


class Answer(str):
    """An answer, with its length, why it ended, and what it rests on where that was asked for.

    Until its evidence is read, an answer holds tensors on the model's device, some megabytes for a large model. Reading
    releases them, and so does copying or pickling, which reads the evidence first. `str(answer)` is the text alone.

    Attributes:
        tokens: how many the model said: special ones too, but not the one that ended the answer.
        prompt_tokens: how many tokens it followed: those held, the frames that waited for their block, a second look,
            and the question with the chat template's text around it.
        look_tokens: how many of those are cells of a second look.
        finish_reason: "stop" where the model ended the answer or a `stop` text came, "length" where it was cut off
            after the most tokens that it could have.
    """

    tokens: int
    prompt_tokens: int
    look_tokens: int
    finish_reason: FinishReason
    _gaze: "Gaze | None" = None
    _spans: tuple[Span, ...] = ()

    @classmethod
    def of(
        cls,
        text: str,
        *,
        tokens: int,
        prompt_tokens: int,
        look_tokens: int = 0,
        finish_reason: FinishReason,
        gaze: "Gaze | None" = None,
    ) -> "Answer":
        """A text, the facts about it, and what was looked at while it was made."""
        answer = cls(text)
        answer.tokens, answer.prompt_tokens, answer.look_tokens = tokens, prompt_tokens, look_tokens
        answer.finish_reason = finish_reason
        answer._gaze = gaze
        return answer

    @property
    def evidence(self) -> tuple[Span, ...]:
        """The moments that the answer rests on, the heaviest first.

        It is empty if `ask` was called without `evidence=True`, or if no video was held. It is worked out when it is
        first read, from what was attended to when the answer was made.
        """
        gaze = self._gaze
        if gaze is not None:
            self._spans = tuple(gaze.spans())
            self._gaze = None  # last, so that a read that was interrupted can be repeated
        return self._spans

    def __getstate__(self) -> dict[str, Any]:
        """What a copy has besides the text: the evidence, not the tensors that it is worked out from."""
        return vars(self) | {"_spans": self.evidence, "_gaze": None}


class Gaze:
    """An observer of what the question's last token and the first tokens of the answer attend to.

    While the model runs, it only stores the queries of those tokens. Their attention is computed once, after the
    answer, for all of them and many layers at a time; `Looked` says what it is worth.

    Args:
        seconds: how long a temporal patch lasts, where what is held does not tell.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._asked: dict[int, list[Tensor]] = {}  # by layer: the query of each token, [heads, head_dim]
        self._scaling = 1.0
        self._step: Step | None = None  # of the newest of these tokens
        self._ends: list[int] = []  # how many slots each of them sees
        self._grids: tuple[Grid, ...] = ()
        self._looked: list[Looked] = []

    def __call__(self, seen: Seen) -> None:
        if seen.step is not self._step:
            if len(self._ends) > _LISTENED:
                return
            self._step = seen.step
            self._ends.append(seen.step.end)
        self._scaling = seen.scaling
        asked = self._asked.setdefault(seen.layer, [])
        asked[len(self._ends) - 1 :] = [seen.queries[:, -1].clone()]  # which sees all there is; a step may run again

    def end(self, grids: Sequence[Grid]) -> None:
        """Computes what those tokens attended to, while the memory still holds it, and forgets their queries.

        Args:
            grids: of all that they could attend to.
        """
        step, self._step = self._step, None
        if step is None:
            return
        self._grids = tuple(grids)
        numbers = sorted(self._asked)  # of the model's layers that hold slots: others have a state
        for group in step.memory.groups:
            looked = Looked.of(group, step)
            heads, own = group.shape.kv_heads, [numbers[place] for place in group.layers]
            at_once = max(1, _PIECE // (len(self._asked[own[0]][0]) * len(self._ends) * step.end))
            for start in range(0, len(own), at_once):
                layers = own[start : start + at_once]
                looked.add(slice(start * heads, (start + len(layers)) * heads), self._looks(step, layers, heads))
            self._looked.append(looked)
        self._asked.clear()

    def _looks(self, step: Step, layers: Sequence[int], kv_heads: int) -> Tensor:
        """Attention of all these tokens in some layers, `[rows, heads of one KV head · tokens, slots]` float32."""
        asked = torch.stack([query for layer in layers for query in self._asked[layer]])
        asked = asked.view(len(layers), len(self._ends), kv_heads, -1, asked.shape[-1]).permute(0, 2, 1, 3, 4)
        asked = asked.reshape(len(layers) * kv_heads, -1, asked.shape[-1]) * self._scaling
        looks = (asked @ step.keys(layers).transpose(1, 2)).float()
        each = looks.unflatten(1, (len(self._ends), -1))
        for token, end in enumerate(self._ends[:-1]):  # what came after it was not there yet
            each[:, token, :, end:] = -torch.inf
        if step.hidden(layers[0]) is not None:
            hidden = torch.cat([step.hidden(layer) for layer in layers])  # type: ignore[misc]
            looks.masked_fill_(hidden[:, -1:], -torch.inf)
        return looks.softmax(-1)

    def spans(self) -> list[Span]:
        """The moments that were attended to, merged into spans, the heaviest first."""
        if not self._looked:
            return []
        patches, cells, times, weights = (
            np.concatenate(parts) for parts in zip(*(each.by_cell() for each in self._looked), strict=True)
        )
        if not len(patches) or weights.sum() <= 0:
            return []
        numbers, first, place = np.unique(patches, return_index=True, return_inverse=True)
        lasts = self._lasts(numbers, times[first])
        weight = np.bincount(place, weights)
        chosen = np.flatnonzero(weight >= _WORTH * weight.max())
        spans = []
        for run in np.split(chosen, np.flatnonzero(np.diff(numbers[chosen]) > _APART) + 1):
            inside = (place >= run[0]) & (place <= run[-1])
            heaviest = patches == numbers[run[weight[run].argmax()]]
            spans.append(
                Span(
                    start=float(times[inside].min()),
                    end=float(times[inside].max() + lasts),
                    weight=float(weights[inside].sum() / weights.sum()),
                    time=float(times[heaviest][0]),
                    cells=_over_frame(self._grids, cells[inside], weights[inside], int(cells[heaviest][0])),
                )
            )
        return sorted(spans, key=lambda span: -span.weight)

    def _lasts(self, numbers: np.ndarray, times: np.ndarray) -> float:
        """Seconds that a patch lasts: the median distance of those held, which no pause of the source changes much."""
        apart = np.diff(times) / np.diff(numbers)
        apart = apart[apart > 0]  # a second look shows times once more
        return float(np.median(apart)) if len(apart) else self._seconds


@dataclass(slots=True, eq=False)
class Looked:
    """What the tokens in the slots of some layers, all of one shape, were worth.

    Whoever asks waits for the answer, and few read its evidence: so weighing is put off until someone does, or until
    the looks take too much memory.

    Attributes:
        patch, cell: `[rows, N]`, where each token comes from; cell -1 for text.
        time: `[rows, N]` in seconds.
        looks: what was added and is not weighed yet, and of which rows.
        worth: `[rows, N]` float32, of each token, over all heads that look at it; of text it says nothing.
    """

    patch: Tensor
    cell: Tensor
    time: Tensor
    looks: list[tuple[slice, Tensor]] = field(default_factory=list)
    worth: Tensor | None = None

    @classmethod
    def of(cls, group: Rows, step: Step) -> "Looked":
        """The slots that a step sees, before any look at them is added."""
        patch, cell, time = (group.columns[name][:, : step.end].clone() for name in ("patch", "cell", "time"))
        return cls(patch, cell, time)

    def add(self, rows: slice, looks: Tensor) -> None:
        """Adds what some heads looked at: `[some rows, looks at each, N]`."""
        self.looks.append((rows, looks))
        if sum(each.numel() for _, each in self.looks) > _KEPT:
            self.weigh()

    @torch.inference_mode()
    def weigh(self) -> Tensor:
        """What each token is worth, `[rows, N]`.

        Each look is weighted by (Σ sₘ²)², sₘ being the share of its attention that lies on moment m of the video: 1 if
        all of it lies on one moment, near 0 if it is spread or lies on text.
        """
        if self.worth is None:
            self.worth = torch.zeros(self.patch.shape, device=self.patch.device, dtype=torch.float32)
        worth = self.worth
        place, count = self._places() if self.looks else (self.patch, 0)
        for rows, looks in self.looks:
            places = looks.new_zeros(*looks.shape[:-1], count)
            places.scatter_add_(-1, place[rows].unsqueeze(1).expand_as(looks), looks)
            moments = places[..., 1:]
            share = moments.sum(-1).clamp_min_(1e-9)
            counts = moments.square().sum(-1).square_().div_(share)
            worth[rows] += (counts.unsqueeze(1) @ looks).squeeze(1)
        self.looks.clear()
        return worth

    def _places(self) -> tuple[Tensor, int]:
        """The number of each token's patch among those held, from 1 on, 0 for text; and how many numbers there are."""
        number = ((self.patch + 1) * (self.cell >= 0)).view(-1)
        held, places = torch.cat([number.new_zeros(1), number]).unique(return_inverse=True)
        return places[1:].view_as(self.patch), len(held)

    def by_cell(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Patch, cell, time and weight of each cell that is held by some head."""
        video = self.cell >= 0
        patch, cell, time, worth = (
            part[video].cpu().numpy() for part in (self.patch, self.cell, self.time, self.weigh())
        )
        size = int(cell.max(initial=0)) + 1
        keys, first, place = np.unique(patch.astype(np.int64) * size + cell, return_index=True, return_inverse=True)
        return keys // size, keys % size, time[first], np.bincount(place, worth)


def _over_frame(grids: Sequence[Grid], cells: np.ndarray, weights: np.ndarray, like: int) -> np.ndarray:
    """Weights by cell of the grid that a cell belongs to, `[rows, columns]`."""
    grid = next(each for each in grids if like in each.numbers)
    own = (cells >= grid.first_cell) & (cells < grid.first_cell + grid.cells)
    found = np.bincount(cells[own] - grid.first_cell, weights[own], grid.cells).reshape(grid.rows, grid.columns)
    return (found / max(found.sum(), 1e-12)).astype(np.float32)
