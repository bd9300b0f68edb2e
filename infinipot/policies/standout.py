"""Standout: what is unlike what is usual at its time, in value, in key, and to its own cell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.options import Exponent, Share
from infinipot.policies.redundancy import NEW, cosine, tar_of_new
from infinipot.policies.usual import usual
from infinipot.tokens import NewTokens, VideoTokens


@dataclass(frozen=True)
class Standout(ScoredPolicy):
    """Keeps what stands out when it comes in: in value, in key, and against what its cell showed before.

    Ours. Three distances are taken once, of the tokens that come in together: ‖v - v̄‖ from their mean value, 1 - cos to
    their mean key, and 1 - TaR to the cell's previous token. Each counts as a multiple of its mean over those tokens,
    and the score is the product of the three. So a score says how much a token stands out of its own moment: a night
    whose values are small competes with the day before it. A token whose cell holds nothing yet is as new as the mean.
    Half of what stays is spread over time, see `coverage`.

    Options:
        values, keys, novelty: exponents of the three; at 0 one does not count.
    """

    name: ClassVar[str] = "standout"

    coverage: Share = 0.5
    values: Exponent = 1.0
    keys: Exponent = 1.0
    novelty: Exponent = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        return ("standing",)

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        values, keys = new.values.float(), new.keys.float()
        far = torch.linalg.vector_norm(values - usual(values), dim=-1)
        unlike = 1 - cosine(keys, usual(keys).expand_as(keys))
        redundancy = tar_of_new(new)
        fresh = torch.where(redundancy > NEW, 1 - redundancy, torch.nan)
        parts = (far, self.values), (unlike, self.keys), (fresh, self.novelty)
        return {"standing": torch.stack([_multiple(part) ** power for part, power in parts]).prod(0)}

    def score(self, tokens: VideoTokens) -> Tensor:
        return tokens.columns["standing"]


def _multiple(distance: Tensor) -> Tensor:
    """Distances `[rows, N]` as multiples of their row's mean; 1 for what is none, and where all are 0."""
    known = distance.isfinite()
    total = distance.where(known, 0.0).sum(1, keepdim=True)
    mean = total / known.sum(1, keepdim=True).clamp_min(1)
    return torch.where(known & (mean > 0), distance.clamp_min(0) / mean.clamp_min(1e-30), 1.0)
