"""SnapKV: what the last queries attend to. https://arxiv.org/abs/2404.14469"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from infinipot.policies.attention import Attention, attended, last_tokens
from infinipot.policies.base import ScoredPolicy
from infinipot.policies.options import Count, Odd
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class SnapKV(ScoredPolicy):
    """Keeps what the last queries of the block attend to, and those queries' own tokens.

    The paper's observation window is the end of a prompt, which is the question; here nobody has asked yet, so it is
    the last cells of the block. Scores are averaged over neighbours in order of arrival, as the paper's code does.

    Options:
        queries: the window, in cells.
        kernel: tokens that a score is averaged over; 1 for none.
    """

    name: ClassVar[str] = "snapkv"
    paper: ClassVar[str] = "SnapKV, arXiv 2404.14469"

    queries: Count = 64
    kernel: Odd = 5

    @property
    def attention(self) -> Mapping[str, Attention]:
        return {"attention": Attention(queries=max(self.queries, 1))}

    def score(self, tokens: VideoTokens) -> Tensor:
        seen = attended(tokens, "attention")
        order = tokens.in_order()
        finite = torch.where(seen.isinf(), 0.0, seen).gather(1, order)
        pooled = avg_pool1d(finite.unsqueeze(1), self.kernel, 1, self.kernel // 2).squeeze(1)
        scores = torch.zeros_like(pooled).scatter(1, order, pooled)
        return scores.masked_fill(seen.isinf() | last_tokens(tokens, self.queries), torch.inf)
