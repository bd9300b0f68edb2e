"""LagKV: tokens that stand out against what comes right after them. https://arxiv.org/abs/2504.04704"""

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

    A token's channels are scaled by the minimum and maximum of the next partition. Its score is the standard deviation
    of its scaled channels, as a softmax within its own partition, averaged over keys and values. A partition is a
    temporal patch of which the row still holds something; the paper's has 128 tokens. Tokens are ranked within their
    partition, so that all patches lose equally; the last one stays whole. Keys are unrotated; the paper's are cached.
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
        # Within a patch by share; across patches the best of each first, so that all lose equally.
        rank = share - place_within(part, share, tokens.arrival).float()
        return rank.masked_fill(part == part.amax(1, keepdim=True), torch.inf)


def _spread(states: Tensor, part: Tensor) -> Tensor:
    """The standard deviation over channels, each scaled by its range in the next partition: `[rows, N]`."""
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
    """Softmax within each partition, in float64, since its sums follow the order in which tokens are stored."""
    finite = torch.where(spread.isfinite(), spread, 0.0).to(widest_float(spread.device))
    most = torch.zeros_like(finite).scatter_reduce(1, part, finite, "amax")
    powers = (finite - most.gather(1, part)).exp().masked_fill(~spread.isfinite(), 0.0)
    total = torch.zeros_like(powers).scatter_add(1, part, powers)
    return torch.where(spread.isnan(), spread, (powers / total.gather(1, part).clamp_min(1e-9)).float())
