"""Ablations of InfiniPot-V: what was tried beside the published forms. For research."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from infinipot.policies.infinipot_v import TaRAndVaN, two_stage, union
from infinipot.policies.novelty import product
from infinipot.policies.options import Exponent, Share
from infinipot.policies.scoring.ranking import highest
from infinipot.policies.scoring.recency import best_of_newest
from infinipot.policies.scoring.tar import Keys, tar
from infinipot.tokens import Grid, VideoTokens


@dataclass(frozen=True)
class InfiniPotVAblations(TaRAndVaN):
    """Combines TaR and VaN in every way that was compared, for research; for use there are `infinipot-v` and `novelty`.

    Options, beside those of `infinipot-v` and `novelty`, whose "product" is one more way to combine:
        scored: when TaR is taken: "once", or "again" at each compression, as the published code does; so it is with
            recent patches as the reference, rotated keys and guessed coordinates, too: they depend on what is held.
        keys: TaR compares keys "unrotated", or "rotated" as attention sees them.
        coordinates: "true", or "guessed": reads the tokens as full patches in a row whatever was evicted, as the
            published code does.
    """

    name: ClassVar[str] = "infinipot-v-ablations"
    paper: ClassVar[str] = "after InfiniPot-V, arXiv 2506.15745"

    combine: Literal["union", "two-stage", "product"] = "product"
    scored: Literal["once", "again"] = "once"
    power: Exponent = 4.0
    newest: Share = 0.25
    keys: Keys = "unrotated"
    coordinates: Literal["true", "guessed"] = "true"

    @property
    def once(self) -> bool:
        return super().once and self.scored == "once" and self.keys == "unrotated" and self.coordinates == "true"

    def combined(self, redundancy: Tensor, salience: Tensor, tokens: VideoTokens, budget: int) -> Tensor:
        if self.combine == "two-stage":
            return two_stage(redundancy, salience, tokens, budget, self.r1)
        if self.combine == "union":
            return union(redundancy, salience, tokens, budget, self.alpha, self.recent)
        scores = product(redundancy, salience, self.power)
        held = best_of_newest(scores, tokens, int(self.newest * budget))
        return highest(scores.masked_fill(held, torch.inf), budget, tokens.arrival)

    def scores(self, tokens: VideoTokens) -> tuple[Tensor, Tensor]:
        if self.coordinates == "true":
            return super().scores(tokens)
        order = tokens.in_order()
        scores = super().scores(guess_coordinates(tokens.part(order)))
        redundancy, salience = (torch.zeros_like(score).scatter_(1, order, score) for score in scores)
        return redundancy, salience

    def redundancy(self, tokens: VideoTokens) -> Tensor:
        return tokens.columns["tar"] if self.once else tar(tokens, self.reference, self.recent, self.keys)


def guess_coordinates(tokens: VideoTokens) -> VideoTokens:
    """Tokens in order of arrival, taken for full patches of the current grid in a row."""
    grid = Grid(tokens.grids[-1].rows, tokens.grids[-1].columns, first_cell=0)
    index = torch.arange(tokens.shape[1], device=tokens.cell.device, dtype=torch.int32).expand(tokens.shape)
    newest = (tokens.shape[1] - 1) // grid.cells
    return replace(tokens, patch=index // grid.cells, cell=index % grid.cells, grids=(grid,), newest_patch=newest)
