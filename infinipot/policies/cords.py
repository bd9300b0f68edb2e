"""CoRDS: what is held as a coreset, far apart in keys and values. https://arxiv.org/abs/2605.14310"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import Policy
from infinipot.policies.likeness import far_apart, nearest, unit
from infinipot.policies.options import Positive, Share
from infinipot.policies.ranking import newest
from infinipot.tokens import VideoTokens, take

RIDGE = 1e-2  # below it a direction counts as covered


@dataclass(frozen=True)
class CoRDS(Policy):
    """Keeps a coreset: tokens that are far from each other in keys and values together, and the newest ones.

    What is published says: greedy k-centre with a distance that mixes key and value space, a protected recent window,
    and a bonus for what is orthogonal to all that is chosen. What is not published is ours: keys (without rotation) and
    values are scaled to length 1 and laid side by side; the bonus is the part of a token that the chosen ones leave
    unexplained, x · λ(λI + XᵀX)⁻¹x; several tokens are chosen in a round, since one at a time would take |C| rounds.

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
        distance = torch.full(tokens.shape, torch.inf, device=points.device, dtype=torch.float32)
        explained = RIDGE * torch.eye(points.shape[-1], device=points.device, dtype=points.dtype).expand(
            len(points), -1, -1
        )
        if window:
            there = take(points, recent)
            distance = (1 - nearest(points, there)[0]).scatter(1, recent, -torch.inf)
            explained = explained + there.transpose(1, 2) @ there
        covered = [explained]

        def unexplained(chosen: Tensor) -> Tensor:
            covered[0] = covered[0] + chosen.transpose(1, 2) @ chosen
            left = torch.cholesky_inverse(torch.linalg.cholesky_ex(covered[0]).L)
            return RIDGE * self.orthogonal * ((points @ left) * points).sum(-1).float()

        bonus = unexplained if self.orthogonal else None
        chosen = far_apart(points, distance, budget - window, self.rounds, tokens.arrival, bonus)
        return torch.cat([chosen, recent], 1)
