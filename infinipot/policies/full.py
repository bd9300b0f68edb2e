"""The policy that never lets go of a token: for short videos, and to compare the others with."""

from dataclasses import dataclass
from typing import ClassVar, NoReturn

from infinipot.errors import CapError
from infinipot.policies.base import Policy
from infinipot.tokens import VideoTokens


@dataclass(frozen=True)
class Full(Policy):
    """Keeps every token; a video that outgrows the memory is an error."""

    name: ClassVar[str] = "full"
    evicts: ClassVar[bool] = False

    def select(self, tokens: VideoTokens, budget: int) -> NoReturn:
        raise CapError(
            f"the memory is full: it holds {tokens.shape[1]} video tokens, and the policy 'full' evicts "
            "none. Use a larger memory, or a policy that evicts, such as 'infinipot-v'."
        )
