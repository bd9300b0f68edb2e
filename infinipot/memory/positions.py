"""Which positions the next tokens get. Knows the rule a family was trained with, not the model.

Text takes the next position on all three axes. A vision span starts one past everything before it; the cell (r, c) of a
temporal patch stands at (origin + offset of the patch, base + r, base + c); text after the span starts at
`max(all so far) + 1` (Qwen2-VL, arXiv 2409.12191, section 2.1; Qwen2.5-VL, arXiv 2502.13923, section 2.1.2). Captions,
i.e. text between the patches of a video, end a span without closing the video (Qwen3-VL, arXiv 2511.21631). In a flat
rule there are no rows and columns: cells count on as text does (LLaVA and most others).
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infinipot.tokens import Grid

MOST_POSITIONS = 1 << 30
"""Positions that are counted up to: they are stored in 32 bits."""


@dataclass(frozen=True, slots=True)
class PositionRule:
    """How far apart in position two temporal patches of one span are.

    Attributes:
        tokens_per_second: positions per second of video (Qwen2.5-VL), or None for one position a patch (Qwen2-VL).
        longest_gap: the most positions between two patches in a row, however long the source paused; None: no limit.
        flat: cells take consecutive positions, row after row, the same on all axes; the others do not matter then.
    """

    tokens_per_second: float | None = None
    longest_gap: int | None = None
    flat: bool = False

    def offset(self, index: int, seconds: float, pace: float = 1.0) -> int:
        """Temporal offset of a patch that is the `index`-th after another one, and `seconds` later.

        Args:
            pace: how fast positions count, as a share of how fast the family's own do.
        """
        if self.tokens_per_second is None:
            return index
        # Times are sums of frame periods: what is meant to be a whole number may miss it by a rounding error.
        return math.floor(self.tokens_per_second * seconds * pace + 1e-6)

    def seconds(self, positions: int, pace: float) -> float:
        """The time that so many positions tell."""
        return positions / (self.tokens_per_second * pace) if self.tokens_per_second else 0.0

    @property
    def closest(self) -> int:
        """How close neighbouring patches come when positions count slower: as those of two frames a second do."""
        return 1 if self.tokens_per_second is None else max(1, round(self.tokens_per_second))

    def extent(self, grid: Grid) -> int:
        """Positions that the layout of one patch takes on any axis."""
        return grid.cells if self.flat else max(grid.rows, grid.columns)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a stream stands on the position axes. Immutable: a transaction moves a cursor of its own.

    Attributes:
        next: the position of the next text token, one past everything so far on any axis.
        first: time of the stream's first patch, in seconds.
        base: first position of the open vision span; None while no span is open.
        open: whether a video is open: its last patch was given, or its captions, and no other text since.
        began: time of the open span's first patch in seconds, later by the pauses that positions do not tell.
        origin, started: temporal position and time from which the open span counts: those of its first patch, or
            of the one that was the newest when positions were re-based.
        index: temporal patches in the open span since then.
        pace: how fast it counts, see `PositionRule.offset`.
        newest, latest: temporal position and time of the newest patch.
        step: the smallest advance seen between two patches of the span: how far apart neighbours are.
        patch: temporal patches of the whole stream so far.
        spans: vision spans opened so far.
    """

    next: int = 0
    first: float = 0.0
    base: int | None = None
    open: bool = False
    began: float = 0.0
    origin: int = 0
    started: float = 0.0
    index: int = 0
    pace: float = 1.0
    newest: int = 0
    latest: float = 0.0
    step: int = 0
    patch: int = 0
    spans: int = 0

    def after_text(self, tokens: int) -> "Cursor":
        """The cursor after `tokens` text tokens, which close an open video."""
        return replace(self, next=self.next + tokens, base=None, open=False)

    def after_caption(self, tokens: int) -> "Cursor":
        """The cursor after `tokens` tokens of text inside a video, which end a vision span if there are any."""
        return replace(self, next=self.next + tokens, base=None, open=True) if tokens else self

    def after_patch(self, grid: Grid, time: float, rule: PositionRule) -> "Cursor":
        """The cursor after one more temporal patch, in the open vision span or else in a new one."""
        if rule.flat:
            return self._after_flat(grid, time)
        if self.base is None:
            return self._opened(time).after_patch(grid, time, rule)
        offset = rule.offset(self.index, time - self.started, self.pace)
        advance = self.origin + offset - self.newest
        if self.pace < 1 and self.index:
            own = rule.offset(self.index, time - self.started)
            own -= rule.offset(self.index - 1, self.latest - self.started)
            advance = max(advance, min(rule.closest, own))
        skipped = max(0, advance - rule.longest_gap) if rule.longest_gap else 0
        advance -= skipped
        temporal = self.newest + advance
        return replace(
            self,
            began=self.began + rule.seconds(skipped, self.pace),
            origin=temporal - offset,
            open=True,
            next=max(self.next, temporal + 1, self.base + rule.extent(grid)),
            index=self.index + 1,
            newest=temporal,
            latest=time,
            step=min(filter(None, (self.step, advance)), default=0),
            patch=self.patch + 1,
        )

    def _after_flat(self, grid: Grid, time: float) -> "Cursor":
        """The cursor after a patch whose cells count on as text does."""
        return replace(
            self,
            next=self.next + grid.cells,
            open=True,
            first=self.first if self.patch else time,
            newest=self.next,
            latest=time,
            patch=self.patch + 1,
            spans=self.spans + 1,
        )

    def _opened(self, time: float) -> "Cursor":
        """The cursor at the beginning of a vision span, ahead of its first patch."""
        return replace(
            self,
            base=self.next,
            first=self.first if self.patch else time,
            began=time,
            origin=self.next,
            started=time,
            index=0,
            newest=self.next,
            latest=time,
            step=0,
            spans=self.spans + 1,
        )

    def past_patch(self, grid: Grid, time: float, rule: PositionRule, before: int, after: int) -> "Cursor":
        """The cursor after a temporal patch, with `before` and `after` tokens of captions, of which no token is given.

        Where patches have captions each is a span of its own: one without tokens leaves none open.
        """
        passed = self.after_caption(before).after_patch(grid, time, rule).after_caption(after)
        return replace(passed, base=None) if before or after else passed

    def after_rebase(self, before: int, within: int, rule: PositionRule, *, slow: bool = False) -> "Cursor":
        """The cursor after `before` positions were taken out ahead of the open span and `within` inside it.

        Args:
            slow: whether the span counts on as slowly as what it holds now does, and never faster than before.
        """
        gone = before + within
        cursor = replace(self, next=self.next - gone, origin=self.origin - gone, newest=self.newest - gone)
        if self.base is None:
            return cursor
        base = self.base - before
        cursor = replace(cursor, base=base)
        own = rule.offset(1, self.latest - self.began) if slow else 0
        told = max(1, cursor.newest - base)
        if told >= own * self.pace:
            return cursor
        return replace(cursor, origin=cursor.newest, started=self.latest, index=1, pace=told / own)


def text_positions(start: int, tokens: int) -> Tensor:
    """`[3, tokens]` int64: the same consecutive positions on all axes."""
    return torch.arange(start, start + tokens).expand(3, tokens)


def patch_positions(cursor: Cursor, grid: Grid, rule: PositionRule) -> Tensor:
    """`[3, P]` int64: positions of the newest patch before `cursor`, cell by cell, row after row."""
    if rule.flat:
        return text_positions(cursor.newest, grid.cells)
    assert cursor.base is not None, "no vision span is open"
    cells = torch.arange(grid.cells)
    row, column = cells // grid.columns, cells % grid.columns
    return torch.stack([torch.full_like(cells, cursor.newest), cursor.base + row, cursor.base + column])
