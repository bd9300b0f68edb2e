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
from infinipot.policies.scoring.ranking import either, highest, place_within
from infinipot.policies.scoring.recency import best_of_newest, stretch
from infinipot.tokens import NewTokens, VideoTokens

HIDDEN = "hidden"  # the column that marks tokens which attention skips
MASS = "mass"  # the column that says how many tokens a token stands for
UNSEEN = -1.0  # the attention of a token that no query was asked about yet
STRETCHES = 16  # the most stretches of time that `coverage` spreads tokens over


@dataclass(frozen=True, slots=True)
class Attention:
    """A request for the attention that some queries pay to the held tokens. It arrives as a column, see
    `Policy.attention`.

    Each KV head gets the attention of the query heads that share it, over all that it holds, text included.

    Attributes:
        queries: how many of the last queries count: cells of the block, or tokens of the probe; 0 for all.
        probe: a question that the model runs over after the block and then forgets; "" for the chat template's text
            around a question, without a question; None for no probe: the queries are the block's own cells.
        repeats: whether the block's content is run over again after the probe, in pieces that fit the reserve.
        over: how queries are combined: their "mean"; the "max" ever seen; or "expected", the mean attention of future
            queries if they are normally distributed as these are.
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
        into: `[rows, N]` int64, for each token the index of the kept token that absorbs it; its own index if it stays
            or is dropped.
        weight: `[rows, N]` float32, the token's weight in the mean, at least 0. An evicted token of weight 0 is
            dropped.
    """

    into: Tensor
    weight: Tensor

    @classmethod
    def of(cls, into: Tensor, kept: Tensor, weight: Tensor, for_good: Tensor | None = None) -> Self:
        """A merge of all evicted tokens, except those that are dropped.

        Args:
            into: `[rows, N]` int64, the kept token that absorbs each evicted one; ignored for tokens that stay.
            kept: `[rows, budget]` int64, the tokens that stay.
            weight: see above.
            for_good: `[rows, N]` bool, the evicted tokens that are dropped; None for none.
        """
        own = torch.arange(into.shape[1], device=into.device).expand(into.shape)
        alone = torch.zeros(into.shape, dtype=torch.bool, device=into.device).scatter(1, kept, True)
        alone = alone if for_good is None else alone | for_good
        return cls(torch.where(alone, own, into), weight)


