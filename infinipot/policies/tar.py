"""TaR alone: the half of InfiniPot-V that looks at keys. https://arxiv.org/abs/2506.15745"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import Policy, VideoTokens
from infinipot.policies.options import Share
from infinipot.policies.ranking import highest
from infinipot.policies.redundancy import Keys, Reference, tar


@dataclass(frozen=True)
class TaR(Policy):
    """Keeps the tokens that are least like what their cell shows at other times (temporal-axis redundancy).

    Options: `reference`, `recent` and `keys`, see `InfiniPotV`.
    """

    name: ClassVar[str] = "tar"
    paper: ClassVar[str] = "InfiniPot-V, arXiv 2506.15745"

    reference: Reference = "previous"
    recent: Share = 0.25
    keys: Keys = "unrotated"

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        return highest(-tar(tokens, self.reference, self.recent, self.keys), budget)
