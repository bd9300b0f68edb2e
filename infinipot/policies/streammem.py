"""StreamMem: what the chat template attends to, and one prototype per patch. https://arxiv.org/abs/2508.15717"""

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

    The probe is the template around an empty question; it is run after a block that causes an eviction. The best token
    of each held patch absorbs the evicted tokens of that patch: key and value become means weighted by attention.
    There are three differences. The paper's prototype is an additional token, of new frames only; here it is the most
    attended token, so that the cap holds and its place is a real one. The paper sums over all heads of a layer; here
    each KV head chooses for itself. The paper averages similar neighbours before the language model, which is not a
    policy's task.
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
        behind = torch.full_like(scores, -1.0).scatter(1, kept, scores.gather(1, kept))  # evicted tokens lead nothing
        into = leaders(tokens.patch.long(), behind, tokens.arrival)
        return Merge.of(into, kept, torch.where(scores.isinf(), 0.0, scores))
