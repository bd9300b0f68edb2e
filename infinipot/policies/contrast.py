"""Contrast: what is unlike the mean of all that ever came in, which is kept as one token."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.merge import MASS, Merge
from infinipot.policies.options import Exponent, Share
from infinipot.policies.redundancy import cosine
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class Contrast(ScoredPolicy):
    """Keeps what is unlike the mean of all that ever came in, in value and in key; what leaves goes into one token.

    Ours. The score is ‖v - v̄‖ · (1 - cos(k, k̄)), where v̄ and k̄ are means over the whole stream, not over what is held,
    which is the unusual: each row keeps one token that all others go into when they leave, so that the mean of what is
    held, weighted by how many tokens each stands for, is that of all there ever was. That token is the usual itself,
    for the model to attend to as well. Tokens are scored anew at each compression; half of what stays is spread over
    time, see `coverage`. Beside the memory it takes four bytes a slot.

    Options:
        values, keys: exponents of the two; at 0 one does not count.
    """

    name: ClassVar[str] = "contrast"
    merges: ClassVar[bool] = True

    coverage: Share = 0.5
    values: Exponent = 1.0
    keys: Exponent = 1.0

    @property
    def reads_states(self) -> bool:
        return True

    def score(self, tokens: VideoTokens) -> Tensor:
        mass = tokens.columns[MASS]
        values, keys = tokens.values.float(), tokens.keys.float()
        far = torch.linalg.vector_norm(values - _mean(values, mass), dim=-1)
        unlike = (1 - cosine(keys, _mean(keys, mass).expand_as(keys))).clamp_min(0)
        return (far**self.values * unlike**self.keys).masked_fill(mass > 1, torch.inf)

    def merge(self, tokens: VideoTokens, kept: Tensor) -> Merge:
        """All that leaves goes into the kept token that stands for most; at first, for the oldest of them."""
        mass = tokens.columns[MASS]
        heaviest = torch.where(mass > 1, 0, -tokens.arrival).gather(1, kept).argmax(1, keepdim=True)
        own = torch.arange(tokens.shape[1], device=kept.device).expand(tokens.shape)
        stays = torch.zeros(tokens.shape, dtype=torch.bool, device=kept.device).scatter(1, kept, True)
        return Merge(torch.where(stays, own, kept.gather(1, heaviest)), mass)


def _mean(states: Tensor, mass: Tensor) -> Tensor:
    """The mean over the tokens of each row that are numbers, weighted by mass: `[rows, 1, head_dim]`."""
    sound = states.isfinite().all(-1)
    weight = (mass * sound).unsqueeze(1)
    return weight @ states.where(sound.unsqueeze(-1), 0.0) / weight.sum(2, keepdim=True).clamp_min(1)
