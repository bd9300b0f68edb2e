"""The base of policies that know the question in advance. A stream does not, so that the question is an option."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from infinipot.policies.base import Attention, ScoredPolicy
from infinipot.policies.options import Words


@dataclass(frozen=True)
class KnowsQuestion(ScoredPolicy):
    """A policy that ranks tokens by the attention of a question, which the model runs over after a block and forgets.

    The attention arrives in the column "asked".

    Class attributes:
        asking: how many of the question's last tokens count; 0 for all.

    Options:
        question: the question; without one, the chat template's text around a question is used.
    """

    knows: ClassVar[str] = "question"
    asking: ClassVar[int] = 0

    question: Words = ""

    @property
    def attention(self) -> Mapping[str, Attention]:
        return {"asked": Attention(queries=self.asking, probe=self.question)}
