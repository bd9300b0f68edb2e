"""Tokens at even distances: the simplest way to thin out what is held."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import Policy, VideoTokens


@dataclass(frozen=True)
class Uniform(Policy):
    """Keeps tokens at even distances in what is held: the i-th kept is the ⌊i·N/|C|⌋-th."""

    name: ClassVar[str] = "uniform"

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        heads, length = tokens.cell.shape
        index = torch.arange(budget, device=tokens.cell.device) * length // budget
        return index.expand(heads, budget)
