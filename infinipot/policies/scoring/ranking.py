"""Choosing the highest scores, with the same result on every device."""

import torch
from torch import Tensor


def either(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The tokens that either mask marks, `[rows, N]` bool; None is a mask that marks none."""
    if one is None or other is None:
        return other if one is None else one
    return one | other


def newest(arrival: Tensor, count: int) -> Tensor:
    """Indices of the last `count` tokens of each row to arrive, `[rows, count]` int64."""
    return arrival.topk(count, dim=1, sorted=False).indices


def standing(scores: Tensor, arrival: Tensor) -> Tensor:
    """How many tokens of its row each token outranks, `[rows, N]` int64; of equal scores, the later ranks higher.

    Args:
        scores: `[rows, N]` float32, infinities allowed.
        arrival: `[rows, N]` int64, see `VideoTokens.arrival`.
    """
    order = _ranks(scores, arrival).argsort(1)
    return torch.zeros_like(order).scatter(1, order, _places(order))


def place_within(group: Tensor, scores: Tensor, arrival: Tensor) -> Tensor:
    """How many tokens of its own group outrank each one, `[rows, N]` int64: 0 for the best of a group.

    Args:
        group: `[rows, N]` int64, the number of each token's group, below 2^31.
    """
    order = _ranks(scores, arrival).argsort(1, descending=True)
    order = order.gather(1, group.gather(1, order).argsort(stable=True, dim=1))  # group by group, the best ahead
    sorted_group = group.gather(1, order)
    place = _places(order)
    begins = sorted_group != sorted_group.roll(1, 1)
    begins = torch.cat([torch.ones_like(begins[:, :1]), begins[:, 1:]], 1)
    start = torch.where(begins, place, 0).cummax(1).values
    return torch.zeros_like(order).scatter(1, order, place - start)


def leaders(group: Tensor, scores: Tensor, arrival: Tensor) -> Tensor:
    """For each token the index of the highest token of its group, `[rows, N]` int64.

    Args:
        group: `[rows, N]` int64, the number of each token's group, below 2^31.
    """
    place = place_within(group, scores, arrival)
    order = (group * (1 << 31) + place).argsort(1)  # group by group, each behind its highest
    first = torch.where(place.gather(1, order) == 0, _places(order), 0).cummax(1).values
    return torch.zeros_like(order).scatter(1, order, order.gather(1, first))


def highest_within(group: Tensor, scores: Tensor) -> Tensor:
    """The highest score of each token's group, `[rows, N]` float32, with a third of the kernels of `leaders`.

    Args:
        group: `[rows, N]` int64, the number of each token's group.
        scores: `[rows, N]` float32, none of them NaN.
    """
    ordered, order = group.sort(1)
    begins = torch.cat([torch.zeros_like(ordered[:, :1]), (ordered[:, 1:] != ordered[:, :-1]).long()], 1)
    number = torch.empty_like(order).scatter_(1, order, begins.cumsum(1))  # of the group, from 0 to below N
    return torch.full_like(scores, -torch.inf).scatter_reduce_(1, number, scores, "amax").gather(1, number)


def _places(order: Tensor) -> Tensor:
    """0, 1, 2, ... in each row."""
    return torch.arange(order.shape[1], device=order.device).expand_as(order)


def highest(scores: Tensor, count: int, arrival: Tensor) -> Tensor:
    """Indices of the `count` highest scores of each row; of equal scores, the later token wins.

    `topk` alone does not define which of two equal scores it takes, and a stable sort takes ten times as long. So
    scores are mapped to integers of the same order whose low bits are the token's arrival: no two are equal. NaN ranks
    below everything, whatever its sign bit.

    Args:
        scores: `[rows, N]` float32, infinities allowed.
        arrival: `[rows, N]` int64, see `VideoTokens.arrival`.

    Returns:
        `[rows, count]` int64, in no particular order.
    """
    return _ranks(scores, arrival).topk(count, dim=1, sorted=False).indices


def _ranks(scores: Tensor, arrival: Tensor) -> Tensor:
    """Integers in the order of the scores, no two of a row equal: `[rows, N]` int64."""
    rank = (scores + 0.0).view(torch.int32)  # turns -0.0 into 0.0
    rank.bitwise_xor_((rank >> 31).bitwise_and_(0x7FFFFFFF))  # floats of one sign are ordered as their bits are
    rank.masked_fill_(scores.isnan(), -1 << 31)  # below -inf
    return torch.add(arrival, rank, alpha=1 << 31)
