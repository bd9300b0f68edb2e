"""The last tokens and nothing before them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import Policy, VideoTokens


@dataclass(frozen=True)
class SlidingWindow(Policy):
    """Keeps the most recent tokens."""

    name: ClassVar[str] = "sliding-window"

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        heads, length = tokens.cell.shape
        return torch.arange(length - budget, length, device=tokens.cell.device).expand(heads, budget)
