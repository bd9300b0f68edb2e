"""The attention within a step, for policies and for the evidence of answers.

An `Observer` of a step is shown the queries and keys of each layer as attention sees them. Without observers a step
costs nothing extra. What policies asked for is stored outside the memory until its transaction is committed or
forgotten, and takes `[rows, slots]` float32 per column.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from infinipot.memory.rotary import Rotary
from infinipot.memory.storage import Rows
from infinipot.policies.base import UNSEEN, Attention

if TYPE_CHECKING:
    from infinipot.memory.step import Step

NOTHING: Mapping[str, Attention] = MappingProxyType({})  # a policy that asks for no attention
_PIECE = 8 << 20  # numbers computed at a time
_FUTURE = 512  # positions ahead that Expected Attention averages over


@dataclass(frozen=True, slots=True)
class Seen:
    """One layer of a step, as attention sees it.

    Attributes:
        step: the step; its tokens, the queries, are in the slots from `step.start` on.
        layer: the number of the layer in the model.
        raw: `[heads, n, head_dim]`, queries as the model makes them.
        queries: the same in the layout of keys, rotated to their positions.
        keys: `[kv_heads, N, head_dim]`, rotated to their positions; N is `step.end`.
        scaling: the factor of the dot products.
        hidden: the slots that attention skips, see `Step.hidden`.
    """

    step: "Step"
    layer: int
    raw: Tensor
    queries: Tensor
    keys: Tensor
    scaling: float
    hidden: Tensor | None = None

    def weights(self, asking: Tensor) -> Iterator[Tensor]:
        """The attention of some of the step's tokens, as many at a time as fit a bounded scratch.

        Args:
            asking: `[m]` int64, the indices of the tokens in the step.

        Yields:
            `[kv_heads, heads per KV head, some of m, N]` float32; each row sums to 1 over N.
        """
        kv_heads, length, _ = self.keys.shape
        groups = self.queries.unflatten(0, (kv_heads, -1))
        slot = torch.arange(length, device=self.keys.device)
        for some in asking.split(max(1, _PIECE // (len(self.queries) * length))):
            there = some.to(self.keys.device, non_blocking=True)
            queries = groups.index_select(2, there) * self.scaling  # before the product, which may overflow float16
            scores = queries @ self.keys.transpose(1, 2).unsqueeze(1)
            hidden = slot > (there + self.step.start).unsqueeze(-1)
            if self.hidden is not None:
                hidden = hidden | (self.hidden if self.hidden.shape[1] == 1 else self.hidden[:, there]).unsqueeze(1)
            yield scores.float().masked_fill_(hidden, -torch.inf).softmax(-1)


class Observer(Protocol):
    """Is called with each layer of a step, in order, during the model's forward."""

    def __call__(self, seen: Seen) -> None:
        """Takes what it needs; the tensors are overwritten afterwards."""


@dataclass(slots=True)
class Column:
    """An observer that fills a column of a policy.

    Attributes:
        attention: the policy's request.
        asking: `[m]` int64, the indices in the step of the tokens that are queries.
        groups: the rows of the memory.
        contents: for each group `[rows, slots]` float32, `UNSEEN` where nothing was observed.
    """

    attention: Attention
    asking: Tensor
    groups: Sequence[Rows]
    contents: Sequence[Tensor]

    def __call__(self, seen: Seen) -> None:
        group, rows = seen.step.memory.place(seen.layer)
        number = next(number for number, each in enumerate(self.groups) if each is group)
        own = self.contents[number][rows, : seen.keys.shape[1]]
        if self.attention.over == "max":
            own.copy_(torch.maximum(own, _highest(seen, self.asking)))
        else:
            own.copy_((_mean if self.attention.over == "mean" else _expected)(seen, self.asking))


