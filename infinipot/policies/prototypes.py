"""Prototypes: a ring of recent tokens, and a bounded set of centres that older ones go into."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import Merge, Policy
from infinipot.policies.merged import into_nearest
from infinipot.policies.options import Positive, Share
from infinipot.policies.scoring.neighbours import far_apart, unit
from infinipot.policies.scoring.ranking import newest
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class Prototypes(Policy):
    """Keeps the newest tokens as they are, and of the older ones cluster centres that have absorbed all others.

    After ProtoKV, of which an abstract is public: an exact ring of recent tokens beside a fixed number of prototypes,
    each with its centre and mass. How centres come about is ours: of the tokens that leave the ring and the centres so
    far, those stay whose un-rotated keys are farthest apart (greedy k-centre), and the others go into the nearest of
    them, weighted by mass. So a centre has the place and time of one token, and means of keys and values. Prototypes
    here lie in slots of the memory; beside it there is the mass alone, four bytes a slot.

    Options:
        share: of |C|, for centres.
        rounds: in which centres are chosen; as many as centres is the greedy rule exactly.
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
        return into_nearest(tokens, kept, _oldest(tokens, kept, centres) if centres else kept, 0.0)


def _oldest(tokens: VideoTokens, kept: Tensor, count: int) -> Tensor:
    """The kept tokens that came first: those that are no part of the ring."""
    arrival = tokens.arrival.gather(1, kept)
    return kept.gather(1, arrival.topk(count, dim=1, largest=False).indices)
