"""Tokens drawn by lot: what any other policy has to be better than."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import Policy, VideoTokens
from infinipot.policies.options import Count
from infinipot.policies.ranking import highest


@dataclass(frozen=True)
class Random(Policy):
    """Keeps tokens drawn by lot, for each KV head others.

    The draw is a function of the seed, the layer, the head and the newest patch alone, and the same on every device.

    Options:
        seed: another one gives another draw.
    """

    name: ClassVar[str] = "random"

    seed: Count = 0

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        state = (self.seed * 1_000_003 + tokens.newest_patch) * tokens.layers + tokens.layer
        draw = torch.Generator().manual_seed(state % 2**32)
        heads, length = tokens.cell.shape
        lots = torch.rand(tokens.first_head + heads, length, generator=draw)[tokens.first_head :]
        return highest(lots, budget).to(tokens.cell.device, non_blocking=True)
