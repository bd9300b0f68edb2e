"""TaR alone: the half of InfiniPot-V that looks at keys. https://arxiv.org/abs/2506.15745"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.options import Share
from infinipot.policies.scoring.tar import Keys, Reference, tar, tar_of_new
from infinipot.tokens import NewTokens, VideoTokens


@dataclass(frozen=True)
class TaR(ScoredPolicy):
    """Keeps the tokens that are least like what their cell shows at other times (temporal-axis redundancy).

    A token is scored once, when it comes in, if it is compared with the previous token of its cell; otherwise at each
    compression.

    Options: `reference`, `recent` and `keys`, see `InfiniPotV`.
    """

    name: ClassVar[str] = "tar"
    paper: ClassVar[str] = "InfiniPot-V, arXiv 2506.15745"

    reference: Reference = "previous"
    recent: Share = 0.25
    keys: Keys = "unrotated"

    @property
    def idle(self) -> tuple[str, ...]:
        return () if self.reference == "recent" else ("recent",)

    @property
    def columns(self) -> tuple[str, ...]:
        return ("tar",) if (self.reference, self.keys) == ("previous", "unrotated") else ()

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        return {"tar": tar_of_new(new)} if self.columns else {}

    def score(self, tokens: VideoTokens) -> Tensor:
        return -tar(tokens, self.reference, self.recent, self.keys)
