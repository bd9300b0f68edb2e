"""Unusual: values unlike those that came with them, keys unlike what is held, and some of the newest patch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.options import Exponent, Share
from infinipot.policies.scoring.mean import cosine_to_mean, distance_from_mean
from infinipot.policies.scoring.ranking import highest, highest_within
from infinipot.policies.scoring.rounding import raised
from infinipot.tokens import NewTokens, VideoTokens


@dataclass(frozen=True)
class Unusual(ScoredPolicy):
    """Keeps what is unusual: in value among what it came with, in key among what is held; and some of the newest patch.

    Ours, InfiniPot-V's two halves with the mean taken away. The score is ‖v - v̄‖ · (1 - cos(k, k̄)), keys without
    rotation. What a token has to say does not change: v̄ is the mean of the tokens that came in together, and the
    distance is taken once. Whether it is redundant does: k̄ is the mean of what its row holds at each compression. Since
    that is mostly unusual itself, a token has to be unlike the background and unlike what has been kept already. An
    eighth of |C| is for the newest patch, whatever it shows: without it a model that is asked about now cannot see that
    there is nothing.

    Options:
        newest: see `ScoredPolicy`.
        values, keys: exponents of the two distances; at 0 one does not count.
        corners: up to this share of |C| is for the corners of the patches in which the most unusual tokens came, by
            both distances from what they came with. Rotary positions tell how far tokens are from each other, not where
            in a picture one is: a shape of which only its own cells are left may have been anywhere.
    """

    name: ClassVar[str] = "unusual"

    newest: Share = 0.125
    values: Exponent = 1.0
    keys: Exponent = 1.0
    corners: Share = 0.25

    @property
    def columns(self) -> tuple[str, ...]:
        return ("distance", "corner") if self.corners else ("distance",)

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        far = new.by_rows("values", distance_from_mean)
        return {"distance": far, "corner": self._framed(new, far)} if self.corners else {"distance": far}

    def score(self, tokens: VideoTokens) -> Tensor:
        return self._scores(tokens, tokens.columns["distance"])

    def assured(self, scores: Tensor, tokens: VideoTokens, budget: int) -> Tensor | None:
        named = super().assured(scores, tokens, budget)
        count = int(self.corners * budget)
        if not count:
            return named
        framed = tokens.columns["corner"]  # 0 but at corners
        best = highest(framed, count, tokens.arrival)
        corners = torch.zeros_like(framed, dtype=torch.bool).scatter(1, best, True) & (framed > 0)
        return corners if named is None else named | corners

    def _scores(self, tokens: VideoTokens, far: Tensor) -> Tensor:
        unlike = (1 - tokens.by_rows("keys", cosine_to_mean)).clamp_min_(0)
        return raised(far, self.values) * raised(unlike, self.keys)

    def _framed(self, new: NewTokens, far: Tensor) -> Tensor:
        """Of each corner the highest score in its patch, `[rows, N]` float32; 0 of all other tokens."""
        scores = self._scores(new, far).nan_to_num_(0.0)
        return highest_within(new.patch.long(), scores).masked_fill_(~new.at_corner, 0.0)
