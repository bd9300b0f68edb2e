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
from infinipot.policies.scoring.ranking import either
from infinipot.policies.scoring.recency import last_tokens
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class SnapKV(ScoredPolicy):
    """Keeps what the last queries of the block attend to, and the last of those queries' own tokens.

    The paper's observation window is the end of a prompt, the question. Here nothing has been asked yet, so it is the
    last cells of the block. The paper keeps the window whole, beside thousands of tokens. In a smaller memory it would
    leave room for nothing else, so its share is bounded here. Scores are averaged over neighbours in order of arrival,
    as in the paper's code.

    Options:
        queries: the size of the window, in cells.
        recent: the most that the window's own tokens take, as a share of |C|.
        kernel: the number of tokens that a score is averaged over; 1 for no averaging.
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
        attention = attended(tokens, "attention")
        order = tokens.in_order()
        finite = torch.where(attention.isinf(), 0.0, attention).gather(1, order)
        pooled = avg_pool1d(finite.unsqueeze(1), self.kernel, 1, self.kernel // 2).squeeze(1)
        scores = torch.zeros_like(pooled).scatter(1, order, pooled)
        return scores.masked_fill(attention.isinf(), torch.inf)

    def assured(self, scores: Tensor, tokens: VideoTokens, budget: int) -> Tensor | None:
        window = last_tokens(tokens, min(self.queries, int(self.recent * budget)))
        return either(super().assured(scores, tokens, budget), window)
