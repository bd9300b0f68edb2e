"""Ablations of InfiniPot-V: every form that was compared with the published ones, for research."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from infinipot.policies.base import Policy
from infinipot.policies.infinipot_v import two_stage, union
from infinipot.policies.novelty import product
from infinipot.policies.options import Exponent, Share
from infinipot.policies.scoring.ranking import highest
from infinipot.policies.scoring.recency import best_of_newest
from infinipot.policies.scoring.tar import Keys, Reference, tar, tar_of_new
from infinipot.policies.scoring.van import Pooling, value_norm, van
from infinipot.tokens import Grid, NewTokens, VideoTokens


@dataclass(frozen=True)
class InfiniPotVAblations(Policy):
    """Combines TaR and VaN in every way that was compared, for research; for use there are `infinipot-v` and `novelty`.

    Options, beside those of `infinipot-v` and `novelty` (whose score is the third way to combine, "product"):
        scored: TaR is computed "once", when a token comes in, or "again" at each compression, as the published code
            does. With recent patches as the reference, rotated keys or guessed coordinates it depends on what is held,
            and is always computed again.
        keys: TaR compares keys "unrotated", or "rotated" as attention sees them.
        coordinates: "true", or "guessed": like the published code, takes the tokens for consecutive full patches,
            whatever was evicted.
    """

    name: ClassVar[str] = "infinipot-v-ablations"
    paper: ClassVar[str] = "after InfiniPot-V, arXiv 2506.15745"

    combine: Literal["union", "two-stage", "product"] = "product"
    reference: Reference = "previous"
    alpha: Share = 0.5
    recent: Share = 0.25
    r1: Share = 0.125
    pooling: Pooling = "none"
    scored: Literal["once", "again"] = "once"
    power: Exponent = 4.0
    newest: Share = 0.25
    keys: Keys = "unrotated"
    coordinates: Literal["true", "guessed"] = "true"

    @property
    def columns(self) -> tuple[str, ...]:
        how = (self.reference, self.scored, self.keys, self.coordinates)
        return ("tar", "van") if how == ("previous", "once", "unrotated", "true") else ("van",)

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        salience = {"van": new.by_rows("values", value_norm)}
        return {"tar": tar_of_new(new), **salience} if "tar" in self.columns else salience

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        redundancy, salience = self._guessed(tokens) if self.coordinates == "guessed" else self._scores(tokens)
        if self.combine == "two-stage":
            return two_stage(redundancy, salience, tokens, budget, self.r1)
        if self.combine == "union":
            return union(redundancy, salience, tokens, budget, self.alpha, self.recent)
        scores = product(redundancy, salience, self.power)
        best = best_of_newest(scores, tokens, int(self.newest * budget))
        return highest(scores.masked_fill(best, torch.inf), budget, tokens.arrival)

    def _scores(self, tokens: VideoTokens) -> tuple[Tensor, Tensor]:
        """TaR and VaN, `[rows, N]` float32 each."""
        return tar(tokens, self.reference, self.recent, self.keys), van(tokens, self.pooling)

    def _guessed(self, tokens: VideoTokens) -> tuple[Tensor, Tensor]:
        """TaR and VaN by guessed coordinates, `[rows, N]` float32 each."""
        order = tokens.in_order()
        scores = self._scores(guess_coordinates(tokens.part(order)))
        redundancy, salience = (torch.zeros_like(score).scatter_(1, order, score) for score in scores)
        return redundancy, salience


def guess_coordinates(tokens: VideoTokens) -> VideoTokens:
    """Tokens in order of arrival, relabelled as consecutive full patches of the current grid."""
    grid = Grid(tokens.grids[-1].rows, tokens.grids[-1].columns, first_cell=0)
    index = torch.arange(tokens.shape[1], device=tokens.cell.device, dtype=torch.int32).expand(tokens.shape)
    newest = (tokens.shape[1] - 1) // grid.cells
    return replace(tokens, patch=index // grid.cells, cell=index % grid.cells, grids=(grid,), newest_patch=newest)
