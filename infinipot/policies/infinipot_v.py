"""InfiniPot-V: evicts what is redundant over time (TaR) and keeps what is salient (VaN).

https://arxiv.org/abs/2506.15745. TaR is in scoring/tar.py, VaN in scoring/van.py; how they are combined is here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from infinipot.policies.base import Policy
from infinipot.policies.options import Share
from infinipot.policies.scoring.ranking import highest
from infinipot.policies.scoring.recency import in_recent_patches
from infinipot.policies.scoring.tar import Reference, tar, tar_of_new
from infinipot.policies.scoring.van import Pooling, value_norm, van
from infinipot.tokens import NewTokens, VideoTokens


@dataclass(frozen=True)
class InfiniPotV(Policy):
    """Keeps what time did not make redundant (TaR) and what has the largest values (VaN).

    Of N tokens, |C| stay (the budget). Ties go to the later token. Both published forms are here, with unrotated keys
    and true coordinates; `infinipot-v-reference` is the published code.

    A token is scored once, when it comes in, against what its row holds then. TaR against recent patches and the
    average of a pooled VaN depend on what is held now, so these are computed at each compression.

    Options:
        combine: "union" keeps α·|C| tokens by lowest TaR, always including the recent patches, and fills up with the
            highest VaN of the others. This is the form of the published code and numbers. "two-stage" drops the r1·N
            tokens of highest TaR (fewer if less than |C| would remain) and keeps the |C| of highest VaN of the rest.
            This is the form of the paper's text.
        reference: TaR compares with the "previous" token of the cell, or, like the published code, with those of the
            "recent" patches.
        alpha: see union.
        recent: the share of the held patches that count as recent; at least one does. Those that a gate left out among
            them count, too.
        r1: see two-stage; the default is half of what must go when |C| is ¾ of N.
        pooling: "layerwise" averages VaN over neighbours: 7x7x7, 5x5, 3 and none, by quarter of the layers; or "none".
    """

    name: ClassVar[str] = "infinipot-v"
    paper: ClassVar[str] = "InfiniPot-V, arXiv 2506.15745"

    combine: Literal["union", "two-stage"] = "union"
    reference: Reference = "previous"
    alpha: Share = 0.5
    recent: Share = 0.25
    r1: Share = 0.125
    pooling: Pooling = "none"

    @property
    def idle(self) -> tuple[str, ...]:
        if self.combine == "union":
            return ("r1",)
        return ("alpha",) if self.reference == "recent" else ("alpha", "recent")

    @property
    def columns(self) -> tuple[str, ...]:
        return ("tar", "van") if self.reference == "previous" else ("van",)

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        salience = {"van": new.by_rows("values", value_norm)}
        return {"tar": tar_of_new(new), **salience} if "tar" in self.columns else salience

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        redundancy = tar(tokens, self.reference, self.recent)
        salience = van(tokens, self.pooling)
        if self.combine == "two-stage":
            return two_stage(redundancy, salience, tokens, budget, self.r1)
        return union(redundancy, salience, tokens, budget, self.alpha, self.recent)


def two_stage(redundancy: Tensor, salience: Tensor, tokens: VideoTokens, budget: int, r1: float) -> Tensor:
    """The `budget` tokens of highest VaN, after the r1·N of highest TaR are dropped, `[rows, budget]` int64."""
    length = redundancy.shape[1]
    distinct = highest(-redundancy, max(budget, length - round(r1 * length)), tokens.arrival)
    redundant = torch.ones_like(salience, dtype=torch.bool).scatter(1, distinct, False)
    return highest(salience.masked_fill(redundant, -torch.inf), budget, tokens.arrival)


def union(
    redundancy: Tensor, salience: Tensor, tokens: VideoTokens, budget: int, alpha: float, recent: float
) -> Tensor:
    """The recent patches and the lowest TaR, α·`budget` together, then the highest VaN, `[rows, budget]` int64."""
    newest = in_recent_patches(tokens, recent)
    distinct = highest(-redundancy.masked_fill(newest, -torch.inf), round(alpha * budget), tokens.arrival)
    chosen = salience.masked_fill(newest, torch.inf).scatter(1, distinct, torch.inf)
    return highest(chosen, budget, tokens.arrival)
