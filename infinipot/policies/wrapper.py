"""The base of policies that use the scores of another policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from infinipot.errors import PolicyError
from infinipot.policies.base import Attention, Policy, ScoredPolicy
from infinipot.policies.options import Inner
from infinipot.policies.scoring.ranking import either
from infinipot.tokens import NewTokens, VideoTokens


@dataclass(frozen=True)
class Wrapper(ScoredPolicy):
    """A policy that takes its scores from another one and does something else with them.

    Options:
        of: the policy that scores; if it has options, in brackets: `of=[tar:reference=recent]`.
    """

    of: Inner = "deviation"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.inner, ScoredPolicy):
            raise PolicyError(
                f"{self.name}: of={self.of!r} gives no scores: name a policy that gives some, such as 'deviation'"
            )
        if not _only_scores(self.inner):
            raise PolicyError(
                f"{self.name}: of={self.of!r} does more with its scores than keep the highest: name a policy that does "
                "not, such as 'deviation'"
            )

    @cached_property
    def inner(self) -> Policy:
        """The policy that scores."""
        from infinipot import policies

        return policies.make(self.of)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.inner.columns

    @property
    def attention(self) -> Mapping[str, Attention]:
        return self.inner.attention

    @property
    def reads_states(self) -> bool:
        return self.inner.reads_states

    @property
    def across_layers(self) -> bool:
        return self.inner.across_layers

    @property
    def across_heads(self) -> bool:
        return self.inner.across_heads

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        return self.inner.measure(new)

    def assured(self, scores: Tensor, tokens: VideoTokens, budget: int) -> Tensor | None:
        assert isinstance(self.inner, ScoredPolicy), "checked by __post_init__"
        return either(super().assured(scores, tokens, budget), self.inner.assured(scores, tokens, budget))

    def score(self, tokens: VideoTokens) -> Tensor:
        assert isinstance(self.inner, ScoredPolicy), "checked by __post_init__"
        return self.inner.score(tokens)


def _only_scores(policy: ScoredPolicy) -> bool:
    """Whether a policy does nothing beyond `score` and `assured`."""
    more = (policy.hides, policy.merges, policy.whole_patches, policy.one_size, policy.dense_positions)
    return type(policy).select is ScoredPolicy.select and not any(more) and policy.most(1) is None
