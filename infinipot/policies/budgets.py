"""Policies that give each layer or head a budget of its own: how many kept tokens it sees."""

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
    """A policy that lets attention see only some of the tokens that another one keeps, and not as many in each row.

    All rows store |C| tokens, so no budget can be larger. Tokens beyond a row's budget are hidden from attention and
    evicted first. This saves no memory; it shows whether unequal budgets are better than equal ones when the same
    number of tokens is attended to.

    Options:
        of: the policy that scores.
        share: the mean budget of a row, as a share of |C|.
    """

    hides: ClassVar[bool] = True

    share: Share = 0.5

    def score(self, tokens: VideoTokens) -> Tensor:
        return super().score(tokens).masked_fill(tokens.columns[HIDDEN] > 0, -torch.inf)

    def assured(self, scores: Tensor, tokens: VideoTokens, budget: int) -> Tensor | None:
        assured = super().assured(scores, tokens, budget)
        return None if assured is None else assured & ~(tokens.columns[HIDDEN] > 0)

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
        """Which kept tokens the heads of a layer see, `[heads, |C|]` bool.

        Args:
            scores, arrival: `[heads, |C|]`.
            layer: the number of the layer, out of `layers`.
        """


@dataclass(frozen=True)
class AdaKV(Budgets):
    """Shows the best of what a layer's heads keep together, so that some heads have more than others (Ada-KV).

    The heads of a layer pool their scores, and the `share` · |C| · heads highest are shown. Each head gets at least
    `least` of an equal share.

    Options:
        least: see above.
    """

    name: ClassVar[str] = "adakv"
    paper: ClassVar[str] = "Ada-KV, arXiv 2407.11550"

    least: Share = 0.2

    @property
    def across_heads(self) -> bool:
        return True

    def shown(self, scores: Tensor, arrival: Tensor, layer: int, layers: int) -> Tensor:
        heads, length = scores.shape
        fair = int(self.share * length)
        safe = standing(scores, arrival) >= length - int(self.least * fair)
        pooled = scores.masked_fill(safe, torch.inf).view(1, -1)
        # Ties go to the later token, then to the first head.
        order = arrival * heads + torch.arange(heads - 1, -1, -1, device=scores.device).unsqueeze(1)
        order = order.view(1, -1).argsort(1).argsort(1)
        best = highest(pooled, fair * heads, order)
        return torch.zeros_like(pooled, dtype=torch.bool).scatter(1, best, True).view(heads, length)


@dataclass(frozen=True)
class PyramidKV(Budgets):
    """Shows the first layers most of what they keep and the last ones least, in a straight line (PyramidKV).

    The last layer sees 1 / `steep` of the mean, and the first exceeds the mean by as much as the last falls short. The
    paper also keeps a window of recent tokens; here that is up to the policy that scores. With a share above a half the
    first layers would get more than |C|; they get |C|.

    Options:
        steep: the mean budget divided by the smallest.
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
