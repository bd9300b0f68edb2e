"""StreamingLLM: attention sinks and a sliding window. https://arxiv.org/abs/2309.17453"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import Policy, VideoTokens
from infinipot.policies.options import Count


@dataclass(frozen=True)
class StreamingLLM(Policy):
    """Keeps the first tokens, which attention leans on, and the most recent ones.

    The memory always holds the system prompt, whose first tokens are sinks too.

    Options:
        sinks: how many of the first video tokens stay.
    """

    name: ClassVar[str] = "streaming-llm"
    paper: ClassVar[str] = "Efficient Streaming Language Models with Attention Sinks, arXiv 2309.17453"
    dense_positions: ClassVar[bool] = True

    sinks: Count = 4

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        heads, length = tokens.cell.shape
        sinks = min(self.sinks, budget)
        index = torch.arange(budget, device=tokens.cell.device)
        return torch.where(index < sinks, index, index + length - budget).expand(heads, budget)
