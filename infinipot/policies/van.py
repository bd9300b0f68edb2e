"""VaN alone: the half of InfiniPot-V that looks at values. https://arxiv.org/abs/2506.15745"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import Policy, VideoTokens
from infinipot.policies.ranking import highest
from infinipot.policies.salience import Pooling, van


@dataclass(frozen=True)
class VaN(Policy):
    """Keeps the tokens with the largest values (value norm).

    Options: `pooling`, see `InfiniPotV`.
    """

    name: ClassVar[str] = "van"
    paper: ClassVar[str] = "InfiniPot-V, arXiv 2506.15745"

    pooling: Pooling = "none"

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        return highest(van(tokens, self.pooling), budget)
