"""Deviation: how far a token's value is from the mean value of its head."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.scoring.mean import distance_from_mean
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class Deviation(ScoredPolicy):
    """Keeps the tokens whose values are farthest from the mean value of what is held.

    VaN scores a value by its length; this policy scores it by its distance from the mean, ‖v − v̄‖₂. In a head whose
    values are longest for what is always there, the two rank tokens in opposite order. Tokens are scored at each
    compression, against what is held then.
    """

    name: ClassVar[str] = "deviation"

    def score(self, tokens: VideoTokens) -> Tensor:
        return tokens.by_rows("values", distance_from_mean)
