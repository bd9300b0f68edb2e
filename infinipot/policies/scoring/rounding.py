"""Numbers that exact copies share to the bit, wherever they lie.

A vectorised kernel takes the last numbers of a tensor one by one, and a power or a product may then be rounded
otherwise. A ranking would tell copies of a still picture apart by it, and so by their places in storage, which mean
nothing. So what a score is made of is summed token by token, or taken wide and rounded once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from infinipot.tokens import is_at_hand

_TOGETHER = 512  # tokens


def widest_float(device: torch.device) -> torch.dtype:
    """What a running sum needs so that its differences stay exact enough; Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def raised(numbers: Tensor, exponent: float) -> Tensor:
    """Numbers to a power, float32 of float32."""
    if exponent == 1:
        return numbers
    return numbers.to(widest_float(numbers.device)).pow(exponent).float()


def along(states: Tensor, direction: Tensor) -> Tensor:
    """The product of each token with one vector of its row, `[rows, N]`: of `[rows, N, width]` and `[rows, 1, width]`.

    In float32. A CPU's matrix times vector sums by channel, and treats the last tokens apart: there each token is
    summed by itself.
    """
    if not is_at_hand(states):
        return (states.float() @ direction.mT).squeeze(-1)
    return torch.cat([torch.linalg.vecdot(some.float(), direction) for some in in_cache(states, 1)], 1)


def along_each(states: Tensor, directions: Tensor, which: Tensor) -> Tensor:
    """The product of each of `states` `[n, width]` with one of `directions` `[m, width]`, number `which`: `[n]`.

    In float32, on a CPU as in `along`.
    """
    if not is_at_hand(states):
        return directions.index_select(0, which).mul_(states).sum(-1)
    pieces = zip(in_cache(states, 0), in_cache(which, 0), strict=True)
    return torch.cat([torch.linalg.vecdot(some.float(), directions.index_select(0, at)) for some, at in pieces])


def in_cache(tokens: Tensor, dim: int) -> Sequence[Tensor]:
    """Some hundred tokens at a time along `dim`, so that what is made of them on a CPU is still in a cache when it is
    read; all of them at once on a GPU, for which few and large operations are quicker."""
    return tokens.split(_TOGETHER, dim) if is_at_hand(tokens) else (tokens,)


def for_products(states: Tensor) -> Tensor:
    """States as matrix products are taken of them: in float64 on a CPU, whose products treat the last rows apart.

    On a GPU all of a product is summed in one order, and float64 would be many times slower than it is here.
    """
    return states.double() if is_at_hand(states) else states
