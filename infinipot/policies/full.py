"""The policy that never lets go of a token: for short videos, and to compare the others with."""

from dataclasses import dataclass
from typing import ClassVar, NoReturn

from infinipot.policies.base import Policy
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class Full(Policy):
    """Keeps every token; a video that outgrows the memory is an error.

    Positions grow with the video, and may leave the range that the model was trained on.
    """

    name: ClassVar[str] = "full"
    evicts: ClassVar[bool] = False

    def select(self, tokens: VideoTokens, budget: int) -> NoReturn:
        raise AssertionError("a policy that does not evict is not asked")
