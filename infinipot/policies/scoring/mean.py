"""How far each token is from the mean key or mean value of its row.

Reading and copying keys and values is most of the cost of a policy that scores all held tokens, so sums are in float32,
which takes half as much as float64, and in storage order. That order depends only on what the stream was given,
interrupted or not: the same input leads to the same choices. Another order may round the last digits of a mean
differently and swap tokens whose scores differ by no more than that. Copies of one token have the same score in any
order. NaN and infinities add nothing to a mean.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from infinipot.policies.scoring.rounding import along, in_cache
from infinipot.tokens import is_at_hand


def distance_from_mean(states: Tensor) -> Tensor:
    """‖x - x̄‖₂ of each token, where x̄ is the mean of its row: `[rows, N]` float32; NaN for what is not finite.

    Args:
        states: `[rows, N, head_dim]`.
    """
    mean = _sum(states).div_(states.shape[1])
    return torch.linalg.vector_norm(states - mean, dim=-1).nan_to_num_(torch.nan, torch.nan)


def cosine_to_mean(states: Tensor, *, unit: bool = False) -> Tensor:
    """cos(x, x̄) of each token, where x̄ is the mean of its row: `[rows, N]` float32; NaN for what is not finite.

    Args:
        states: `[rows, N, head_dim]`.
        unit: whether the mean is taken of states scaled to length 1.
    """
    length = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=torch.float32).clamp_min_(1e-9)
    mean = normalize(_sum_of_units(states, length) if unit else _sum(states), dim=-1)
    return along(states, mean).div_(length.squeeze(-1).nan_to_num_(torch.nan, torch.nan))


def _sum(states: Tensor) -> Tensor:
    """The sum of each row's tokens, `[rows, 1, head_dim]` float32, without what is not finite."""
    if is_at_hand(states) and (whole := states.sum(1, keepdim=True, dtype=torch.float32)).isfinite().all():
        return whole  # all is finite: no copy is needed
    return states.nan_to_num(0.0, 0.0, 0.0).sum(1, keepdim=True, dtype=torch.float32)


def _sum_of_units(states: Tensor, length: Tensor) -> Tensor:
    """The sum of each row's tokens scaled to length 1, `[rows, 1, head_dim]` float32, without NaN."""
    pieces = zip(in_cache(states, 1), in_cache(length, 1), strict=True)
    sums = [(some / its).nansum(1, keepdim=True) for some, its in pieces]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)
