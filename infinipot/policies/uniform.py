"""Evenly spaced tokens: the simplest way to thin out what is held."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import Policy
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class Uniform(Policy):
    """Keeps tokens at even distances in what is held: the i-th kept is the ⌊i·N/|C|⌋-th."""

    name: ClassVar[str] = "uniform"

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        place = torch.arange(budget, device=tokens.cell.device) * tokens.shape[1] // budget
        return tokens.in_order().index_select(1, place)
