"""CoRDS: keeps a coreset of tokens that are far apart in keys and values. https://arxiv.org/abs/2605.14310"""

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

RIDGE = 1e-2  # a direction with less than this counts as covered


@dataclass(frozen=True)
class CoRDS(Policy):
    """Keeps a coreset: tokens that are far from each other in keys and values together, and the newest ones.

    The paper describes greedy k-centre with a distance that mixes key and value space, a protected recent window, and a
    bonus for tokens orthogonal to those chosen. Details it leaves open are ours: keys (without rotation) and values are
    scaled to length 1 and concatenated; the bonus is the part of a token that the chosen ones do not explain,
    x · λ(λI + XᵀX)⁻¹x; a round chooses several tokens, since one at a time would take |C| rounds.

    Tokens chosen in the same round are not compared, so two similar ones may both be chosen. The first round uses the
    distance alone. The bonus starts with the second, so it has no effect if `rounds` is 1.

    Options:
        values: the weight of values in the distance; keys have the rest.
        orthogonal: the weight of the bonus relative to the distance.
        recent: share of |C| for the newest tokens.
        rounds: rounds in which the other tokens are chosen; with one round per token, the greedy rule is exact.
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
    """The part of each point that the chosen points do not explain, updated as more are chosen.

    The inverse is updated by the Woodbury identity, so a round costs products with the few points it chose instead of a
    new decomposition. The inverse is in float64: for many nearly equal points, such as those of a still picture, the
    decomposition fails if a GPU rounds products to TF32. The unexplained parts are float32, since their errors do not
    add up.

    Args:
        points: `[rows, N, width]`, see `unit`.
        there: `[rows, n, width]`, the points chosen already; n may be 0.
        weight: the weight of the bonus.
    """

    def __init__(self, points: Tensor, there: Tensor, weight: float) -> None:
        self._points, self._weight = points, weight
        self._wide = widest_float(points.device)
        there = there.to(self._wide)
        ridge = RIDGE * torch.eye(there.shape[-1], device=points.device, dtype=self._wide)
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(ridge + there.mT @ there).L)
        self._left = ((points @ self._inverse.to(points.dtype)) * points).sum(-1)

    def __call__(self, chosen: Tensor) -> Tensor:
        """The bonus of each token, `[rows, N]` float32, after the points `chosen`, `[rows, n, width]`, are added."""
        chosen = chosen.to(self._wide)
        projected = chosen @ self._inverse
        within = torch.eye(chosen.shape[1], device=chosen.device, dtype=chosen.dtype) + projected @ chosen.mT
        explains = torch.linalg.solve_triangular(torch.linalg.cholesky_ex(within).L, projected, upper=False)
        change = explains.mT @ explains
        self._inverse = self._inverse - change
        if chosen.shape[1] < chosen.shape[2]:
            drop = (self._points @ explains.mT.to(self._points.dtype)).square().sum(-1)
        else:  # with so many at once, the products with each would not fit the scratch
            drop = ((self._points @ change.to(self._points.dtype)) * self._points).sum(-1)
        self._left = self._left - drop
        return (RIDGE * self._weight * self._left).float()
