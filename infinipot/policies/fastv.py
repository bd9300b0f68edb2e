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

    The paper's method has the video and the question in one prompt, and drops half of the visual tokens on their way
    through it, after layer 2: what it saves is computation. Here tokens have been through all layers when they are
    ranked, each layer keeps |C|, the first ones too, and the question is put to the model after a block and forgotten.
    The ranks are the paper's: attention of the prompt's last token, the mean over all heads of one layer, the same for
    all layers. Layers that lie on another device than that one rank by their own.

    Options, beside the question:
        after: layers that a token goes through before it is ranked.
    """

    name: ClassVar[str] = "fastv"
    paper: ClassVar[str] = "FastV, arXiv 2403.06764"
    asking: ClassVar[int] = 1

    after: Positive = 2

    @property
    def across_layers(self) -> bool:
        return True

    def score(self, tokens: VideoTokens) -> Tensor:
        """Rows are laid side by side in order of arrival: all of them hold the same tokens."""
        own, order = attended(tokens, "asked"), tokens.in_order()
        asked = [row for row, layer in enumerate(tokens.layer) if layer == min(self.after, tokens.layers) - 1]
        if not asked:
            return own
        rows = torch.tensor(asked).to(own.device, non_blocking=True)
        early = own.index_select(0, rows).gather(1, order.index_select(0, rows)).mean(0)
        return torch.zeros_like(own).scatter(1, order, early.expand_as(own))
