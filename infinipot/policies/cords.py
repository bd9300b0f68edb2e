"""CoRDS: what is held as a coreset, far apart in keys and values. https://arxiv.org/abs/2605.14310"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import Policy
from infinipot.policies.options import Positive, Share
from infinipot.policies.scoring.neighbours import far_apart, nearest, unit
from infinipot.policies.scoring.ranking import newest
from infinipot.policies.scoring.rounding import widest_float
from infinipot.tokens import VideoTokens, take

RIDGE = 1e-2  # below it a direction counts as covered


@dataclass(frozen=True)
class CoRDS(Policy):
    """Keeps a coreset: tokens that are far from each other in keys and values together, and the newest ones.

    What is published says: greedy k-centre with a distance that mixes key and value space, a protected recent window,
    and a bonus for what is orthogonal to all that is chosen. What is not published is ours: keys (without rotation) and
    values are scaled to length 1 and laid side by side; the bonus is the part of a token that the chosen ones leave
    unexplained, x · λ(λI + XᵀX)⁻¹x; several tokens are chosen in a round, since one at a time would take |C| rounds.

    Tokens of one round do not know of each other, so two that are alike may both be chosen. The first round goes by the
    distance alone; the bonus begins with the second, and so does nothing where `rounds` is 1.

    Options:
        values: the share of values in the distance, that of keys is the rest.
        orthogonal: the weight of the bonus beside the distance.
        recent: share of |C| for the newest tokens.
        rounds: in which the others are chosen; as many as tokens is the greedy rule exactly.
    """

    name: ClassVar[str] = "cords"
    paper: ClassVar[str] = "CoRDS, arXiv 2605.14310"

    values: Share = 0.5
    orthogonal: Share = 0.5
    recent: Share = 0.125
    rounds: Positive = 16

    @property
    def reads_states(self) -> bool:
        return True

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        keys, values = (unit(part) for part in (tokens.keys, tokens.values))
        points = torch.cat([(1 - self.values) ** 0.5 * keys, self.values**0.5 * values], -1)
        window = int(self.recent * budget)
        recent = newest(tokens.arrival, window)
        there = take(points, recent)
        distance = torch.full(tokens.shape, torch.inf, device=points.device, dtype=torch.float32)
        if window:
            distance = (1 - nearest(points, there)[0]).scatter(1, recent, -torch.inf)
        bonus = Unexplained(points, there, self.orthogonal) if self.orthogonal else None
        chosen = far_apart(points, distance, budget - window, self.rounds, tokens.arrival, bonus)
        return torch.cat([chosen, recent], 1)


class Unexplained:
    """What chosen points leave unexplained of all, kept up to date as more are chosen.

    The inverse is updated by the Woodbury identity, so that a round costs products with the few that it chose, rather
    than a decomposition of what all chosen ones cover. It is kept wide: of many points that are almost the same, as of
    a picture that stands still, there would be no decomposition where a GPU rounds products to TF32. What it leaves of
    a point is narrow again, since errors of that do not add up.

    Args:
        points: `[rows, N, width]`, see `unit`.
        there: `[rows, n, width]`, of those that are chosen already; n may be 0.
        weight: of the bonus.
    """

    def __init__(self, points: Tensor, there: Tensor, weight: float) -> None:
        self._points, self._weight = points, weight
        self._wide = widest_float(points.device)
        there = there.to(self._wide)
        ridge = RIDGE * torch.eye(there.shape[-1], device=points.device, dtype=self._wide)
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(ridge + there.mT @ there).L)
        self._left = ((points @ self._inverse.to(points.dtype)) * points).sum(-1)

    def __call__(self, chosen: Tensor) -> Tensor:
        """The bonus of each token `[rows, N]` float32, once the points `chosen` `[rows, n, width]` are, too."""
        chosen = chosen.to(self._wide)
        seen = chosen @ self._inverse
        within = torch.eye(chosen.shape[1], device=chosen.device, dtype=chosen.dtype) + seen @ chosen.mT
        explains = torch.linalg.solve_triangular(torch.linalg.cholesky_ex(within).L, seen, upper=False)
        change = explains.mT @ explains
        self._inverse = self._inverse - change
        if chosen.shape[1] < chosen.shape[2]:
            gone = (self._points @ explains.mT.to(self._points.dtype)).square().sum(-1)
        else:  # of so many at once scratch is not to hold a product with each
            gone = ((self._points @ change.to(self._points.dtype)) * self._points).sum(-1)
        self._left = self._left - gone
        return (RIDGE * self._weight * self._left).float()
