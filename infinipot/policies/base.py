"""What a policy is, and what it can ask the memory for: tensors in, indices out. Knows no models, caches or streams."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from infinipot.errors import PolicyError
from infinipot.policies import options
from infinipot.policies.options import Share
from infinipot.policies.scoring.ranking import highest, place_within
from infinipot.policies.scoring.recency import best_of_newest, stretch
from infinipot.tokens import NewTokens, VideoTokens

HIDDEN = "hidden"  # the column that says which tokens attention passes over
MASS = "mass"  # the column that says how many tokens a token stands for
UNSEEN = -1.0  # the attention of a token that no query was asked about yet
STRETCHES = 16  # of time at the most, of which each keeps something where coverage is asked for


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of some queries to the tokens that are held; it arrives as a column, see `Policy.attention`.

    Each KV head has the attention of the query heads that share it, over all that it holds, text included.

    Attributes:
        queries: how many of the last ones are asked: cells of the block, or tokens of the probe; 0 for all.
        probe: a question that the model runs over after the block, and forgets; "" for the chat template's text around
            a question alone; None for no probe: the block's own cells ask.
        repeats: whether the block's own content stands after the probe, as what is asked for; in pieces that fit.
        over: what becomes of the queries: their "mean", the "max" of all times, or "expected": the attention that
            queries to come would pay on average, if they were normally distributed as these are.
    """

    queries: int = 0
    probe: str | None = None
    repeats: bool = False
    over: Literal["mean", "max", "expected"] = "mean"


@dataclass(frozen=True, slots=True)
class Merge:
    """Into which kept token each evicted one goes, and with what weight.

    A kept token's key, without rotation, and value become the weighted means of its own and those of the tokens that go
    into it; its patch, cell, time and positions stay, and its mass becomes the sum of theirs.

    Attributes:
        into: `[rows, N]` int64, for each token the place of the kept token that takes it up; its own place for those
            that stay, and for those that go for good.
        weight: `[rows, N]` float32, not below 0, of each token in the mean. An evicted token of weight 0 goes for good.
    """

    into: Tensor
    weight: Tensor

    @classmethod
    def of(cls, into: Tensor, kept: Tensor, weight: Tensor, for_good: Tensor | None = None) -> Self:
        """Where every token that does not stay goes into another one.

        Args:
            into: `[rows, N]` int64, which kept token; of those that stay it does not count.
            kept: `[rows, budget]` int64, those that stay.
            weight: see above.
            for_good: `[rows, N]` bool, which of the others go into none.
        """
        own = torch.arange(into.shape[1], device=into.device).expand(into.shape)
        alone = torch.zeros(into.shape, dtype=torch.bool, device=into.device).scatter(1, kept, True)
        alone = alone if for_good is None else alone | for_good
        return cls(torch.where(alone, own, into), weight)


