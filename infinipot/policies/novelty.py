"""Novelty: how new a token was to its cell when it came in, times the length of its value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.options import Exponent, Share
from infinipot.policies.scoring.rounding import raised, widest_float
from infinipot.policies.scoring.tar import NEW, tar_of_new
from infinipot.policies.scoring.van import value_norm
from infinipot.tokens import NewTokens, VideoTokens

LEAST_NOVELTY = 1e-4  # 1 - TaR below this is rounding: VaN decides among equally redundant tokens


@dataclass(frozen=True)
class Novelty(ScoredPolicy):
    """Keeps what was new to its cell and has large values, (1 - TaR) · VaN^power, and the best of the newest patch.

    This project's own combination of InfiniPot-V's two measures. Both are computed once, when a token comes in, against
    what its row holds then. What made it new or redundant may be evicted later, and the less remains, the more a
    comparison depends on chance. A token with nothing to compare with is given the mean novelty of its row: most often
    the tokens of its cell were evicted because they showed nothing of interest.

    Options:
        power: the higher, the more VaN counts; at 0, TaR alone decides.
        newest: see `ScoredPolicy`; the next patch is compared with the newest one.
    """

    name: ClassVar[str] = "novelty"

    newest: Share = 0.25
    power: Exponent = 4.0

    @property
    def columns(self) -> tuple[str, ...]:
        return ("tar", "van")

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        return {"tar": tar_of_new(new), "van": new.by_rows("values", value_norm)}

    def score(self, tokens: VideoTokens) -> Tensor:
        return product(tokens.columns["tar"], tokens.columns["van"], self.power)


def product(redundancy: Tensor, salience: Tensor, power: float) -> Tensor:
    """(1 - TaR) · VaN^power, `[rows, N]` float32. A token with nothing to compare with gets the mean of the others.

    The mean is taken in float64. In float32 its rounding would depend on the order in which tokens are stored, and
    decide between the pooled norms of neighbours, which are often equal.
    """
    compared = redundancy > NEW
    novelty = (1 - redundancy).clamp_min(LEAST_NOVELTY).masked_fill(~compared, 0)
    count = compared.sum(1, keepdim=True)
    total = novelty.sum(1, keepdim=True, dtype=widest_float(salience.device))
    mean = torch.where(count > 0, total / count.clamp_min(1), 1.0).float()
    return torch.where(compared, novelty, mean) * raised(salience, power)
