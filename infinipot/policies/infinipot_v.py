"""InfiniPot-V: evict what time made redundant (TaR), keep what has something to say (VaN).

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

    Of N tokens |C| stay, the budget. All ties go to the later token. These are the two forms of the literature, with
    keys without rotation and coordinates that are known, not guessed; `infinipot-v-reference` is the published code.

    A token is scored once, when it comes in, against what its row holds then. With recent patches as the reference TaR
    depends on what is held, and so does the average of a pooled VaN: these are taken anew at each compression.

    Options:
        combine: "union": keep α·|C| by lowest TaR, the recent patches first and always, and fill up with the highest
            VaN among the others (the published code's form, of which the published numbers are). "two-stage": drop the
            r1·N tokens of highest TaR (fewer if less than |C| would remain), and of the rest keep the |C| of highest
            VaN (the paper's text).
        reference: TaR compares with the "previous" token of the cell, or with those of the "recent" patches, as the
            published code does.
        alpha: see union.
        recent: share of the held patches that count as recent; at least one does.
        r1: see two-stage; the default is half of what must go when |C| is ¾ of N.
        pooling: "layerwise" averages VaN over neighbours, 7x7x7, 5x5, 3 or "none", by quarter of the layers.
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
    """The `budget` of highest VaN among all but the r1·N of highest TaR, `[rows, budget]` int64."""
    length = redundancy.shape[1]
    distinct = highest(-redundancy, max(budget, length - round(r1 * length)), tokens.arrival)
    redundant = torch.ones_like(salience, dtype=torch.bool).scatter(1, distinct, False)
    return highest(salience.masked_fill(redundant, -torch.inf), budget, tokens.arrival)


def union(
    redundancy: Tensor, salience: Tensor, tokens: VideoTokens, budget: int, alpha: float, recent: float
) -> Tensor:
    """The recent patches, α·`budget` by lowest TaR with them, and the rest by highest VaN, `[rows, budget]` int64."""
    newest = in_recent_patches(tokens, recent)
    distinct = highest(-redundancy.masked_fill(newest, -torch.inf), round(alpha * budget), tokens.arrival)
    chosen = salience.masked_fill(newest, torch.inf).scatter(1, distinct, torch.inf)
    return highest(chosen, budget, tokens.arrival)
