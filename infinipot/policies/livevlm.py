"""LiveVLM: what recent vision queries attend to, spread over time. https://arxiv.org/abs/2505.15269"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import Attention, Policy
from infinipot.policies.options import Positive, Share
from infinipot.policies.scoring.attention import attended
from infinipot.policies.scoring.ranking import highest, place_within, standing
from infinipot.policies.scoring.recency import in_recent_patches, stretch
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class LiveVLM(Policy):
    """Keeps what the last vision queries attend to, up to a quota for each time bucket (LiveVLM).

    Recent patches stay whole. The best `first` · |C| tokens, recent ones first, stay wherever they are. Then tokens
    stay in order of their scores, as long as their bucket holds fewer than |C| / `buckets`. Any room left is filled by
    score alone. The paper's retrieval of pages at question time is not part of a policy. The sizes of `first` and
    `recent` are not published and are ours.

    Options:
        queries: how many of the block's last cells are queries.
        buckets: equal stretches of the stream so far; the paper has one per slot, which needs thousands of slots.
        first: the share of |C| that goes by score, whatever the bucket.
        recent: the share of the held patches that stay whole; at least one does.
    """

    name: ClassVar[str] = "livevlm"
    paper: ClassVar[str] = "LiveVLM, arXiv 2505.15269"

    queries: Positive = 64
    buckets: Positive = 16
    first: Share = 0.25
    recent: Share = 0.125

    @property
    def attention(self) -> Mapping[str, Attention]:
        return {"attention": Attention(queries=self.queries)}

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        scores, arrival, length = attended(tokens, "attention"), tokens.arrival, tokens.shape[1]
        scores = scores.masked_fill(in_recent_patches(tokens, self.recent), float("inf"))
        rank = standing(scores, arrival)
        ahead = (rank >= length - int(self.first * budget)) | scores.isinf()
        capacity = -(-budget // self.buckets)
        rank += length * (place_within(stretch(tokens, self.buckets), scores, arrival) < capacity)
        return highest((rank + 2 * length * ahead).float(), budget, arrival)
