"""Choosing the highest scores, so that every device chooses the same."""

import torch
from torch import Tensor


def highest(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest scores of each row; of equal scores the later one goes first.

    `topk` alone leaves open which of two equal scores it takes, and a stable sort takes ten times as long. So
    scores become whole numbers of the same order, each with its index as last digits: no two are equal.

    Args:
        scores: `[kv_heads, N]` float32, infinities allowed.

    Returns:
        `[kv_heads, count]` int64, in no particular order.
    """
    bits = scores.view(torch.int32).long()  # floats of one sign are ordered as their bits are
    rank = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    length = scores.shape[1]
    index = torch.arange(length, device=scores.device)
    return (rank * length + index).topk(count, dim=1, sorted=False).indices
