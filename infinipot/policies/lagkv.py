"""LagKV: tokens that stick out of what comes right after them. https://arxiv.org/abs/2504.04704"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.scoring.ranking import place_within
from infinipot.policies.scoring.rounding import widest_float
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class LagKV(ScoredPolicy):
    """Keeps, of each temporal patch, the tokens that stand out most against the next patch's ranges (LagKV).

    A token's channels are scaled by the least and the largest of the next partition; how much they spread then (their
    standard deviation), as a share within its own partition, is its score, the mean of that of keys and that of values.
    A partition here is a temporal patch of which the row still holds something, where the paper has 128 tokens; tokens
    are ranked within theirs, so that all patches lose alike, and the last one is whole. Keys have no rotation, where
    the paper takes cached ones.
    """

    name: ClassVar[str] = "lagkv"
    paper: ClassVar[str] = "LagKV, arXiv 2504.04704"

    @property
    def reads_states(self) -> bool:
        return True

    def score(self, tokens: VideoTokens) -> Tensor:
        order = tokens.patch.long().argsort(1)
        in_order = tokens.patch.gather(1, order)
        begins = in_order != in_order.roll(1, 1)
        begins = torch.cat([torch.zeros_like(begins[:, :1]), begins[:, 1:]], 1)
        part = torch.zeros_like(order).scatter(1, order, begins.cumsum(1))  # patches numbered without gaps
        spread = (_spread(states.float(), part) for states in (tokens.keys, tokens.values))
        share = sum(_share(each, part) for each in spread) / 2
        assert isinstance(share, Tensor), "there are keys and values"
        # Within a patch by share; between patches the best of each first, so that all lose alike.
        rank = share - place_within(part, share, tokens.arrival).float()
        return rank.masked_fill(part == part.amax(1, keepdim=True), torch.inf)


def _spread(states: Tensor, part: Tensor) -> Tensor:
    """The standard deviation over channels, scaled by the range that each has in the next partition: `[rows, N]`."""
    rows, length, width = states.shape
    sound = states.isfinite()
    at = part.unsqueeze(-1).expand(-1, -1, width)
    least, most = (
        states.new_full((rows, length + 1, width), -sign * torch.inf).scatter_reduce(
            1, at, states.where(sound, -sign * torch.inf), "amax" if sign > 0 else "amin"
        )
        for sign in (-1, 1)
    )
    least, most = (bound.gather(1, at + 1) for bound in (least, most))
    return ((states - least) / (most - least).clamp_min(1e-9)).std(-1)


def _share(spread: Tensor, part: Tensor) -> Tensor:
    """Softmax within each partition, taken wide: its sums are over tokens in the order in which they lie."""
    finite = torch.where(spread.isfinite(), spread, 0.0).to(widest_float(spread.device))
    most = torch.zeros_like(finite).scatter_reduce(1, part, finite, "amax")
    powers = (finite - most.gather(1, part)).exp().masked_fill(~spread.isfinite(), 0.0)
    total = torch.zeros_like(powers).scatter_add(1, part, powers)
    return torch.where(spread.isnan(), spread, (powers / total.gather(1, part).clamp_min(1e-9)).float())
