"""Tokens that stand on top of a memory without being part of it: a block, a question, an answer on its way.

A transaction hands out positions and remembers where its tokens come from. What the model writes for them lies in the
free slots; only a commit makes it part of the memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum

import torch
from torch import Tensor

from infinipot.memory.observation import Observed
from infinipot.memory.positions import Cursor, PositionRule, patch_positions, text_positions
from infinipot.memory.prefix import EMPTY, Content, extended, unlike_any
from infinipot.memory.window import Window
from infinipot.tokens import Grid

NOWHERE = -1  # the patch and cell of text


class Kind(Enum):
    """What a token is: text of the conversation, text that belongs to a temporal patch, or a cell of one."""

    TEXT = "text"
    CAPTION = "caption"
    CELL = "cell"


Run = tuple[int, Kind]  # so many tokens of a kind in a row


@dataclass(frozen=True, slots=True)
class Origin:
    """Where tokens come from, on the CPU.

    Attributes:
        patch, cell: `[n]` int32, the temporal patch and the cell of it, `NOWHERE` for text.
        positions: `[3, n]` int64.
        base: `[n]` int64, where the layout of its patch starts; of text its own position.
        time: `[n]` float64, seconds of video time.
    """

    patch: Tensor
    cell: Tensor
    positions: Tensor
    base: Tensor
    time: Tensor

    @classmethod
    def of(cls, patch: int, cell: int | Tensor, positions: Tensor, time: float, base: int | None = None) -> "Origin":
        """The origin of tokens of one patch, or of text, at these positions."""
        count = positions.shape[1]
        return cls(
            patch=torch.full((count,), patch, dtype=torch.int32),
            cell=torch.as_tensor(cell, dtype=torch.int32).expand(count),
            positions=positions,
            base=positions[0] if base is None else torch.full((count,), base),
            time=torch.full((count,), time, dtype=torch.float64),
        )

    @classmethod
    def joined(cls, parts: Sequence["Origin"]) -> "Origin":
        """The origins of several runs of tokens, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(torch.cat([getattr(part, field.name) for part in parts], -1) for field in fields(cls)))


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What a transaction has taken up so far. Replaced as a whole: to keep a reference is to keep a copy.

    Attributes:
        cursor: where the stream would stand after the tokens.
        tokens: how many they are.
        runs: their kinds, in order.
        captions: for each caption token among them the temporal patch that it belongs to.
        cell_numbers: of the cells among them, in order: a tensor for each temporal patch that has any.
        origins: where those come from that no forward has run over yet, run by run.
        window: what tokens from now on see of the video; None for all.
        free: how many tokens came before the window was set: those see all.
        prefix: tells what the memory holds with these tokens; see prefix.py.
        stepped: the same without those that no forward has run over yet.
    """

    cursor: Cursor
    tokens: int = 0
    runs: tuple[Run, ...] = ()
    captions: tuple[int, ...] = ()
    cell_numbers: tuple[Tensor, ...] = ()
    origins: tuple[Origin, ...] = ()
    window: Window | None = None
    free: int = 0
    prefix: bytes = EMPTY
    stepped: bytes = EMPTY

    def after_forward(self) -> "Taken":
        """The same once a forward has run over all of it."""
        return replace(self, origins=(), stepped=self.prefix)


class Transaction:
    """Tokens to come, in order.

    Args:
        taken: what it begins with.
        rule: how positions advance.

    Attributes:
        taken: what it has taken up.
        observed: what policies asked to see of the attention of its steps, those that were taken back included.
    """

    def __init__(self, taken: Taken, rule: PositionRule) -> None:
        self.taken = taken
        self.observed = Observed()
        self._rule = rule

    @property
    def cursor(self) -> Cursor:
        """Where the stream would stand after it."""
        return self.taken.cursor

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return self.taken.tokens

    def narrow(self, window: Window) -> None:
        """From here on, tokens see what is in a window, whatever those before them saw."""
        self.taken = replace(self.taken, window=window, free=self.tokens, prefix=unlike_any())

    def text(self, tokens: int, time: float = 0.0, content: Content | None = None) -> Tensor:
        """Adds text tokens; returns their positions, `[3, tokens]` int64.

        Args:
            tokens: how many.
            time: in seconds.
            content: what they are made of, such as their ids; see prefix.py.
        """
        positions = text_positions(self.cursor.next, tokens)
        self._add(Kind.TEXT, Origin.of(NOWHERE, NOWHERE, positions, time), self.cursor.after_text(tokens))
        self._tell(content, positions)
        return positions

    def video(
        self,
        grid: Grid,
        times: Sequence[float],
        before: int = 0,
        after: int = 0,
        cells: Tensor | None = None,
        shown: float | None = None,
        content: Content | None = None,
    ) -> Tensor:
        """Adds temporal patches between `before` and `after` tokens of text that belong to the first and the last.

        Args:
            grid: of each.
            times: of each, in seconds.
            cells: `[n]` int64, the places in the grid of the tokens of a single patch; by default all. They stand where
                they would stand among all. Of a patch without any nothing is added, captions neither, and what comes
                next stands where it would stand after the whole of it.
            shown: when a single patch was on show, where its place among the others is that of another time.
            content: what all of these tokens are made of; see prefix.py.

        Returns:
            `[3, before + len(times) · P + after]` int64 positions, of those tokens that were added.
        """
        if len(times) > 1 and (before or after or cells is not None or shown is not None):
            raise ValueError("each patch has captions and cells of its own: give such patches one by one")
        if cells is not None and not len(cells):
            cursor = self.cursor.past_patch(grid, times[0], self._rule, before, after)
            self.taken = replace(self.taken, cursor=cursor)
            return text_positions(0, 0)
        told = times if shown is None else [shown]
        positions = [self._caption(self.cursor.patch, before, told[0])]
        positions += [self._cells(grid, *each, cells) for each in zip(times, told, strict=True)]
        positions.append(self._caption(self.cursor.patch - 1, after, told[-1]))
        joined = torch.cat(positions, -1)
        self._tell(content, joined)
        return joined

    def _cells(self, grid: Grid, time: float, told: float, places: Tensor | None) -> Tensor:
        number, cursor = self.cursor.patch, self.cursor.after_patch(grid, time, self._rule)
        positions = patch_positions(cursor, grid, self._rule)
        base = cursor.newest if cursor.base is None else cursor.base
        cells = torch.arange(grid.first_cell, grid.first_cell + grid.cells)
        if places is not None:
            cells, positions = cells[places], positions[:, places]
        self._add(Kind.CELL, Origin.of(number, cells, positions, told, base), cursor)
        self.taken = replace(self.taken, cell_numbers=(*self.taken.cell_numbers, cells))
        return positions

    def _caption(self, patch: int, tokens: int, time: float) -> Tensor:
        positions = text_positions(self.cursor.next, tokens)
        if tokens:
            self._add(Kind.CAPTION, Origin.of(patch, NOWHERE, positions, time), self.cursor.after_caption(tokens))
            self.taken = replace(self.taken, captions=(*self.taken.captions, *[patch] * tokens))
        return positions

    def _add(self, kind: Kind, origin: Origin, cursor: Cursor) -> None:
        """Takes up tokens of one kind, after which the stream would stand at the cursor."""
        taken, count = self.taken, len(origin.patch)
        self.taken = replace(
            taken,
            cursor=cursor,
            tokens=taken.tokens + count,
            runs=(*taken.runs, (count, kind)),
            origins=(*taken.origins, origin),
        )

    def _tell(self, content: Content | None, positions: Tensor) -> None:
        """Takes into the digest what tokens were made of, and where they stand."""
        self.taken = replace(self.taken, prefix=extended(self.taken.prefix, content, positions))
