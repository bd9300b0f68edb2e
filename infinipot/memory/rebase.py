"""Re-basing: taking out temporal positions that eviction left empty, so that an endless stream stays in range.

Pure functions over the slots of some rows, each of which keeps tokens of its own and so has gaps of its own. All rows
give up the same total, so that the newest patch and the next question stand at one position for all of them. Within a
row, distances are left in proportion to the time that passed between tokens: order stays, and a position tells how long
ago something was, however often positions were re-based. No gap grows. Keys are stored without rotation, so nothing but
columns of positions changes.
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

_NO_TIME = 1e-3  # seconds that a gap counts for in which no time passed, so that it is the last to stay


@dataclass(frozen=True, slots=True)
class Gaps:
    """The slots of each row in order of position, and the positions between them that may be taken out.

    Attributes:
        order: `[rows, n]`, slot numbers.
        temporal, base: `[rows, n]`, positions of those slots, in that order.
        spatial: `[rows, n]` bool, whether the slot has rows and columns of its own.
        before: `[rows, n + 1]`, removable positions ahead of the open vision span: ahead of each slot, and last
            those after all of them.
        within: `[rows, n + 1]`, likewise inside the open vision span.
        least: `[rows, n + 1]`, how far apart its two ends must stay.
        waits: `[rows, n + 1]`, seconds that passed in each gap.
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
    """Where positions can be taken out without touching order or layout.

    Neighbours stay `step` apart. In a vision span that text follows, the first `extent` positions stay too, since its
    rows and columns stand there; of the open span the caller leaves as much.

    Args:
        temporal, base: `[rows, n]` int64, positions of each slot; equal for text.
        extent: `[rows, n]` int64, positions that stay after a base: max(rows, columns) of a video token's grid;
            0 for text.
        spatial: `[rows, n]` bool, whether a slot has rows and columns: false for text.
        time: `[rows, n]`, seconds of video time.
        end: the next position of the stream.
        now: time of the newest patch.
        split: first position of the open vision span; `end` if none is open.
        step: how far apart neighbouring patches are, at least 1.
        flat: cells stand one after the other, see `PositionRule`: a patch with an extent moves as a whole.
    """
    temporal, order = temporal.sort(dim=-1, stable=True)
    base, extent, spatial, time = (part.gather(-1, order) for part in (base, extent, spatial, time))
    waits = time.diff(prepend=time[:, :1], append=torch.full_like(time[:, :1], now)).clamp_min(0)

    edge = temporal.new_full((temporal.shape[0], 1), -1)
    here, ahead = torch.cat([edge, temporal], -1), torch.cat([temporal, torch.full_like(edge, end)], -1)
    layout = torch.where((extent > 0) & (base < split), base + extent, -1)
    # A span may have had several grids, of which the largest need not be the last: carry what earlier ones take.
    own = torch.cat([edge, layout.cummax(-1).values], -1)
    opened = torch.cat([layout.where(base > here[:, :-1], -1), edge], -1)
    inside = ahead > split
    if flat:  # what may go ahead of a patch ends at its base, whichever of its cells are held
        first = torch.cat([(extent > 0) & (base > here[:, :-1]), torch.zeros_like(edge, dtype=torch.bool)], -1)
        ahead, opened = torch.where(first, torch.cat([base, edge], -1), ahead), edge
    floor = torch.maximum(here + step, torch.maximum(own, opened))
    removable = (ahead - floor).clamp_min(0)
    return Gaps(order, temporal, base, spatial, removable * ~inside, removable * inside, floor - here, waits, flat)


def close_gaps(gaps: Gaps, before: int, within: int) -> tuple[Tensor, Tensor]:
    """Positions after `before` and `within` positions were taken out, in the slots' own order.

    Returns:
        temporal and base, `[rows, n]` each.
    """
    removed = _taken(gaps.before, gaps, before) + _taken(gaps.within, gaps, within)
    temporal = gaps.temporal - removed
    # A span's base lies in the gap ahead of its first patch, whose removable part starts after the base's extent:
    # it moves with the last slot that stands before it. The base of a flat patch moves with the first of its cells.
    at = torch.searchsorted(gaps.temporal.contiguous(), gaps.base.contiguous()) - (0 if gaps.flat else 1)
    moved = removed.gather(-1, at.clamp_min(0)) * (at >= 0)
    base = torch.where(gaps.spatial, gaps.base - moved, temporal)
    back = gaps.order.argsort(dim=-1)
    return temporal.gather(-1, back), base.gather(-1, back)


