"""What becomes of evicted tokens that go into kept ones. Knows tensors alone; the memory does the combining."""

from dataclasses import dataclass

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
