"""Tokens drawn at random: the baseline that any other policy has to beat."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.options import Count
from infinipot.tokens import VideoTokens

# Multipliers of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), as signed numbers.
_MIX = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)
_STEP = -0x61C8864680B583EB


@dataclass(frozen=True)
class Random(ScoredPolicy):
    """Keeps tokens drawn at random, for each KV head separately.

    The draw depends only on the seed, the newest patch, and the token's layer, head, patch and cell. It is the same on
    every device.

    Options:
        seed: of the draw.
    """

    name: ClassVar[str] = "random"

    seed: Count = 0

    def score(self, tokens: VideoTokens) -> Tensor:
        row = torch.tensor([*zip(tokens.layer, tokens.head, strict=True)], dtype=torch.int64)
        row = row.to(tokens.cell.device, non_blocking=True)
        lots = _mixed(_mixed(torch.full_like(row[:, :1], self.seed)) + tokens.newest_patch)
        for number in (row[:, :1], row[:, 1:], tokens.patch.long(), tokens.cell.long()):
            lots = _mixed(lots + number)
        return (lots >> 40).float()


def _mixed(number: Tensor) -> Tensor:
    """Pseudo-random numbers: SplitMix64's finalizer, in int64 with wrap-around."""
    number = number + _STEP
    for shift, factor in zip((30, 27), _MIX, strict=True):
        number = (number ^ (number >> shift & (1 << 64 - shift) - 1)) * factor
    return number ^ (number >> 31 & (1 << 33) - 1)
