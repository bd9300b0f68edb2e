"""What is usual in a row, the mean of its keys or of its values, and how far each token is from it.

Keys and values are read and copied as few times as can be: this is most of what a policy costs that scores all that is
held. So sums are in float32, which is half of what wide ones take, and in the order in which tokens lie. That follows
from what a stream was given and from nothing else, interrupted or not: the same input makes the same choices. Another
order may round a mean otherwise, in its last digits, and trade tokens whose scores differ by no more; copies of one
token have one score in any order. What is no number adds nothing to a mean.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from infinipot.policies.scoring.rounding import along, in_cache
from infinipot.tokens import is_at_hand


def distance_from_mean(states: Tensor) -> Tensor:
    """‖x - x̄‖₂ of each token, x̄ being the mean over its row: `[rows, N]` float32; NaN for what is no number.

    Args:
        states: `[rows, N, head_dim]`.
    """
    mean = _sum(states).div_(states.shape[1])
    return torch.linalg.vector_norm(states - mean, dim=-1).nan_to_num_(torch.nan, torch.nan)


def cosine_to_mean(states: Tensor, *, unit: bool = False) -> Tensor:
    """cos(x, x̄) of each token, x̄ being the mean over its row: `[rows, N]` float32; NaN for what is no number.

    Args:
        states: `[rows, N, head_dim]`.
        unit: takes the mean of states scaled to length 1.
    """
    length = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=torch.float32).clamp_min_(1e-9)
    mean = normalize(_sum_of_units(states, length) if unit else _sum(states), dim=-1)
    return along(states, mean).div_(length.squeeze(-1).nan_to_num_(torch.nan, torch.nan))


def _sum(states: Tensor) -> Tensor:
    """The sum of each row's tokens, `[rows, 1, head_dim]` float32; what is no number adds nothing."""
    if is_at_hand(states) and (whole := states.sum(1, keepdim=True, dtype=torch.float32)).isfinite().all():
        return whole  # there is nothing to leave out, and so no copy to make
    return states.nan_to_num(0.0, 0.0, 0.0).sum(1, keepdim=True, dtype=torch.float32)


def _sum_of_units(states: Tensor, length: Tensor) -> Tensor:
    """The same of tokens scaled to length 1."""
    pieces = zip(in_cache(states, 1), in_cache(length, 1), strict=True)
    sums = [(some / its).nansum(1, keepdim=True) for some, its in pieces]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)
