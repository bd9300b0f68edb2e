"""StreamingLLM: attention sinks and a sliding window. https://arxiv.org/abs/2309.17453"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.options import Count
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class StreamingLLM(ScoredPolicy):
    """Keeps the first tokens, which attention uses as sinks, and the most recent ones.

    The memory always holds the system prompt, whose first tokens are sinks too.

    Options:
        sinks: how many of the first video tokens stay.
    """

    name: ClassVar[str] = "streaming-llm"
    paper: ClassVar[str] = "Efficient Streaming Language Models with Attention Sinks, arXiv 2309.17453"
    dense_positions: ClassVar[bool] = True

    sinks: Count = 4

    def score(self, tokens: VideoTokens) -> Tensor:
        """Earlier sinks score higher; all other tokens score the same, so that the later ones stay."""
        count = min(self.sinks, tokens.shape[1])
        first = tokens.arrival.topk(count, dim=1, largest=False).indices
        weight = torch.arange(count, 0, -1, device=first.device, dtype=torch.float32).expand(len(first), -1)
        return torch.zeros(tokens.shape, device=first.device, dtype=torch.float32).scatter_(1, first, weight)
