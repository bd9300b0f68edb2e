"""Prototypes: a window of recent tokens, and a bounded set of centres that absorb older ones."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import MASS, Merge, Policy
from infinipot.policies.merged import into_nearest
from infinipot.policies.options import Positive, Share
from infinipot.policies.scoring.neighbours import far_apart, unit
from infinipot.policies.scoring.ranking import newest
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class Prototypes(Policy):
    """Keeps the newest tokens as they are, and cluster centres that absorb all older ones.

    After ProtoKV, of which only the abstract is public: an exact ring of recent tokens and a fixed number of
    prototypes, each with a centre and a mass. How centres are chosen is ours: among the present centres and the tokens
    that leave the ring, those stay whose unrotated keys are farthest apart (greedy k-centre), and each of the others
    is merged into the nearest, weighted by mass. So a centre has the place and time of one token, and mean keys and
    values. Prototypes use slots of the memory; only their mass is extra, four bytes per slot.

    Options:
        share: the share of |C| for centres; without any, tokens that leave the ring are gone.
        rounds: rounds in which centres are chosen; with one round per centre, the greedy rule is exact.
    """

    name: ClassVar[str] = "prototypes"
    paper: ClassVar[str] = "after ProtoKV, arXiv 2606.26762"
    merges: ClassVar[bool] = True

    share: Share = 0.5
    rounds: Positive = 16

    @property
    def reads_states(self) -> bool:
        return True

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        centres = int(self.share * budget)
        ring = newest(tokens.arrival, budget - centres)
        if not centres:
            return ring
        distance = torch.full(tokens.shape, torch.inf, device=ring.device, dtype=torch.float32).scatter(
            1, ring, -torch.inf
        )
        keys = unit(tokens.keys)
        return torch.cat([far_apart(keys, distance, centres, self.rounds, tokens.arrival), ring], 1)

    def merge(self, tokens: VideoTokens, kept: Tensor) -> Merge:
        centres = int(self.share * kept.shape[1])
        if not centres:  # nothing absorbs what leaves the ring
            return Merge.of(kept[:, :1].expand(tokens.shape), kept, torch.zeros_like(tokens.columns[MASS]))
        return into_nearest(tokens, kept, _oldest(tokens, kept, centres), -1.0)


def _oldest(tokens: VideoTokens, kept: Tensor, count: int) -> Tensor:
    """The `count` oldest kept tokens: the centres, which are not in the ring."""
    arrival = tokens.arrival.gather(1, kept)
    return kept.gather(1, arrival.topk(count, dim=1, largest=False).indices)
