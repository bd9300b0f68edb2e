"""Novelty: how new a token was to its cell when it came in, times how much it has to say."""

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

LEAST_NOVELTY = 1e-4  # 1 - TaR below it is rounding: among what is equally redundant VaN decides


@dataclass(frozen=True)
class Novelty(ScoredPolicy):
    """Keeps what was new to its cell and has large values, (1 - TaR) · VaN^power, and the best of the newest patch.

    Ours, of InfiniPot-V's two measures. Both are taken once, when a token comes in, against what its row holds then:
    what made it new or redundant may leave later, and the less is left the more it is chance what it would be compared
    with. A token that has nothing to be compared with counts as new as the row's others do on average: more often than
    not its cell's tokens are gone because they had nothing to say.

    Options:
        power: the higher, the more VaN weighs; at 0 TaR alone decides.
        newest: see `ScoredPolicy`; it is against the newest patch that the next one is seen.
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
    """(1 - TaR) · VaN^power, `[rows, N]` float32; TaR that compares with nothing counts as the others' mean.

    The sum is taken wide: rounded as it comes, it would depend on where in the storage tokens lie, and decide between
    the pooled norms of neighbours, which are often equal.
    """
    compared = redundancy > NEW
    novelty = (1 - redundancy).clamp_min(LEAST_NOVELTY).masked_fill(~compared, 0)
    count = compared.sum(1, keepdim=True)
    total = novelty.sum(1, keepdim=True, dtype=widest_float(salience.device))
    usual = torch.where(count > 0, total / count.clamp_min(1), 1.0).float()
    return torch.where(compared, novelty, usual) * raised(salience, power)
