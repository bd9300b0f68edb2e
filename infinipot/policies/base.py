"""What a policy is: tensors in, indices out. Knows nothing of models, caches or streams."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from infinipot.policies import options


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of one temporal patch: `rows` x `columns`, numbered row by row from `first_cell`.

    Each resolution that a stream has seen has a grid of its own, with cell numbers of its own, so that tokens
    of different grids never share a cell.
    """

    rows: int
    columns: int
    first_cell: int

    @property
    def cells(self) -> int:
        """Cells per temporal patch (P)."""
        return self.rows * self.columns


@dataclass(frozen=True, slots=True)
class VideoTokens:
    """The N video tokens that one layer holds, in order of arrival; each KV head may hold tokens of its own.

    Attributes:
        keys: `[kv_heads, N, head_dim]`, as cached, i.e. with their rotary rotation.
        values: `[kv_heads, N, head_dim]`.
        patch: `[kv_heads, N]` int32, the temporal patch of the stream that a token comes from; never falls
            along N.
        cell: `[kv_heads, N]` int32, the cell it comes from (see `Grid`); within one patch it rises along N.
        grids: the grids the stream has seen, the current one last.
        newest_patch: index of the newest temporal patch that was given to the stream.
        layer, layers: which layer of how many.
        unrotate: gives the keys with the rotary rotation undone, up to a rotation that is the same for all
            tokens of a cell: right for comparing a cell with itself, which is what TaR does. Called with an
            order, `[kv_heads, n]` int64, it gives those tokens in that order: `[kv_heads, n, head_dim]` float32,
            newly allocated and contiguous. Without one it gives them all.
        first_head: number of the first of these heads in its layer: other processes may hold those before it.
        noted: `[kv_heads, N]` float32, what the policy noted of each token (see `Policy.note`), if it does.
    """

    keys: Tensor
    values: Tensor
    patch: Tensor
    cell: Tensor
    grids: tuple[Grid, ...]
    newest_patch: int
    layer: int
    layers: int
    unrotate: Callable[..., Tensor]
    first_head: int = 0
    noted: Tensor | None = None


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

    def note(self, tokens: VideoTokens) -> Tensor | None:
        """What is to be remembered of tokens as long as they are held, `[kv_heads, N]` float32; None for nothing.

        Asked for ahead of every eviction. Of each token the first note counts, made before anything that came with
        it or after it was evicted: `VideoTokens.noted`.
        """
        return None

    @abstractmethod
    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        """Indices of the tokens to keep.

        Args:
            tokens: what one layer holds, N tokens per KV head.
            budget: |C|, how many to keep, 0 < budget < N.

        Returns:
            `[kv_heads, budget]` int64, each row without repetition, in any order.
        """