def _taken(removable: Tensor, gaps: Gaps, amount: int) -> Tensor:
    """`[rows, n]`: how much of `amount` is taken out ahead of each slot.

    Of a gap that can give, λ · wait stays, but no less than its least and no more than there was, with one λ for these
    gaps of a head: positions a second. What stays in all grows with λ in straight lines between the values at which a
    gap comes off its least or is whole again.

    Args:
        removable: `[rows, n + 1]`, those positions of the gaps of which `amount` are to go.
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
    left = torch.minimum(torch.maximum(level * wait, low), high).cumsum(-1)
    # Halves all go up, so that what is whole between two of them stays so.
    left = (left + (0.5 + 1e-6)).floor()
    return (high.cumsum(-1) - left).to(removable.dtype)[:, :-1]


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
    """Where the stream stands when it is re-based, and the columns of positions then; see `Memory.rebase`.

    Returns:
        None where there is nothing to take out.
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
    columns = [_moved(group, held, gap, before, within) for group, gap in zip(groups, gaps, strict=True)]
    return cursor.after_rebase(before, within, rule, slow=slow), columns


def _gaps_of(group: Rows, held: Held, grids: Sequence[Grid], rule: PositionRule, step: int, keep_extent: bool) -> Gaps:
    def column(name: str) -> Tensor:
        return group.columns[name][:, : held.tokens]

    cell = column("cell").long().clamp_min(NOWHERE)
    # One entry a cell number, and after them all the zero that text, whose cell is below 0, picks.
    told = torch.zeros(2, cell_limit(grids) + 1, dtype=torch.int64)
    for grid in grids:
        own = told[:, grid.first_cell :][:, : grid.cells]
        own[0], own[1] = rule.extent(grid) * keep_extent, torch.arange(grid.cells) // grid.columns
    extent, row = (each[cell] for each in told.to(cell.device, non_blocking=True))
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
    """How many of the positions to take out lie ahead of the open span: one rate holds for the whole stream."""
    cursor = held.cursor
    if cursor.base is None:
        return wanted
    left, most = cursor.next - wanted, cursor.base - held.text  # text has positions that stay
    earlier = (cursor.began - cursor.first) / max(cursor.latest - cursor.first, 1e-9)
    return min(max(cursor.base - round(left * min(max(earlier, 0.0), 1.0)), 0), wanted, most)


def certain_room(held: Held, grids: Sequence[Grid], rule: PositionRule, step: int) -> tuple[int, int]:
    """Positions that every row can surely give, ahead of the open span and inside it, by numbers alone.

    A stream has mostly far more positions than its memory has tokens: then it need not be looked up, which a GPU would
    be waited for, how many there are exactly. A row holds patches of its own, of which no more are known than that they
    are as many as its cells at the most. Each keeps its step, and each span after the text ahead of it, which is held
    as long as no turn has left, its layout. Where captions end spans, or patches are flat, nothing is certain.
    """
    cursor = held.cursor
    if rule.flat or held.captions or held.turns_gone or not held.cells:
        return 0, 0
    patches, extent = min(held.cells, cursor.patch), max(rule.extent(grid) for grid in grids)
    split = cursor.next if cursor.base is None else cursor.base
    before = split - step * (held.text + patches + 1) - cursor.spans * (extent + step)
    within = 0 if cursor.base is None else cursor.next - split - max(step * (patches + 1), extent)
    return max(0, before), max(0, within)


def least_room(
    gaps: Sequence[Gaps], cursor: Cursor, grids: Sequence[Grid], rule: PositionRule, tp_group: TensorParallelGroup
) -> tuple[int, int]:
    """Positions that every row can give, ahead of the open span and inside it. Waits for the device."""
    least = torch.stack([torch.stack([gap.before.sum(-1).min(), gap.within.sum(-1).min()]).cpu() for gap in gaps])
    before, within = tp_group.gather(least.amin(0)).amin(0).tolist()
    if cursor.base is not None:
        within = min(within, max(0, cursor.next - cursor.base - max(rule.extent(grid) for grid in grids)))
    return before, within


def _moved(group: Rows, held: Held, gaps: Gaps, before: int, within: int) -> dict[str, Tensor]:
    """The columns of positions of some rows as they are when gaps were closed."""
    temporal, base = close_gaps(gaps, before, within)
    moved = {"temporal": temporal, "base": base}
    if not gaps.flat:
        fallen = gaps.base.gather(-1, gaps.order.argsort(dim=-1)) - moved.pop("base")
        moved |= {axis: group.columns[axis][:, : held.tokens] - fallen for axis in ("height", "width")}
    return {name: content.to(group.columns[name].dtype) for name, content in moved.items()}
