"""Expected Attention: what future queries will attend to on average. https://arxiv.org/abs/2510.00636"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import Attention, ScoredPolicy
from infinipot.policies.options import Count
from infinipot.policies.scoring.attention import attended
from infinipot.policies.scoring.van import value_norm
from infinipot.tokens import NewTokens, VideoTokens


@dataclass(frozen=True)
class ExpectedAttention(ScoredPolicy):
    """Keeps what queries to come are expected to attend to, times the length of its value.

    Future queries are assumed to be normally distributed as those of the block's cells are, and to be text at the next
    512 positions. The paper also keeps the first tokens; here those are the prompt, which always stays.

    Options:
        queries: how many of the block's last cells the distribution is estimated from; 0 for all.
    """

    name: ClassVar[str] = "expected-attention"
    paper: ClassVar[str] = "Expected Attention, arXiv 2510.00636"

    queries: Count = 0

    @property
    def columns(self) -> tuple[str, ...]:
        return ("van",)

    @property
    def attention(self) -> Mapping[str, Attention]:
        return {"expected": Attention(queries=self.queries, over="expected")}

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        return {"van": new.by_rows("values", value_norm)}

    def score(self, tokens: VideoTokens) -> Tensor:
        return attended(tokens, "expected") * tokens.columns["van"]
