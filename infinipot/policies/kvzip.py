"""KVzip: what the model needs to reconstruct its context. https://arxiv.org/abs/2505.23416"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import Attention, ScoredPolicy
from infinipot.policies.scoring.attention import attended
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class KVzip(ScoredPolicy):
    """Keeps what is attended to most while the model is given its context again (reconstruction).

    The paper's method is offline: it has the whole context when it compresses. Here each block is repeated as soon as
    it has come in, after what is held and a prompt to repeat it, and a token keeps the highest attention that any
    token of the two ever paid it.
    The repeated block has positions as text has, and comes in pieces that fit the reserve. This costs a second pass
    over all blocks.
    """

    name: ClassVar[str] = "kvzip"
    paper: ClassVar[str] = "KVzip, arXiv 2505.23416"
    knows: ClassVar[str] = "offline"

    @property
    def attention(self) -> Mapping[str, Attention]:
        return {"repeated": Attention(probe="Repeat the previous context:", repeats=True, over="max")}

    def score(self, tokens: VideoTokens) -> Tensor:
        return attended(tokens, "repeated")