@dataclass(frozen=True)
class Policy(ABC):
    """Chooses which video tokens stay. A subclass is a frozen dataclass whose fields are its options.

    Class attributes:
        name: its name on the command line.
        paper: its source (title and link), or "" for a baseline.
        evicts: False for a policy that never evicts a token.
        whole_patches: the budget must be a whole number of temporal patches.
        one_size: all temporal patches must have one size.
        dense_positions: positions are re-assigned without gaps after each eviction.
        merges: evicted tokens are merged into kept ones, see `merge`; the memory then stores a column "mass": how many
            tokens each one stands for.
        hides: some kept tokens are hidden from attention, see `seen`; the memory then stores a column "hidden".
        knows: what the published method needs that a stream does not have: "offline" for the whole video, "question"
            for the question; "" for nothing. The docstring says what replaces it here.
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
        for option in self.idle:
            if getattr(self, option) != self.defaults()[option]:
                raise PolicyError(f"{self.name}: {option} changes nothing beside the other options: leave it out")

    @classmethod
    def summary(cls) -> str:
        """One line that says what the policy does."""
        return (cls.__doc__ or "").strip().partition("\n")[0]

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The options and their defaults."""
        return {field.name: field.default for field in fields(cls) if field.default is not MISSING}

    @property
    def spec(self) -> str:
        """The text that makes this policy again: `name:option=value,...`, defaults left out."""
        chosen = {option: getattr(self, option) for option in options.hints(type(self))}
        changed = {option: value for option, value in chosen.items() if value != self.defaults().get(option)}
        return ":".join(filter(None, [self.name, ",".join(f"{k}={options.to_text(v)}" for k, v in changed.items())]))

    @property
    def idle(self) -> tuple[str, ...]:
        """Names of options that change nothing, given the others, and so must be left at their defaults."""
        return ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that `measure` fills: one float32 per token and row each."""
        return ()

    @property
    def attention(self) -> Mapping[str, Attention]:
        """The attention that the policy asks for, by the name of the column that receives it.

        Each block overwrites the column for all held tokens; a probe does so only when tokens may be evicted.
        Tokens that no query has attended to yet have `UNSEEN`.
        """
        return {}

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of all columns that the memory stores for the policy."""
        return (*self.columns, *self.attention, *([MASS] if self.merges else []), *([HIDDEN] if self.hides else []))

    def measure(self, new: NewTokens) -> Mapping[str, Tensor]:
        """The columns of new tokens, `[rows, N]` float32 each.

        It is called once for each token, before anything that came with it is evicted, and `VideoTokens.columns` has
        the result for as long as the token is held. So a compression need only read what is new. All rows are passed
        at once; `VideoTokens.by_rows` reads their keys and values in pieces that fit a bounded scratch.
        """
        return {}

    def most(self, patch_tokens: int) -> int | None:
        """The most tokens that the policy wants to hold when patches have so many; None for as many as fit.

        Tokens beyond it are evicted after each block, not only when the memory is full.
        """
        return None

    @property
    def across_layers(self) -> bool:
        """Whether `select` compares rows of different layers, and so must be given all rows of a device at once."""
        return False

    @property
    def across_heads(self) -> bool:
        """Whether heads of a layer are compared, so that processes that share them cannot each choose for their own."""
        return False

    @property
    def reads_states(self) -> bool:
        """Whether `select` reads keys or values directly, and so must be given a few rows at a time.

        A policy that only reads columns, or computes a number per token with `VideoTokens.by_rows`, is given more rows
        at once, on a GPU all of them, which takes a fraction of the kernels.
        """
        return False

    @abstractmethod
    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        """Indices of the tokens to keep.

        Args:
            tokens: N tokens in each row, in any order. Rows are independent, unless the policy looks `across_layers` or
                `across_heads`.
            budget: |C|, how many tokens of a row to keep, 0 < budget < N.

        Returns:
            `[rows, budget]` int64, in any order, without repetition within a row.
        """

    def merge(self, tokens: VideoTokens, kept: Tensor) -> Merge:
        """Which kept token absorbs each evicted one. Called if the policy `merges`.

        Args:
            tokens: all that a few rows hold. Where patches have captions, `select` may have been shown a part of them.
            kept: `[rows, budget]` int64, the tokens that stay.
        """
        raise NotImplementedError(f"policy {self.name!r} does not merge")

    def seen(self, tokens: VideoTokens, kept: Tensor) -> Tensor:
        """Which kept tokens attention sees, `[rows, budget]` bool. Called if the policy `hides`.

        Args:
            tokens: all that some rows hold, see `merge`; all rows of a layer at once.
            kept: `[rows, budget]` int64, the tokens that stay.
        """
        raise NotImplementedError(f"policy {self.name!r} hides nothing")


@dataclass(frozen=True)
class ScoredPolicy(Policy):
    """A policy that scores each token and keeps the highest scores; of equal scores, the later token wins.

    Options:
        coverage: the share of |C| that is spread over time: the stream so far is cut into up to 16 equal stretches, and
            each keeps its own best tokens until this share is used up. The rest goes by score alone.
        newest: up to this share of |C| goes to the best tokens of the newest patch, whatever the others score. If the
            answer to a question about the present is "nothing", the model has to see that.
    """

    coverage: Share = 0.0
    newest: Share = 0.0

    @abstractmethod
    def score(self, tokens: VideoTokens) -> Tensor:
        """Scores, `[rows, N]` float32. NaN ranks lowest; infinities are allowed."""

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
        """Which tokens stay regardless of their scores, `[rows, N]` bool; None for none.

        These are the ones that `coverage` and `newest` ask for; a policy may add its own. If they are more than
        `budget`, the later ones stay.
        """
        spread, newest = int(self.coverage * budget), int(self.newest * budget)
        covering = None
        if spread:
            stretches = min(STRETCHES, spread)
            covering = place_within(stretch(tokens, stretches), scores, tokens.arrival) < spread // stretches
        return either(covering, best_of_newest(scores, tokens, newest) if newest else None)
