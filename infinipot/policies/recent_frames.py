"""The last frames, whole, and nothing before them: SimpleStream. https://github.com/EvolvingLMMs-Lab/SimpleStream"""

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

    SimpleStream samples one frame a second and keeps 2 to 8; here it is as many as |C| holds, or fewer. Behind a change
    of the frames' size, the oldest patch that is held may be a part of one.

    Options:
        patches: how many temporal patches are held at the most, those that wait for their block left out; 0 for as many
            as fit.
    """

    name: ClassVar[str] = "recent-frames"
    paper: ClassVar[str] = "SimpleStream, github.com/EvolvingLMMs-Lab/SimpleStream"

    whole_patches: ClassVar[bool] = True

    patches: Count = 0

    def most(self, patch_tokens: int) -> int | None:
        return self.patches * patch_tokens or None

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        return newest(tokens.arrival, budget)
