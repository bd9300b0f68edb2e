"""What a policy is: tensors in, indices out. Knows nothing of models, caches or streams."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from infinipot.errors import PolicyError
from infinipot.policies import options
from infinipot.policies.ranking import highest
from infinipot.tokens import NewTokens, VideoTokens


@dataclass(frozen=True)
class Policy(ABC):
    """Chooses which video tokens stay. A subclass is a frozen dataclass whose fields are its options.

    Class attributes:
        name: what it is called on the command line.
        paper: where it comes from (title and link), or "" for a baseline.
        evicts: False for a policy that never lets go of a token.
        whole_patches: the budget must be a whole number of temporal patches.
        dense_positions: positions are re-assigned without gaps after each eviction.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    evicts: ClassVar[bool] = True
    whole_patches: ClassVar[bool] = False
    dense_positions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        options.check(self)

    @classmethod
    def summary(cls) -> str:
        """What it does, in a line."""
        return (cls.__doc__ or "").strip().partition("\n")[0]

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Its options and their defaults."""
        return {field.name: field.default for field in fields(cls) if field.default is not MISSING}

    @property
    def spec(self) -> str:
        """The text that makes this policy again: `name:option=value,...`, defaults left out."""
        chosen = {option: getattr(self, option) for option in options.hints(type(self))}
        changed = {option: value for option, value in chosen.items() if value != self.defaults().get(option)}
        return ":".join(filter(None, [self.name, ",".join(f"{k}={options.to_text(v)}" for k, v in changed.items())]))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what the memory stores of each token for the policy, one float32 each."""
        return ()

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        """The columns of tokens that come in, `[rows, N]` float32 each.

        Asked for once, before anything that came with the tokens is evicted, and handed back in `VideoTokens.columns`
        as long as they are held: so a compression has to look at what is new alone.
        """
        return {}

    @property
    def reads_states(self) -> bool:
        """Whether `select` looks at keys or values; if at columns alone, it chooses for all rows at once."""
        return False

    @abstractmethod
    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        """Indices of the tokens to keep.

        Args:
            tokens: N tokens of each of some rows, in any order. Rows are independent of each other.
            budget: |C|, how many of a row to keep, 0 < budget < N.

        Returns:
            `[rows, budget]` int64, each row without repetition, in any order.
        """


@dataclass(frozen=True)
class ScoredPolicy(Policy):
    """A policy that gives each token a score and keeps the highest; of equal scores the later token goes first."""

    @abstractmethod
    def score(self, tokens: VideoTokens) -> Tensor:
        """`[rows, N]` float32. What is no number counts as the lowest; infinities are allowed."""

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        scores = self.score(tokens)
        if scores.shape != tokens.shape or scores.dtype != torch.float32:
            raise PolicyError(
                f"policy {self.name!r} gave {scores.dtype} scores of shape {tuple(scores.shape)}: "
                f"float32 of shape {tuple(tokens.shape)} were asked for"
            )
        return highest(scores, budget, tokens.arrival)
