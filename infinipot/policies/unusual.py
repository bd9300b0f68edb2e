"""Unusual: what is unlike the mean of what is held, in value and in key, and the best of the newest patch."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.options import Exponent, Share
from infinipot.policies.usual import distance, unlikeness
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class Unusual(ScoredPolicy):
    """Keeps what is unlike the mean of what is held, in value and in key, and the best of the newest patch.

    Ours. The score is ‖v - v̄‖ · (1 - cos(k, k̄)), keys without rotation, means over what the row holds when it is
    compressed. Since what is held is mostly unusual, a token has to be unlike the background and unlike what has been
    kept already. An eighth of |C| is for the newest patch, whatever it shows: without it a model that is asked about
    now has nothing to see that there is nothing.

    Options:
        values, keys: exponents of the two distances; at 0 one does not count.
        newest: see `ScoredPolicy`.
    """

    name: ClassVar[str] = "unusual"

    newest: Share = 0.125
    values: Exponent = 1.0
    keys: Exponent = 1.0

    @property
    def reads_states(self) -> bool:
        return True

    def score(self, tokens: VideoTokens) -> Tensor:
        scores = torch.ones(tokens.shape, device=tokens.cell.device, dtype=torch.float32)
        if self.values:
            scores = scores * distance(tokens.values) ** self.values
        if self.keys:
            scores = scores * unlikeness(tokens.keys).clamp_min(0) ** self.keys
        return scores