@dataclass(frozen=True)
class Policy(ABC):
    """Chooses which video tokens stay. A subclass is a frozen dataclass whose fields are its options.

    Class attributes:
        name: what it is called on the command line.
        paper: where it comes from (title and link), or "" for a baseline.
        evicts: False for a policy that never lets go of a token.
        whole_patches: the budget must be a whole number of temporal patches.
        one_size: all temporal patches must be of one size.
        dense_positions: positions are re-assigned without gaps after each eviction.
        merges: evicted tokens go into kept ones, see `merge`; the memory then stores a column "mass" of each token: how
            many it stands for.
        hides: some of what stays is hidden from attention, see `seen`; the memory then stores a column "hidden".
        knows: what the published method has to know that a stream does not: "offline" for the whole video,
            "question" for the question; "" for nothing. What stands in for it here is in the docstring.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    evicts: ClassVar[bool] = True
    whole_patches: ClassVar[bool] = False
    one_size: ClassVar[bool] = False
    dense_positions: ClassVar[bool] = False
    merges: ClassVar[bool] = False
    hides: ClassVar[bool] = False
    knows: ClassVar[str] = ""

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

    @property
    def attention(self) -> Mapping[str, Attention]:
        """Attention that the policy wants to see, by the name of a column of its own: see `Attention`.

        Each block writes it anew for all that is held, a probe when tokens are about to be evicted. What no query was
        asked about yet is `UNSEEN`.
        """
        return {}

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of all that the memory stores of each token for the policy."""
        return (*self.columns, *self.attention, *([MASS] if self.merges else []), *([HIDDEN] if self.hides else []))

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        """The columns of tokens that come in, `[rows, N]` float32 each.

        Asked for once, before anything that came with the tokens is evicted, and handed back in `VideoTokens.columns`
        as long as they are held: so a compression has to look at what is new alone. All rows are shown at once, in
        few kernels; `VideoTokens.by_rows` reads keys and values in pieces that a bounded scratch holds.
        """
        return {}

    def most(self, patch_tokens: int) -> int | None:
        """How many tokens it ever wants to hold, of patches of so many; None for as many as fit.

        What is more than that is evicted after each block, not only when the memory is full.
        """
        return None

    @property
    def across_layers(self) -> bool:
        """Whether `select` ranks rows by what those of other layers hold, and so has to be shown all of a device."""
        return False

    @property
    def reads_states(self) -> bool:
        """Whether `select` looks at keys or values itself, and so has to be shown a few rows at a time.

        It is shown more of them, on a GPU all at once, in a fraction of the kernels, if it looks at columns alone, or
        has each token's number taken of keys and values by `VideoTokens.by_rows`.
        """
        return False

    @abstractmethod
    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        """Indices of the tokens to keep.

        Args:
            tokens: N tokens of each of some rows, in any order. Rows are independent of each other, except where a
                policy looks `across_layers`.
            budget: |C|, how many of a row to keep, 0 < budget < N.

        Returns:
            `[rows, budget]` int64, each row without repetition, in any order.
        """

    def merge(self, tokens: VideoTokens, kept: Tensor) -> Merge:
        """Into which kept token each evicted one goes, of a policy that `merges`.

        Args:
            tokens: as `select` is shown them.
            kept: `[rows, budget]` int64, those that stay.
        """
        raise NotImplementedError(f"policy {self.name!r} does not merge")

    def seen(self, tokens: VideoTokens, kept: Tensor) -> Tensor:
        """Which of the kept tokens attention sees, `[rows, budget]` bool, of a policy that `hides`.

        Args:
            tokens: as `select` is shown them, all rows of a layer at once.
            kept: `[rows, budget]` int64, those that stay.
        """
        raise NotImplementedError(f"policy {self.name!r} hides nothing")


@dataclass(frozen=True)
class ScoredPolicy(Policy):
    """A policy that gives each token a score and keeps the highest; of equal scores the later token goes first.

    Options:
        coverage: the share of |C| that is spread over time: each of up to 16 equal stretches of the stream so far keeps
            its own best tokens until this share is used up, and only the rest goes by score alone.
        newest: up to this share of |C| is for the newest patch: those of its tokens that score highest stay whatever
            the others' scores are. A question about now, of which the answer is "nothing", has to see that.
    """

    coverage: Share = 0.0
    newest: Share = 0.0

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
        assured = self.assured(scores, tokens, budget)
        scores = scores if assured is None else scores.masked_fill(assured, torch.inf)
        return highest(scores, budget, tokens.arrival)

    def assured(self, scores: Tensor, tokens: VideoTokens, budget: int) -> Tensor | None:
        """Which tokens stay whatever the others' scores are, `[rows, N]` bool; None for none.

        Those that `coverage` and `newest` ask for; a policy may add its own. Where they are more than `budget`, the
        later ones of them stay.
        """
        spread, of_newest = int(self.coverage * budget), int(self.newest * budget)
        named = []
        if spread:
            stretches = min(STRETCHES, spread)
            place = place_within(stretch(tokens, stretches), scores, tokens.arrival)
            named.append(place < spread // stretches)
        if of_newest:
            named.append(best_of_newest(scores, tokens, of_newest))
        return None if not named else named[0] | named[-1]
