"""Values that are unlike the others: how far a token's value is from what the head's values are on average."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.scoring.mean import distance_from_mean
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class Deviation(ScoredPolicy):
    """Keeps the tokens whose values are farthest from the mean value of what is held.

    Where VaN takes the length of a value for what it has to say, this takes its distance from the usual: ‖v − v̄‖₂. In a
    head whose values are long for what is always there, the two are opposites. Tokens are scored anew at each
    compression, against what is held then.
    """

    name: ClassVar[str] = "deviation"

    def score(self, tokens: VideoTokens) -> Tensor:
        return tokens.by_rows("values", distance_from_mean)
