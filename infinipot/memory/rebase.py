"""Re-basing: removes temporal positions that eviction left empty, so that an endless stream stays in range.

Pure functions over the slots of some rows. Each row keeps tokens of its own, so it has gaps of its own. All rows give
up the same total, so that the newest patch and the next question have the same position in all of them. Within a row
the order stays, and the remaining distances are proportional to the time between tokens: a position tells how long ago
something was, however often positions were re-based. No gap grows. Keys are stored without rotation, so only columns of
positions change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from infinipot.memory.held import Held
from infinipot.memory.positions import Cursor, PositionRule
from infinipot.memory.storage import Rows
from infinipot.memory.tensor_parallel import TensorParallelGroup
from infinipot.memory.transaction import NOWHERE
from infinipot.tokens import Grid, cell_limit

_NO_TIME = 1e-3  # the seconds that a gap without any time counts as, so that it is the first to be removed


@dataclass(frozen=True, slots=True)
class Gaps:
    """The slots of each row in order of position, and the removable positions in the gaps between them.

    There is a gap ahead of each slot, and one after the last.

    Attributes:
        order: `[rows, n]`, slot numbers.
        temporal, base: `[rows, n]`, positions of those slots, in that order.
        spatial: `[rows, n]` bool, whether the slot has rows and columns of its own.
        before: `[rows, n + 1]`, the removable positions of each gap ahead of the open vision span.
        within: `[rows, n + 1]`, those of each gap inside the open vision span.
        least: `[rows, n + 1]`, the least distance between the two ends of each gap.
        waits: `[rows, n + 1]`, the seconds that passed in each gap.
        flat: see `find_gaps`.
    """

    order: Tensor
    temporal: Tensor
    base: Tensor
    spatial: Tensor
    before: Tensor
    within: Tensor
    least: Tensor
    waits: Tensor
    flat: bool = False


def find_gaps(
    temporal: Tensor,
    base: Tensor,
    extent: Tensor,
    spatial: Tensor,
    time: Tensor,
    *,
    end: int,
    now: float,
    split: int,
    step: int,
    flat: bool = False,
) -> Gaps:
    """Finds the positions that can be removed without changing order or layout.

    Neighbours stay `step` apart. In a vision span that is followed by text, the first `extent` positions stay too,
    since its rows and columns are there; in the open span the caller leaves as many.

    Args:
        temporal, base: `[rows, n]` int64, positions of each slot; equal for text.
        extent: `[rows, n]` int64, the positions that stay after a base: max(rows, columns) of a video token's grid; 0
            for text.
        spatial: `[rows, n]` bool, whether a slot has rows and columns: false for text.
        time: `[rows, n]`, seconds of video time.
        end: the next position of the stream.
        now: the time of the newest patch.
        split: the first position of the open vision span; `end` if none is open.
        step: the distance of neighbouring patches, at least 1.
        flat: whether cells take consecutive positions, see `PositionRule`: then a patch moves as a whole.
    """
    temporal, order = temporal.sort(dim=-1, stable=True)
    base, extent, spatial, time = (part.gather(-1, order) for part in (base, extent, spatial, time))
    waits = time.diff(prepend=time[:, :1], append=torch.full_like(time[:, :1], now)).clamp_min(0)

    edge = temporal.new_full((temporal.shape[0], 1), -1)
    here, ahead = torch.cat([edge, temporal], -1), torch.cat([temporal, torch.full_like(edge, end)], -1)
    layout = torch.where((extent > 0) & (base < split), base + extent, -1)
    # A span may have had several grids, and the largest need not be the last: carry the extent of earlier ones.
    own = torch.cat([edge, layout.cummax(-1).values], -1)
    opened = torch.cat([layout.where(base > here[:, :-1], -1), edge], -1)
    inside = ahead > split
    if flat:  # the gap ahead of a patch ends at its base, whichever of its cells are held
        first = torch.cat([(extent > 0) & (base > here[:, :-1]), torch.zeros_like(edge, dtype=torch.bool)], -1)
        ahead, opened = torch.where(first, torch.cat([base, edge], -1), ahead), edge
    floor = torch.maximum(here + step, torch.maximum(own, opened))
    removable = (ahead - floor).clamp_min(0)
    return Gaps(order, temporal, base, spatial, removable * ~inside, removable * inside, floor - here, waits, flat)


def close_gaps(gaps: Gaps, before: int, within: int) -> tuple[Tensor, Tensor]:
    """The positions after `before` and `within` positions were removed, in the order of the slots.

    Returns:
        Temporal and base positions, `[rows, n]` each.
    """
    removed = _removed(gaps.before, gaps, before) + _removed(gaps.within, gaps, within)
    temporal = gaps.temporal - removed
    # A span's base is in the gap ahead of its first patch, and the removable part starts after the base's extent: the
    # base moves with the last slot before it. The base of a flat patch moves with the first of its cells.
    at = torch.searchsorted(gaps.temporal.contiguous(), gaps.base.contiguous()) - (0 if gaps.flat else 1)
    shift = removed.gather(-1, at.clamp_min(0)) * (at >= 0)
    base = torch.where(gaps.spatial, gaps.base - shift, temporal)
    back = gaps.order.argsort(dim=-1)
    return temporal.gather(-1, back), base.gather(-1, back)


def _removed(removable: Tensor, gaps: Gaps, amount: int) -> Tensor:
    """How many of `amount` positions are removed ahead of each slot, `[rows, n]`.

    A gap with removable positions keeps λ · wait, at least its minimum and at most its present size, with one λ
    (positions per second) for all such gaps of a row. The total that remains is piecewise linear in λ, with a kink
    where a gap leaves its minimum or reaches its present size.

    Args:
        removable: `[rows, n + 1]`, the removable positions of each gap, of which `amount` are removed in all.
    """
    if not amount:
        return torch.zeros_like(gaps.temporal)
    gives = removable > 0
    low, wait = (gaps.least * gives).to(gaps.waits.dtype), gaps.waits.clamp_min(_NO_TIME) * gives
    high = low + removable
    turns, order = torch.cat([low, high], -1).div(torch.cat([wait, wait], -1).clamp_min(_NO_TIME)).sort(dim=-1)
    slope = torch.cat([wait, -wait], -1).gather(-1, order).cumsum(-1)
    grown = (slope[:, :-1] * turns.diff(dim=-1)).cumsum(-1)
    stay = pad(grown, (1, 0)) + low.sum(-1, keepdim=True)
    target = high.sum(-1, keepdim=True) - amount
    below = torch.searchsorted(stay, target, right=True).sub_(1).clamp_(0)
    start, rise, reached = (part.gather(-1, below) for part in (turns, slope, stay))
    level = start + (target - reached) / rise.clamp_min(_NO_TIME)
    remaining = torch.minimum(torch.maximum(level * wait, low), high).cumsum(-1)
    # All halves are rounded up, so that whole distances between two of them stay whole.
    remaining = (remaining + (0.5 + 1e-6)).floor()
    return (high.cumsum(-1) - remaining).to(removable.dtype)[:, :-1]


def plan_rebase(
    held: Held,
    groups: Sequence[Rows],
    grids: Sequence[Grid],
    rule: PositionRule,
    tp_group: TensorParallelGroup,
    target: int,
    limit: int,
    slow: bool,
) -> tuple[Cursor, list[dict[str, Tensor]]] | None:
    """The cursor and the columns of positions after re-basing; see `Memory.rebase`.

    Returns:
        None if there is nothing to remove.
    """
    cursor, usual = held.cursor, max(held.cursor.step, 1)
    need = max(cursor.next - target, 0)
    for step, keep_extent in ((min(usual, rule.closest) if slow else usual, True), (1, True), (1, False)):
        gaps = [_gaps_of(group, held, grids, rule, step, keep_extent) for group in groups]
        before = _by_time(held, need)
        within = need - before
        sure = certain_room(held, grids, rule, step)
        if before > sure[0] or within > sure[1]:
            room = least_room(gaps, cursor, grids, rule, tp_group)
            wanted = min(need, sum(room))
            before = min(max(_by_time(held, wanted), wanted - room[1]), room[0])
            within = wanted - before
        if cursor.next - before - within <= limit:
            break
    if not before + within:
        return None
    columns = [_rebased(group, held, gap, before, within) for group, gap in zip(groups, gaps, strict=True)]
    return cursor.after_rebase(before, within, rule, slow=slow), columns


def _gaps_of(group: Rows, held: Held, grids: Sequence[Grid], rule: PositionRule, step: int, keep_extent: bool) -> Gaps:
    def column(name: str) -> Tensor:
        return group.columns[name][:, : held.tokens]

    cell = column("cell").long().clamp_min(NOWHERE)
    # One entry per cell number, and a last one, 0, which text picks, since its cell is below 0.
    extent_and_row = torch.zeros(2, cell_limit(grids) + 1, dtype=torch.int64)
    for grid in grids:
        own = extent_and_row[:, grid.first_cell :][:, : grid.cells]
        own[0], own[1] = rule.extent(grid) * keep_extent, torch.arange(grid.cells) // grid.columns
    extent, row = (each[cell] for each in extent_and_row.to(cell.device, non_blocking=True))
    cursor = held.cursor
    return find_gaps(
        column("temporal").long(),
        column("base").long() if rule.flat else column("height").long() - row,
        extent,
        cell >= 0,
        column("time"),
        end=cursor.next,
        now=cursor.latest,
        split=cursor.next if cursor.base is None else cursor.base,
        step=step,
        flat=rule.flat,
    )


def _by_time(held: Held, wanted: int) -> int:
    """How many of the `wanted` positions to remove ahead of the open span, so that the whole stream has one pace."""
    cursor = held.cursor
    if cursor.base is None:
        return wanted
    end, most = cursor.next - wanted, cursor.base - held.text  # positions of text stay
    earlier = (cursor.began - cursor.first) / max(cursor.latest - cursor.first, 1e-9)
    return min(max(cursor.base - round(end * min(max(earlier, 0.0), 1.0)), 0), wanted, most)


def certain_room(held: Held, grids: Sequence[Grid], rule: PositionRule, step: int) -> tuple[int, int]:
    """Positions that every row can certainly give up, ahead of the open span and inside it, without reading tensors.

    Most streams have far more positions than held tokens. Then the exact number, for which a GPU would have to be
    waited for, is not needed. A row holds at most as many patches as cells. Each patch keeps its step, and each span
    its layout, since it follows text, which is held as long as no turn has left. If captions end spans, or patches are
    flat, nothing is certain.
    """
    cursor = held.cursor
    if rule.flat or held.captions or held.turns_gone or not held.cell_tokens:
        return 0, 0
    patches, extent = min(held.cell_tokens, cursor.patch), max(rule.extent(grid) for grid in grids)
    split = cursor.next if cursor.base is None else cursor.base
    before = split - step * (held.text + patches + 1) - cursor.spans * (extent + step)
    within = 0 if cursor.base is None else cursor.next - split - max(step * (patches + 1), extent)
    return max(0, before), max(0, within)


def least_room(
    gaps: Sequence[Gaps], cursor: Cursor, grids: Sequence[Grid], rule: PositionRule, tp_group: TensorParallelGroup
) -> tuple[int, int]:
    """Positions that every row can give up, ahead of the open span and inside it. Waits for the device."""
    least = torch.stack([torch.stack([gap.before.sum(-1).min(), gap.within.sum(-1).min()]).cpu() for gap in gaps])
    before, within = tp_group.gather(least.amin(0)).amin(0).tolist()
    if cursor.base is not None:
        within = min(within, max(0, cursor.next - cursor.base - max(rule.extent(grid) for grid in grids)))
    return before, within


def _rebased(group: Rows, held: Held, gaps: Gaps, before: int, within: int) -> dict[str, Tensor]:
    """The columns of positions of some rows after gaps were closed."""
    temporal, base = close_gaps(gaps, before, within)
    columns = {"temporal": temporal, "base": base}
    if not gaps.flat:
        fallen = gaps.base.gather(-1, gaps.order.argsort(dim=-1)) - columns.pop("base")
        columns |= {axis: group.columns[axis][:, : held.tokens] - fallen for axis in ("height", "width")}
    return {name: content.to(group.columns[name].dtype) for name, content in columns.items()}
