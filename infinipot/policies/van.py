"""VaN alone: the half of InfiniPot-V that looks at values. https://arxiv.org/abs/2506.15745"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.scoring.van import Pooling, value_norm, van
from infinipot.tokens import NewTokens, VideoTokens


@dataclass(frozen=True)
class VaN(ScoredPolicy):
    """Keeps the tokens with the largest values (value norm).

    Options: `pooling`, see `InfiniPotV`.
    """

    name: ClassVar[str] = "van"
    paper: ClassVar[str] = "InfiniPot-V, arXiv 2506.15745"

    pooling: Pooling = "none"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("van",)

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        return {"van": new.by_rows("values", value_norm)}

    def score(self, tokens: VideoTokens) -> Tensor:
        return van(tokens, self.pooling)
