"""FastV: what the question attends to in an early layer, for all layers. https://arxiv.org/abs/2403.06764"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.options import Positive
from infinipot.policies.question import KnowsQuestion
from infinipot.policies.scoring.attention import attended
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class FastV(KnowsQuestion):
    """Keeps, in all layers, what the last token of a question attends to in the second layer (FastV).

    The paper has the video and the question in one prompt and drops half of the visual tokens after layer 2, which
    saves computation. Here tokens have passed all layers before they are ranked, every layer keeps |C|, and the model
    runs over the question after a block and forgets it. The ranking is the paper's: attention of the prompt's last
    token, averaged over all heads of one layer and used for all layers. Layers on another device than that one use
    their own attention.

    Options, beside the question:
        after: the number of layers a token passes before it is ranked.
    """

    name: ClassVar[str] = "fastv"
    paper: ClassVar[str] = "FastV, arXiv 2403.06764"
    asking: ClassVar[int] = 1

    after: Positive = 2

    @property
    def across_layers(self) -> bool:
        return True

    @property
    def across_heads(self) -> bool:
        return True

    def score(self, tokens: VideoTokens) -> Tensor:
        """Rows are matched in order of arrival: all hold the same tokens."""
        own, order = attended(tokens, "asked"), tokens.in_order()
        early_rows = [row for row, layer in enumerate(tokens.layer) if layer == min(self.after, tokens.layers) - 1]
        if not early_rows:
            return own
        rows = torch.tensor(early_rows).to(own.device, non_blocking=True)
        early = own.index_select(0, rows).gather(1, order.index_select(0, rows)).mean(0)
        return torch.zeros_like(own).scatter(1, order, early.expand_as(own))
