"""What becomes of evicted tokens that go into kept ones. Knows tensors alone; the memory does the combining."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

MASS = "mass"  # the column that says how many tokens a token stands for


@dataclass(frozen=True, slots=True)
class Merge:
    """Into which kept token each evicted one goes, and with what weight.

    A kept token's key, without rotation, and value become the weighted means of its own and those of the tokens that go
    into it; its patch, cell, time and positions stay, and its mass becomes the sum of theirs.

    Attributes:
        into: `[rows, N]` int64, for each token the place of the kept token that takes it up; its own place for those
            that stay, and for those that go for good.
        weight: `[rows, N]` float32, not below 0, of each token in the mean. An evicted token of weight 0 goes for good.
    """

    into: Tensor
    weight: Tensor

    @classmethod
    def of(cls, into: Tensor, kept: Tensor, weight: Tensor, for_good: Tensor | None = None) -> Self:
        """Where every token that does not stay goes into another one.

        Args:
            into: `[rows, N]` int64, which kept token; of those that stay it does not count.
            kept: `[rows, budget]` int64, those that stay.
            weight: see above.
            for_good: `[rows, N]` bool, which of the others go into none.
        """
        own = torch.arange(into.shape[1], device=into.device).expand(into.shape)
        alone = torch.zeros(into.shape, dtype=torch.bool, device=into.device).scatter(1, kept, True)
        alone = alone if for_good is None else alone | for_good
        return cls(torch.where(alone, own, into), weight)
