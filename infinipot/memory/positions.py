"""Which positions the next tokens get. Knows the rule that a family was trained with, not the model.

Text takes the next position on all three axes. A vision span starts one past everything before it; the cell (r, c) of a
temporal patch stands at (origin + offset of the patch, base + r, base + c); text after the span starts at
`max(all so far) + 1` (Qwen2-VL, arXiv 2409.12191, section 2.1; Qwen2.5-VL, arXiv 2502.13923, section 2.1.2). Captions,
i.e. text between the patches of a video, end a span without closing the video (Qwen3-VL, arXiv 2511.21631). A flat rule
has no rows and columns: cells take consecutive positions, as text does (LLaVA and most others).
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infinipot.tokens import Grid

MOST_POSITIONS = 1 << 30
"""The limit of positions, which are stored in 32 bits."""


@dataclass(frozen=True, slots=True)
class PositionRule:
    """The distance in position between the temporal patches of a span.

    Attributes:
        tokens_per_second: positions per second of video (Qwen2.5-VL), or None for one position per patch (Qwen2-VL).
        longest_gap: the most positions between consecutive patches, however long the source paused; None for no limit.
        flat: cells take consecutive positions, row after row, the same on all axes; the other attributes are unused.
    """

    tokens_per_second: float | None = None
    longest_gap: int | None = None
    flat: bool = False

    def offset(self, index: int, seconds: float, pace: float = 1.0) -> int:
        """The temporal offset of a patch that comes `index` patches and `seconds` after another one.

        Args:
            pace: how fast positions advance, as a share of the family's own pace.
        """
        if self.tokens_per_second is None:
            return index
        # Times are sums of frame periods, so an intended whole number may be off by a rounding error.
        return math.floor(self.tokens_per_second * seconds * pace + 1e-6)

    def seconds(self, positions: int, pace: float) -> float:
        """The time that corresponds to a number of positions."""
        return positions / (self.tokens_per_second * pace) if self.tokens_per_second else 0.0

    @property
    def closest(self) -> int:
        """The least distance of neighbouring patches at a slower pace: that of two frames per second."""
        return 1 if self.tokens_per_second is None else max(1, round(self.tokens_per_second))

    def extent(self, grid: Grid) -> int:
        """The positions that a patch takes on its longest axis."""
        return grid.cells if self.flat else max(grid.rows, grid.columns)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A stream's place on the position axes. Immutable: a transaction has a cursor of its own.

    Attributes:
        next: the position of the next text token, one past everything so far on any axis.
        first: the time of the stream's first patch, in seconds.
        base: the first position of the open vision span; None if no span is open.
        open: whether a video is open, i.e. no text but captions has come since its last patch.
        began: the time of the open span's first patch in seconds, plus the pauses that positions skip.
        origin, started: the temporal position and time that offsets in the open span count from: those of its first
            patch, or of the newest patch at the last re-basing.
        index: the number of temporal patches in the open span since then.
        pace: how fast positions advance, see `PositionRule.offset`.
        newest, latest: the temporal position and time of the newest patch.
        step: the smallest advance between two patches of the span: the distance of neighbours.
        patch: the number of temporal patches of the stream so far.
        spans: the number of vision spans opened so far.
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
        """The cursor after `tokens` tokens of captions, which end a vision span if there are any."""
        return replace(self, next=self.next + tokens, base=None, open=True) if tokens else self

    def after_patch(self, grid: Grid, time: float, rule: PositionRule) -> "Cursor":
        """The cursor after one more temporal patch, in the open vision span or in a new one."""
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
        """The cursor after a patch whose cells take consecutive positions."""
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
        """The cursor at the start of a new vision span, before its first patch."""
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
        """The cursor after a temporal patch of which no token is given, nor of its `before` and `after` caption tokens.

        In families with captions each patch is a span of its own, so that no span is open after it.
        """
        passed = self.after_caption(before).after_patch(grid, time, rule).after_caption(after)
        return replace(passed, base=None) if before or after else passed

    def after_rebase(self, before: int, within: int, rule: PositionRule, *, slow: bool = False) -> "Cursor":
        """The cursor after `before` positions were removed ahead of the open span and `within` inside it.

        Args:
            slow: whether the span continues at the pace of what it holds now, if that is slower than before.
        """
        removed = before + within
        cursor = replace(self, next=self.next - removed, origin=self.origin - removed, newest=self.newest - removed)
        if self.base is None:
            return cursor
        base = self.base - before
        cursor = replace(cursor, base=base)
        own = rule.offset(1, self.latest - self.began) if slow else 0
        advanced = max(1, cursor.newest - base)
        if advanced >= own * self.pace:
            return cursor
        return replace(cursor, origin=cursor.newest, started=self.latest, index=1, pace=advanced / own)


def text_positions(start: int, tokens: int) -> Tensor:
    """Consecutive positions, the same on all axes: `[3, tokens]` int64."""
    return torch.arange(start, start + tokens).expand(3, tokens)


def patch_positions(cursor: Cursor, grid: Grid, rule: PositionRule) -> Tensor:
    """The positions of the newest patch before `cursor`, cell by cell, row after row: `[3, P]` int64."""
    if rule.flat:
        return text_positions(cursor.newest, grid.cells)
    assert cursor.base is not None, "no vision span is open"
    cells = torch.arange(grid.cells)
    row, column = cells // grid.columns, cells % grid.columns
    return torch.stack([torch.full_like(cells, cursor.newest), cursor.base + row, cursor.base + column])
