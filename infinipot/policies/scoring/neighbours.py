"""Nearest neighbours, and tokens far apart, computed in pieces that fit a bounded scratch."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from infinipot.policies.scoring.ranking import highest
from infinipot.policies.scoring.rounding import for_products
from infinipot.tokens import take

_LAST = -1e30  # ranks ahead of tokens that must not be chosen, and behind all others
_PIECE = 8 << 20  # products computed at a time


def unit(states: Tensor) -> Tensor:
    """States `[..., width]` scaled to length 1, see `for_products`; 0 for what is not finite, to be like nothing."""
    states = states.float()
    return for_products(normalize(states.where(states.isfinite().all(-1, keepdim=True), 0.0), dim=-1))


def nearest(points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """For each point, its largest product with one of the others, and the index of that one, the first of equals.

    Args:
        points: `[rows, n, width]`, see `unit`.
        others: `[rows, m, width]`.

    Returns:
        `[rows, n]` float32 and int64.
    """
    rows, count, _ = points.shape
    best = torch.full((rows, count), -torch.inf, device=points.device, dtype=torch.float32)
    which = torch.zeros(rows, count, dtype=torch.int64, device=points.device)
    at_once, start = max(1, _PIECE // (rows * count)), 0
    for some in others.split(at_once, 1):
        most = (points @ some.transpose(1, 2)).float().max(2)
        closer = most.values > best
        best, which = torch.where(closer, most.values, best), torch.where(closer, most.indices + start, which)
        start += at_once
    return best, which


def far_apart(
    points: Tensor,
    distance: Tensor,
    count: int,
    rounds: int,
    arrival: Tensor,
    bonus: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Tokens that are far from each other, by greedy k-centre: each round takes those farthest from all chosen so far.

    Tokens chosen in the same round are not compared with each other; with as many rounds as tokens, the greedy rule is
    exact.

    Args:
        points: `[rows, N, width]`, see `unit`. Their distance is 1 minus their product; what is not finite comes last.
        distance: `[rows, N]` float32, to the nearest token chosen already; inf if there is none, -inf for tokens that
            must not be chosen.
        count: how many to choose.
        rounds: the number of rounds.
        arrival: see `VideoTokens.arrival`.
        bonus: given the points that a round chose, `[rows, n, width]`, what to add to each token's distance.

    Returns:
        `[rows, count]` int64.
    """
    rounds = max(1, min(rounds, count))
    distance = torch.where(points.any(-1) | distance.isneginf(), distance, _LAST)
    chosen: list[Tensor] = []
    more = torch.zeros_like(distance)
    for number in range(rounds):
        some = highest(distance + more, count * (number + 1) // rounds - count * number // rounds, arrival)
        chosen.append(some)
        if len(chosen) == rounds:  # the distances are not needed any more
            break
        there = take(points, some)
        distance = torch.minimum(distance, 1 - nearest(points, there)[0]).scatter(1, some, -torch.inf)
        more = more if bonus is None else bonus(there)
    return torch.cat(chosen, 1)