@dataclass(slots=True)
class Observed:
    """The attention observed during the steps of a transaction: for each column and group `[rows, slots]` float32."""

    columns: dict[str, list[Tensor]] = field(default_factory=dict)

    def observers(
        self, wanted: Mapping[str, Attention], groups: Sequence[Rows], cells: Tensor, length: int
    ) -> list[Observer]:
        """The observers that fill the columns that a policy asks for.

        Args:
            wanted: the requests, by column.
            groups: the rows of the memory.
            cells: `[n]` bool on the CPU, which of the step's tokens are cells. In a probe all tokens are queries.
            length: the slots in use, the step's included.
        """
        observers: list[Observer] = []
        for name, attention in wanted.items():
            asking = torch.arange(len(cells)) if attention.probe is not None else cells.nonzero()[:, 0]
            asking = asking[-attention.queries :]
            if len(asking):
                observers.append(Column(attention, asking, groups, self._column(name, groups, length)))
        return observers

    def _column(self, name: str, groups: Sequence[Rows], length: int) -> list[Tensor]:
        old = self.columns.get(name)
        if old is None or old[0].shape[1] < length:
            self.columns[name] = [_unseen(group, length) for group in groups]
            for new, before in zip(self.columns[name], old or (), strict=False):
                new[:, : before.shape[1]] = before
        return self.columns[name]

    def contents(self, wanted: Mapping[str, Attention], number: int, group: Rows, length: int) -> dict[str, Tensor]:
        """The new contents of a group's columns, `[rows, length]` each.

        Tokens that were not observed keep their values; a column of "max" attention keeps the higher value.
        """
        merged = {}
        for name in wanted.keys() & self.columns.keys():
            merged[name] = group.columns[name][:, :length].clone()
            fresh = self.columns[name][number][:, :length]
            before = merged[name][:, : fresh.shape[1]]  # a view of it
            highest = wanted[name].over == "max"
            before.copy_(torch.maximum(before, fresh) if highest else torch.where(fresh < 0, before, fresh))
        return merged


def _unseen(group: Rows, length: int) -> Tensor:
    return torch.full((group.count, length), UNSEEN, device=group.shape.device, dtype=torch.float32)


def _mean(seen: Seen, asking: Tensor) -> Tensor:
    total = sum(weights.sum((1, 2)) for weights in seen.weights(asking))
    assert isinstance(total, Tensor), "there is at least one query"
    return total.div_(len(asking) * (len(seen.queries) // len(seen.keys)))


def _highest(seen: Seen, asking: Tensor) -> Tensor:
    parts = [weights.amax((1, 2)) for weights in seen.weights(asking)]
    return torch.stack(parts).amax(0)


def _expected(seen: Seen, asking: Tensor) -> Tensor:
    """Expected Attention (arXiv 2510.00636): E[exp(q·k·s)] of normal queries, exp(μ·k·s + kᵀΣk·s²/2), normalised to 1.

    μ and Σ are those of the unrotated queries, rotated by the mean rotation of the positions to come.
    """
    rotary, step = seen.step.memory.rotary, seen.step
    there = asking.to(seen.keys.device, non_blocking=True)
    queries = rotary.to_stored(seen.raw.index_select(1, there)).float()
    mean = queries.mean(1, keepdim=True)
    centred = _turned_ahead(rotary, queries - mean, step.highest).mul_(seen.scaling)
    mean = _turned_ahead(rotary, mean, step.highest).mul_(seen.scaling)
    covariance = (centred.transpose(1, 2) @ centred / len(asking)).unflatten(0, (len(seen.keys), -1))
    mean = mean.unflatten(0, (len(seen.keys), -1)).transpose(2, 3)
    parts = []
    for some in seen.keys.split(max(1, _PIECE // mean[..., 0].numel()), 1):
        keys = some.float().unsqueeze(1)
        parts.append((keys @ mean).squeeze(-1) + ((keys @ covariance) * keys).sum(-1) / 2)
    logits = torch.cat(parts, -1)
    if seen.hidden is not None:
        logits.masked_fill_(seen.hidden[:, :1], -torch.inf)  # queries are cells, which come first
    return logits.softmax(-1).mean(1)


def _turned_ahead(rotary: Rotary, heads: Tensor, start: int) -> Tensor:
    """Heads rotated by the mean rotation of the next positions, as those of text."""
    ahead = torch.arange(start, start + _FUTURE, device=heads.device)
    return rotary.rotate_(heads, rotary.angles([ahead] * 3, start + _FUTURE).mean(0))
