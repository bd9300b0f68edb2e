"""Free Video-LLM: the frames that a question is about, and a region of each. https://arxiv.org/abs/2410.10441"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.options import Share
from infinipot.policies.question import KnowsQuestion
from infinipot.policies.scoring.attention import attended
from infinipot.policies.scoring.grid import layout
from infinipot.policies.scoring.ranking import leaders
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class FreeVideoLLM(KnowsQuestion):
    """Keeps the patches that a question attends to most, and in each the region around what it attends to most.

    The paper selects before the language model: frames by their CLIP similarity to the question, then a region of each
    frame in the same way. The models here have no text encoder that shares a space with their vision encoder, so the
    question's attention replaces CLIP: the model runs over the question after a block and forgets it. A patch is scored
    by its most attended token. Its region is centred there, moved inward if it would leave the grid, and ranks ahead of
    everything outside the regions. Each KV head chooses for itself. Evicted tokens do not come back, so regions follow
    what was held at the time.

    Options, beside the question:
        region: the rows and columns of the region, as a share of the grid's.
    """

    name: ClassVar[str] = "freevideollm"
    paper: ClassVar[str] = "Free Video-LLM, arXiv 2410.10441"
    region: Share = 0.67

    def score(self, tokens: VideoTokens) -> Tensor:
        attention = attended(tokens, "asked")
        centre = leaders(tokens.patch.long(), attention, tokens.arrival)
        outside = (~self._within(tokens, centre)).float()
        return attention.gather(1, centre) - 2 * outside  # attention is at most 1

    def _within(self, tokens: VideoTokens, centre: Tensor) -> Tensor:
        """Which tokens lie in the region around the `centre` of their patch, `[rows, N]` bool."""
        where = layout(tokens.grids, centre.device)
        row, column, rows, columns = where[:, tokens.cell.long()]
        middle = where[:2, tokens.cell.gather(1, centre).long()]
        inside = torch.ones(tokens.shape, dtype=torch.bool, device=centre.device)
        for own, there, length in zip((row, column), middle, (rows, columns), strict=True):
            size = (self.region * length).ceil().long()
            start = torch.minimum((there - size // 2).clamp_min(0), length - size)
            inside &= (own >= start) & (own < start + size)
        return inside
