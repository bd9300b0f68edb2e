"""Budgets: how many of what stays each layer, or each head, is shown."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import HIDDEN
from infinipot.policies.options import Ratio, Share
from infinipot.policies.scoring.layers import by_group
from infinipot.policies.scoring.ranking import highest, standing
from infinipot.policies.wrapper import Wrapper
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class Budgets(Wrapper):
    """A policy that shows attention fewer of the tokens that another one keeps, in some rows more than in others.

    All rows store |C| tokens, so that no row can have more than that: budgets are shares of a mean below it, and what a
    row stores beyond its own is hidden from attention and leaves first. At equal bytes nothing can be won by it; what
    it tells is whether a rule shares out better than equal shares at equal numbers of tokens that are attended to.

    Options:
        of: the policy that scores.
        share: of |C|, what rows are shown on average.
    """

    hides: ClassVar[bool] = True

    share: Share = 0.5

    def score(self, tokens: VideoTokens) -> Tensor:
        return super().score(tokens).masked_fill(tokens.columns[HIDDEN] > 0, -torch.inf)

    def assured(self, scores: Tensor, tokens: VideoTokens, budget: int) -> Tensor | None:
        named = super().assured(scores, tokens, budget)
        return None if named is None else named & ~(tokens.columns[HIDDEN] > 0)

    def seen(self, tokens: VideoTokens, kept: Tensor) -> Tensor:
        scores = self.score(tokens)
        assured = self.assured(scores, tokens, kept.shape[1])
        scores = scores if assured is None else scores.masked_fill(assured, torch.inf)
        scores, arrival = (part.gather(1, kept) for part in (scores, tokens.arrival))
        shown = torch.zeros(kept.shape, dtype=torch.bool, device=kept.device)
        for layer, rows in by_group(tokens, lambda layer: layer):
            shown[rows] = self.shown(scores[rows], arrival[rows], layer, tokens.layers)
        return shown

    @abstractmethod
    def shown(self, scores: Tensor, arrival: Tensor, layer: int, layers: int) -> Tensor:
        """Which kept tokens of a layer's heads are shown, `[heads, |C|]` bool.

        Args:
            scores, arrival: `[heads, |C|]`.
            layer: its number, out of `layers`.
        """


@dataclass(frozen=True)
class AdaKV(Budgets):
    """Shows the best of what a layer's heads keep together, so that some heads have more than others (Ada-KV).

    The heads of a layer pool their scores, and the highest `share` · |C| · heads are shown, of each head at least
    `least` of its equal share.

    Options:
        least: see above.
    """

    name: ClassVar[str] = "adakv"
    paper: ClassVar[str] = "Ada-KV, arXiv 2407.11550"

    least: Share = 0.2

    def shown(self, scores: Tensor, arrival: Tensor, layer: int, layers: int) -> Tensor:
        heads, length = scores.shape
        fair = int(self.share * length)
        safe = standing(scores, arrival) >= length - int(self.least * fair)
        pooled = scores.masked_fill(safe, torch.inf).view(1, -1)
        # Of equal scores the later token, and of one moment that of the first head, so that no two are equal.
        order = arrival * heads + torch.arange(heads - 1, -1, -1, device=scores.device).unsqueeze(1)
        order = order.view(1, -1).argsort(1).argsort(1)
        best = highest(pooled, fair * heads, order)
        return torch.zeros_like(pooled, dtype=torch.bool).scatter(1, best, True).view(heads, length)


@dataclass(frozen=True)
class PyramidKV(Budgets):
    """Shows the first layers most of what they keep and the last ones least, in a straight line (PyramidKV).

    The last layer is shown 1 / `steep` of the mean, the first as much more than the mean as the last is shown less. The
    paper keeps a window of recent tokens besides; here the policy that scores does where it has one. With a share above
    a half the first layers would be shown more than |C|, and are shown |C|.

    Options:
        steep: the mean over the least.
    """

    name: ClassVar[str] = "pyramidkv"
    paper: ClassVar[str] = "PyramidKV, arXiv 2406.02069"

    steep: Ratio = 20.0

    def shown(self, scores: Tensor, arrival: Tensor, layer: int, layers: int) -> Tensor:
        length = scores.shape[1]
        mean = self.share * length
        least = mean / self.steep
        through = layer / max(layers - 1, 1)
        count = min(length, round(2 * mean - least - through * 2 * (mean - least)))
        return standing(scores, arrival) >= length - max(count, 1)
