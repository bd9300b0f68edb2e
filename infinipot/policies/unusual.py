"""Unusual: values unlike those that came with them, keys unlike what is held, and some of the newest patch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.options import Exponent, Share
from infinipot.policies.rounding import raised
from infinipot.policies.usual import distance, likeness
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
    """

    name: ClassVar[str] = "unusual"

    newest: Share = 0.125
    values: Exponent = 1.0
    keys: Exponent = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        return ("distance",)

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        return {"distance": distance(new.values)}

    def score(self, tokens: VideoTokens) -> Tensor:
        unlike = (1 - tokens.by_rows("keys", likeness)).clamp_min_(0)
        return raised(tokens.columns["distance"], self.values) * raised(unlike, self.keys)
