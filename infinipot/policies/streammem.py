"""StreamMem: what the chat template attends to, and a prototype a patch. https://arxiv.org/abs/2508.15717"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import Attention, Merge, ScoredPolicy
from infinipot.policies.scoring.attention import attended
from infinipot.policies.scoring.ranking import leaders
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class StreamMem(ScoredPolicy):
    """Keeps what the text that the chat template puts around a question attends to, and a prototype of each patch.

    The probe is what a question without words would be: it is run after a block that makes tokens leave. The best
    token of each patch that is held takes up what leaves of that patch: key and value become means weighted by
    attention. In the paper the prototype is a token of its own, of new frames only; here the most attended one stands
    for it, so that a cap is a cap and its place is a true one. The paper takes the sum over all heads of a layer, here
    each KV head chooses for itself; it averages alike neighbours before the language model, which is no policy's.
    """

    name: ClassVar[str] = "streammem"
    paper: ClassVar[str] = "StreamMem, arXiv 2508.15717"
    merges: ClassVar[bool] = True

    @property
    def attention(self) -> Mapping[str, Attention]:
        return {"template": Attention(probe="")}

    def score(self, tokens: VideoTokens) -> Tensor:
        return attended(tokens, "template")

    def merge(self, tokens: VideoTokens, kept: Tensor) -> Merge:
        scores = attended(tokens, "template")
        behind = torch.full_like(scores, -1.0).scatter(1, kept, scores.gather(1, kept))  # those that leave lead nothing
        into = leaders(tokens.patch.long(), behind, tokens.arrival)
        return Merge.of(into, kept, torch.where(scores.isinf(), 0.0, scores))
