"""Arithmetic whose result is the same, to the bit, for exact copies of a token, wherever they are stored.

A vectorised kernel handles the last numbers of a tensor separately and may round a power or a product differently
there. A ranking would then order the copies of a still picture by their place in storage, which means nothing. So
scores are summed token by token, or computed in float64 and rounded once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from infinipot.tokens import is_at_hand

_TOGETHER = 512  # tokens


def widest_float(device: torch.device) -> torch.dtype:
    """The type for running sums whose differences have to be exact enough: float64, which Apple's GPUs do not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def raised(numbers: Tensor, exponent: float) -> Tensor:
    """Float32 numbers raised to a power, as float32."""
    if exponent == 1:
        return numbers
    return numbers.to(widest_float(numbers.device)).pow(exponent).float()


def along(states: Tensor, direction: Tensor) -> Tensor:
    """The dot product of each token with one vector of its row, `[rows, N]` float32.

    On a CPU a matrix-vector product sums by channel and handles the last tokens separately, so each token is summed by
    itself there.

    Args:
        states: `[rows, N, width]`.
        direction: `[rows, 1, width]`.
    """
    if not is_at_hand(states):
        return (states.float() @ direction.mT).squeeze(-1)
    return torch.cat([torch.linalg.vecdot(some.float(), direction) for some in in_cache(states, 1)], 1)


def along_each(states: Tensor, directions: Tensor, which: Tensor) -> Tensor:
    """The dot product of each state with one of the directions, `[n]` float32; see `along` for CPUs.

    Args:
        states: `[n, width]`.
        directions: `[m, width]`.
        which: `[n]` int64, the direction for each state.
    """
    if not is_at_hand(states):
        return directions.index_select(0, which).mul_(states).sum(-1)
    pieces = zip(in_cache(states, 0), in_cache(which, 0), strict=True)
    return torch.cat([torch.linalg.vecdot(some.float(), directions.index_select(0, at)) for some, at in pieces])


def in_cache(tokens: Tensor, dim: int) -> Sequence[Tensor]:
    """On a CPU, a few hundred tokens at a time along `dim`, so that intermediate results stay in its cache. On a GPU,
    where a few large operations are faster, all of them at once."""
    return tokens.split(_TOGETHER, dim) if is_at_hand(tokens) else (tokens,)


def for_products(states: Tensor) -> Tensor:
    """States in the type for matrix products: float64 on a CPU, whose products handle the last rows separately.

    A GPU sums all of a product in one order, and float64 would be many times slower there.
    """
    return states.double() if is_at_hand(states) else states
