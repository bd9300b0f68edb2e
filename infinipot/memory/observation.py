"""What attends to what in a step, for those who ask: policies, and whoever wants evidence of an answer.

An `Observer` of a step is shown the queries and the keys of each layer as attention sees them. A step without observers
costs nothing. What is observed lies beside the memory until its transaction is committed or forgotten: it takes
`[rows, slots]` float32 a column.
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

NOTHING: Mapping[str, Attention] = MappingProxyType({})  # that a policy asks for
_PIECE = 8 << 20  # weights that are computed at once
_FUTURE = 512  # positions ahead over which Expected Attention takes its mean


@dataclass(frozen=True, slots=True)
class Seen:
    """One layer of a step, as attention sees it.

    Attributes:
        step: whose tokens ask; they lie in the slots from `step.start` on.
        layer: of the model, by its number.
        raw: `[heads, n, head_dim]`, queries as the model makes them.
        queries: the same in the layout of keys, and turned to their positions.
        keys: `[kv_heads, N, head_dim]`, turned likewise; N is `step.end`.
        scaling: what products are multiplied with.
        hidden: the slots that attention passes over, see `Step.hidden`.
    """

    step: "Step"
    layer: int
    raw: Tensor
    queries: Tensor
    keys: Tensor
    scaling: float
    hidden: Tensor | None = None

    def weights(self, asking: Tensor) -> Iterator[Tensor]:
        """Attention of some of the step's tokens, as many at a time as a bounded scratch holds.

        Args:
            asking: `[m]` int64, their places in the step.

        Yields:
            `[kv_heads, heads of one KV head, some of m, N]` float32, each of which sums to 1 over N.
        """
        kv_heads, length, _ = self.keys.shape
        groups = self.queries.unflatten(0, (kv_heads, -1))
        slot = torch.arange(length, device=self.keys.device)
        for some in asking.split(max(1, _PIECE // (len(self.queries) * length))):
            there = some.to(self.keys.device, non_blocking=True)
            queries = groups.index_select(2, there) * self.scaling  # ahead of the product, which float16 may not hold
            scores = queries @ self.keys.transpose(1, 2).unsqueeze(1)
            hidden = slot > (there + self.step.start).unsqueeze(-1)
            if self.hidden is not None:
                hidden = hidden | (self.hidden if self.hidden.shape[1] == 1 else self.hidden[:, there]).unsqueeze(1)
            yield scores.float().masked_fill_(hidden, -torch.inf).softmax(-1)


class Observer(Protocol):
    """Is shown each layer of a step, in order, while a model's forward runs over it."""

    def __call__(self, seen: Seen) -> None:
        """Takes what it wants; what it is shown is overwritten afterwards."""


@dataclass(slots=True)
class Column:
    """An observer that fills a column of a policy's.

    Attributes:
        attention: what is asked for.
        asking: `[m]` int64, the places in the step of the tokens that ask.
        groups: the rows of the memory.
        found: for each group `[rows, slots]` float32, `UNSEEN` where nothing was observed.
    """

    attention: Attention
    asking: Tensor
    groups: Sequence[Rows]
    found: Sequence[Tensor]

    def __call__(self, seen: Seen) -> None:
        group, rows = seen.step.memory.place(seen.layer)
        number = next(number for number, each in enumerate(self.groups) if each is group)
        own = self.found[number][rows, : seen.keys.shape[1]]
        if self.attention.over == "max":
            own.copy_(torch.maximum(own, _highest(seen, self.asking)))
        else:
            own.copy_((_mean if self.attention.over == "mean" else _expected)(seen, self.asking))


@dataclass(slots=True)
class Observed:
    """What was observed while the steps of one transaction ran: for each column and group `[rows, slots]` float32."""

    columns: dict[str, list[Tensor]] = field(default_factory=dict)

    def observers(
        self, wanted: Mapping[str, Attention], groups: Sequence[Rows], cells: Tensor, length: int
    ) -> list[Observer]:
        """The observers that fill the columns of attention which a policy wants of a step.

        Args:
            wanted: by the name of the column.
            groups: the rows of the memory.
            cells: `[n]` bool on the CPU, which of the step's tokens are cells; of a probe all ask.
            length: slots in use with the step.
        """
        found: list[Observer] = []
        for name, attention in wanted.items():
            asking = torch.arange(len(cells)) if attention.probe is not None else cells.nonzero()[:, 0]
            asking = asking[-attention.queries :]
            if len(asking):
                found.append(Column(attention, asking, groups, self._column(name, groups, length)))
        return found

    def _column(self, name: str, groups: Sequence[Rows], length: int) -> list[Tensor]:
        old = self.columns.get(name)
        if old is None or old[0].shape[1] < length:
            self.columns[name] = [_unseen(group, length) for group in groups]
            for new, before in zip(self.columns[name], old or (), strict=False):
                new[:, : before.shape[1]] = before
        return self.columns[name]

    def contents(self, wanted: Mapping[str, Attention], number: int, group: Rows, length: int) -> dict[str, Tensor]:
        """The columns of a group's first slots once this has become part of them: `[rows, length]` each.

        Contents that were not observed stay as they were; a column that asks for the "max" keeps the higher value.
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
    assert isinstance(total, Tensor), "someone asks"
    return total.div_(len(asking) * (len(seen.queries) // len(seen.keys)))


def _highest(seen: Seen, asking: Tensor) -> Tensor:
    parts = [weights.amax((1, 2)) for weights in seen.weights(asking)]
    return torch.stack(parts).amax(0)


def _expected(seen: Seen, asking: Tensor) -> Tensor:
    """Expected Attention (arXiv 2510.00636): E[exp(q·k·s)] of normal queries, exp(μ·k·s + kᵀΣk·s²/2), as shares of 1.

    μ and Σ are those of the queries without rotation, turned by the mean of the rotations of the positions to come.
    """
    rotary, step = seen.step.memory.rotary, seen.step
    there = asking.to(seen.keys.device, non_blocking=True)
    queries = rotary.to_stored(seen.raw.index_select(1, there)).float()
    mean = queries.mean(1, keepdim=True)
    centred = _turned_ahead(rotary, queries - mean, step.highest).mul_(seen.scaling)
    mean = _turned_ahead(rotary, mean, step.highest).mul_(seen.scaling)
    covariance = (centred.transpose(1, 2) @ centred / len(asking)).unflatten(0, (len(seen.keys), -1))
    keys = seen.keys.float().unsqueeze(1)
    logits = (keys @ mean.unflatten(0, (len(seen.keys), -1)).transpose(2, 3)).squeeze(-1)
    logits += ((keys @ covariance) * keys).sum(-1) / 2
    if seen.hidden is not None:
        logits.masked_fill_(seen.hidden[:, :1], -torch.inf)  # those who ask are cells, which come first
    return logits.softmax(-1).mean(1)


def _turned_ahead(rotary: Rotary, heads: Tensor, start: int) -> Tensor:
    """Heads turned by the mean rotation of the next positions, which are those of text."""
    ahead = torch.arange(start, start + _FUTURE, device=heads.device)
    return rotary.rotate_(heads, rotary.angles([ahead] * 3, start + _FUTURE).mean(0))
