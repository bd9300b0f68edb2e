"""InfiniPot-V: evict what time made redundant (TaR), keep what has something to say (VaN).

https://arxiv.org/abs/2506.15745. TaR is in redundancy.py, VaN in salience.py; how they are combined is here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from infinipot.policies.base import Policy
from infinipot.policies.options import Exponent, Share
from infinipot.policies.ranking import highest
from infinipot.policies.redundancy import NEW, Keys, Reference, in_recent_patches, tar, tar_of_new
from infinipot.policies.salience import Pooling, value_norm, van
from infinipot.tokens import Grid, NewTokens, VideoTokens

LEAST_NOVELTY = 1e-4  # 1 - TaR below it is rounding: among what is equally redundant VaN decides


@dataclass(frozen=True)
class InfiniPotV(Policy):
    """Keeps what time did not make redundant (TaR) and what has the largest values (VaN).

    Of N tokens |C| stay, the budget. All ties go to the later token. "two-stage" and "union" are the two forms of the
    literature; "product" is ours.

    Options:
        combine: "product": keep the |C| of highest (1 - TaR) · VaN^power. A token that has nothing to be compared with
            counts as new as the head's others do on average: more often than not its cell's tokens are gone because
            they had nothing to say. "two-stage": drop the r1·N tokens of highest TaR (fewer if less than |C| would
            remain), and of the rest keep the |C| of highest VaN. "union": keep α·|C| by lowest TaR, the recent
            patches first and always, and fill up with the highest VaN among the others.
        scored: when TaR and VaN are taken, in all three forms. "once": when a token comes in, against what its row
            holds then. What made it new or redundant may go later, and the less is left the more it is chance what it
            would be compared with. "again": at each compression, as the published code does; so it is with recent
            patches as the reference, rotated keys, guessed coordinates and pooling, too: they depend on what is held.
        power: see product. The higher, the more VaN weighs; at 0 TaR alone decides.
        newest: of a product, up to this share of |C| is for the newest patch: those of its tokens that score highest
            stay whatever the others' scores are, since it is against them that the next patch is seen.
        reference: TaR compares with the "previous" token of the cell, or with those of the "recent" patches.
        r1: see two-stage; the default is half of what must go when |C| is ¾ of N.
        alpha: see union.
        recent: share of the held patches that count as recent; at least one does.
        keys: TaR compares keys "unrotated", or "rotated" as attention sees them (an ablation).
        coordinates: "true", or "guessed": reads the tokens as full patches in a row whatever was evicted, as
            the published code does (an ablation).
        pooling: "layerwise" averages VaN over neighbours, 7x7x7, 5x5, 3 or "none", by quarter of the layers.
    """

    name: ClassVar[str] = "infinipot-v"
    paper: ClassVar[str] = "InfiniPot-V, arXiv 2506.15745"

    combine: Literal["product", "two-stage", "union"] = "product"
    scored: Literal["once", "again"] = "once"
    power: Exponent = 4.0
    newest: Share = 0.25
    reference: Reference = "previous"
    r1: Share = 0.125
    alpha: Share = 0.5
    recent: Share = 0.25
    keys: Keys = "unrotated"
    coordinates: Literal["true", "guessed"] = "true"
    pooling: Pooling = "none"

    @property
    def columns(self) -> tuple[str, ...]:
        return () if self.reads_states else ("tar", "van")

    @property
    def reads_states(self) -> bool:
        once = self.scored == "once" and self.reference == "previous" and self.keys == "unrotated"
        return not once or self.coordinates == "guessed" or self.pooling != "none"

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        return {} if self.reads_states else {"tar": tar_of_new(new), "van": value_norm(new.values)}

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        redundancy, salience = self._scores(tokens)
        if self.combine == "product":
            return self._product(redundancy, salience, tokens, budget)
        if self.combine == "two-stage":
            return self._two_stage(redundancy, salience, tokens, budget)
        return self._union(redundancy, salience, tokens, budget)

    def _scores(self, tokens: VideoTokens) -> tuple[Tensor, Tensor]:
        """TaR and VaN: as they were when the tokens came in, or as things stand."""
        if not self.reads_states:
            return tokens.columns["tar"], tokens.columns["van"]
        if self.coordinates == "guessed":
            return self._guessed_scores(tokens)
        return tar(tokens, self.reference, self.recent, self.keys), van(tokens, self.pooling)

    def _guessed_scores(self, tokens: VideoTokens) -> tuple[Tensor, Tensor]:
        order = tokens.in_order()
        guessed = guess_coordinates(tokens.part(order))
        scores = tar(guessed, self.reference, self.recent, self.keys), van(guessed, self.pooling)
        redundancy, salience = (torch.zeros_like(score).scatter_(1, order, score) for score in scores)
        return redundancy, salience

    def _product(self, redundancy: Tensor, salience: Tensor, tokens: VideoTokens, budget: int) -> Tensor:
        compared = redundancy > NEW
        novelty = (1 - redundancy).clamp_min(LEAST_NOVELTY).masked_fill(~compared, 0)
        count = compared.sum(1, keepdim=True)
        usual = torch.where(count > 0, novelty.sum(1, keepdim=True) / count.clamp_min(1), 1.0)
        scores = torch.where(compared, novelty, usual) * salience.pow(self.power)
        newest = tokens.patch == tokens.newest_patch
        of_newest = highest(scores.masked_fill(~newest, -torch.inf), int(self.newest * budget), tokens.arrival)
        held = newest & torch.zeros_like(newest).scatter(1, of_newest, True)
        return highest(scores.masked_fill(held, torch.inf), budget, tokens.arrival)

    def _two_stage(self, redundancy: Tensor, salience: Tensor, tokens: VideoTokens, budget: int) -> Tensor:
        length = redundancy.shape[1]
        distinct = highest(-redundancy, max(budget, length - round(self.r1 * length)), tokens.arrival)
        redundant = torch.ones_like(salience, dtype=torch.bool).scatter(1, distinct, False)
        return highest(salience.masked_fill(redundant, -torch.inf), budget, tokens.arrival)

    def _union(self, redundancy: Tensor, salience: Tensor, tokens: VideoTokens, budget: int) -> Tensor:
        recent = in_recent_patches(tokens, self.recent)
        distinct = highest(-redundancy.masked_fill(recent, -torch.inf), round(self.alpha * budget), tokens.arrival)
        chosen = salience.masked_fill(recent, torch.inf).scatter(1, distinct, torch.inf)
        return highest(chosen, budget, tokens.arrival)


def guess_coordinates(tokens: VideoTokens) -> VideoTokens:
    """Tokens in order of arrival, taken for full patches of the current grid in a row."""
    grid = Grid(tokens.grids[-1].rows, tokens.grids[-1].columns, first_cell=0)
    index = torch.arange(tokens.shape[1], device=tokens.cell.device, dtype=torch.int32).expand(tokens.shape)
    newest = (tokens.shape[1] - 1) // grid.cells
    return replace(tokens, patch=index // grid.cells, cell=index % grid.cells, grids=(grid,), newest_patch=newest)
