"""SnapKV: what the last queries attend to. https://arxiv.org/abs/2404.14469"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from infinipot.policies.base import Attention, ScoredPolicy
from infinipot.policies.options import Odd, Positive, Share
from infinipot.policies.scoring.attention import attended
from infinipot.policies.scoring.recency import last_tokens
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class SnapKV(ScoredPolicy):
    """Keeps what the last queries of the block attend to, and of those queries' own tokens the last ones.

    The paper's observation window is the end of a prompt, which is the question; here nobody has asked yet, so it is
    the last cells of the block. The paper keeps the window whole, beside thousands of tokens; of fewer than it has it
    would leave nothing else, so here its share is bounded. Scores are averaged over neighbours in order of arrival, as
    the paper's code does.

    Options:
        queries: the window, in cells.
        recent: the share of |C| that the window's own tokens take at the most.
        kernel: tokens that a score is averaged over; 1 for none.
    """

    name: ClassVar[str] = "snapkv"
    paper: ClassVar[str] = "SnapKV, arXiv 2404.14469"

    queries: Positive = 64
    recent: Share = 0.125
    kernel: Odd = 5

    @property
    def attention(self) -> Mapping[str, Attention]:
        return {"attention": Attention(queries=self.queries)}

    def score(self, tokens: VideoTokens) -> Tensor:
        seen = attended(tokens, "attention")
        order = tokens.in_order()
        finite = torch.where(seen.isinf(), 0.0, seen).gather(1, order)
        pooled = avg_pool1d(finite.unsqueeze(1), self.kernel, 1, self.kernel // 2).squeeze(1)
        scores = torch.zeros_like(pooled).scatter(1, order, pooled)
        return scores.masked_fill(seen.isinf(), torch.inf)

    def assured(self, scores: Tensor, tokens: VideoTokens, budget: int) -> Tensor | None:
        named = super().assured(scores, tokens, budget)
        window = last_tokens(tokens, min(self.queries, int(self.recent * budget)))
        return window if named is None else named | window
