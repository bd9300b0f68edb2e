"""KeyDiff: keys that differ from the mean key. https://arxiv.org/abs/2504.15364"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import ScoredPolicy
from infinipot.policies.scoring.mean import cosine_to_mean
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class KeyDiff(ScoredPolicy):
    """Keeps the tokens whose keys are least like the mean key of what is held (KeyDiff).

    The mean is taken of keys scaled to length 1. Keys are compared without rotary rotation, unlike the paper's cached
    keys: over a long video, rotated keys point in all directions. Tokens are scored at each compression, against what
    is held then.
    """

    name: ClassVar[str] = "keydiff"
    paper: ClassVar[str] = "KeyDiff, arXiv 2504.15364"

    def score(self, tokens: VideoTokens) -> Tensor:
        return -tokens.by_rows("keys", partial(cosine_to_mean, unit=True))
