"""SimpleStream: the last frames, whole, and nothing before them. https://github.com/EvolvingLMMs-Lab/SimpleStream"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infinipot.policies.base import Policy
from infinipot.policies.options import Count
from infinipot.policies.scoring.ranking import newest
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class RecentFrames(Policy):
    """Keeps the last temporal patches whole: the baseline to beat on questions about the present.

    SimpleStream samples one frame per second and keeps 2 to 8; here it is as many as fit in |C|, or `patches`. After
    the frame size has changed, the oldest held patch may be incomplete.

    Options:
        patches: the most temporal patches to hold, not counting those that wait for their block; 0 for as many as fit.
    """

    name: ClassVar[str] = "recent-frames"
    paper: ClassVar[str] = "SimpleStream, github.com/EvolvingLMMs-Lab/SimpleStream"

    whole_patches: ClassVar[bool] = True

    patches: Count = 0

    def most(self, patch_tokens: int) -> int | None:
        return self.patches * patch_tokens or None

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        return newest(tokens.arrival, budget)
