"""Policies of methods that know the question: an option, since a stream does not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from infinipot.policies.base import Attention, ScoredPolicy
from infinipot.policies.options import Words


@dataclass(frozen=True)
class KnowsQuestion(ScoredPolicy):
    """A policy that ranks tokens by what a question attends to, which is put to the model after a block and forgotten.

    It holds to the cap as every other policy does. The column is called "asked".

    Class attributes:
        asking: how many of the question's last tokens are looked at; 0 for all.

    Options:
        question: that will be asked; without one, the chat template's text around a question stands in for it.
    """

    knows: ClassVar[str] = "question"
    asking: ClassVar[int] = 0

    question: Words = ""

    @property
    def attention(self) -> Mapping[str, Attention]:
        return {"asked": Attention(queries=self.asking, probe=self.question)}
