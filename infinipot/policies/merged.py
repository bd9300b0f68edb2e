"""Merging: evicted tokens are merged into the kept tokens most similar to them."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import MASS, Merge
from infinipot.policies.options import Share
from infinipot.policies.scoring.neighbours import nearest, unit
from infinipot.policies.wrapper import Wrapper
from infinipot.tokens import VideoTokens, take


@dataclass(frozen=True)
class Merged(Wrapper):
    """Keeps what another policy keeps, and adds each evicted token to the kept one whose key is most like its own.

    Keys, without rotation, and values become means weighted by how many tokens each stands for, as in token merging
    (ToMe, arXiv 2210.09461). A kept token keeps its place and time. This takes four extra bytes per slot.

    Options:
        of: the policy that chooses.
        least: an evicted token is dropped if the cosine of the keys is below this.
    """

    name: ClassVar[str] = "merged"
    merges: ClassVar[bool] = True

    least: Share = 0.5

    def merge(self, tokens: VideoTokens, kept: Tensor) -> Merge:
        return into_nearest(tokens, kept, kept, self.least)


def into_nearest(tokens: VideoTokens, kept: Tensor, takers: Tensor, least: float) -> Merge:
    """Merges evicted tokens, weighted by mass, into the most similar of some kept ones, the latest of equals.

    Args:
        kept: `[rows, budget]` int64, the tokens that stay.
        takers: `[rows, n]` int64, those of them that absorb others.
        least: the cosine of keys below which a token is dropped.
    """
    takers = takers.gather(1, tokens.arrival.gather(1, takers).argsort(1, descending=True))
    keys = unit(tokens.keys)
    alike, which = nearest(keys, take(keys, takers))
    finite = keys.any(-1)  # what is not would make a mean of nothing
    return Merge.of(takers.gather(1, which), kept, tokens.columns[MASS], for_good=(alike < least) | ~finite)
