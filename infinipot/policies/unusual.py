"""Unusual: values unlike those that came with them, keys unlike those held, and a part of the newest patch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.options import Exponent, Share
from infinipot.policies.scoring.mean import cosine_to_mean, distance_from_mean
from infinipot.policies.scoring.ranking import either, highest, highest_within
from infinipot.policies.scoring.rounding import raised
from infinipot.tokens import NewTokens, VideoTokens


@dataclass(frozen=True)
class Unusual(ScoredPolicy):
    """Keeps what is unusual: in value among what it came with, in key among what is held; and some of the newest patch.

    This project's own: the two measures of InfiniPot-V, each relative to a mean. The score is ‖v - v̄‖ · (1 - cos(k,
    k̄)), with unrotated keys. What a token shows does not change, so its value is compared once, with the mean v̄ of
    the tokens that came in with it. Whether it is redundant does change, so its key is compared at each compression,
    with the mean k̄ of what its row holds. What is held is mostly unusual itself, so a token must differ both from the
    background and from what has been kept. An eighth of |C| goes to the newest patch, whatever it shows: otherwise a
    model that is asked about the present cannot see that there is nothing.

    What a token came with is its block. A gate of single cells leaves the background out of it, so that there a value
    is compared with what has changed alone, and corners are those that were given.

    Options:
        newest: see `ScoredPolicy`.
        values, keys: exponents of the two distances; 0 leaves one out.
        corners: up to this share of |C| goes to the corners of the patches that brought the most unusual tokens, by
            both distances from what they came with. Rotary positions tell how far apart tokens are, not where in the
            picture one is: a shape of which only its own cells are held could be anywhere.
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
        assured = super().assured(scores, tokens, budget)
        count = int(self.corners * budget)
        if not count:
            return assured
        framed = tokens.columns["corner"]  # 0 except at corners
        best = highest(framed, count, tokens.arrival)
        corners = torch.zeros_like(framed, dtype=torch.bool).scatter(1, best, True) & (framed > 0)
        return either(assured, corners)

    def _scores(self, tokens: VideoTokens, far: Tensor) -> Tensor:
        unlike = (1 - tokens.by_rows("keys", cosine_to_mean)).clamp_min_(0)
        return raised(far, self.values) * raised(unlike, self.keys)

    def _framed(self, new: NewTokens, far: Tensor) -> Tensor:
        """For each corner the highest score in its patch, `[rows, N]` float32; 0 for all other tokens."""
        scores = self._scores(new, far).nan_to_num_(0.0)
        return highest_within(new.patch.long(), scores).masked_fill_(~new.at_corner, 0.0)
