"""Choosing the highest scores, so that every device chooses the same."""

import torch
from torch import Tensor


def highest(scores: Tensor, count: int, arrival: Tensor) -> Tensor:
    """Indices of the `count` highest scores of each row; of equal scores the later token goes first.

    `topk` alone leaves open which of two equal scores it takes, and a stable sort takes ten times as long. So scores
    become whole numbers of the same order, each with the token's arrival as last digits: no two are equal. What is no
    number ranks below everything, whatever its sign bit.

    Args:
        scores: `[rows, N]` float32, infinities allowed.
        arrival: `[rows, N]` int64, see `VideoTokens.arrival`.

    Returns:
        `[rows, count]` int64, in no particular order.
    """
    known = torch.nan_to_num(scores, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    bits = known.add_(0.0).view(torch.int32)  # of zeros there is one
    rank = bits ^ (bits >> 31 & 0x7FFFFFFF)  # floats of one sign are ordered as their bits are
    rank = rank.long().sub_(scores.isnan().long())  # below -inf, of which the rank has room below it
    return rank.mul_(1 << 31).add_(arrival).topk(count, dim=1, sorted=False).indices
