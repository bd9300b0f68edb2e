"""The bounded memory of one stream: what is held, where it came from, and the only ways in which it changes.

Slots lie in the order prompt, dialogue, video: text stands at the same slots for all heads, and the video, of which
every KV head keeps tokens of its own, behind it. The order of slots means nothing to attention; positions do.

All changes are made by `commit` and `rebase`. Each first computes what is to change and then applies it with interrupts
held, so that a memory is either before or after a change, never between. Knows nothing of models or frames.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

from infinipot.errors import PolicyError
from infinipot.memory.draft import Draft
from infinipot.memory.interrupts import interrupts_held
from infinipot.memory.positions import Cursor, PositionRule
from infinipot.memory.rebase import Gaps, close_gaps, find_gaps
from infinipot.memory.rotary import Rotary
from infinipot.memory.storage import BoundedCache, BoundedLayer, LayerShape, Slab, allocated_bytes
from infinipot.policies.base import Grid, Policy, VideoTokens


class Memory:
    """At most `cap` slots per layer and KV head, allocated once.

    Args:
        cap: |M|, the slots that are ever held.
        shapes: what each layer stores, and where.
        rotary: how keys are rotated.
        rule: how positions advance with the video.
        dialogue_limit: tokens that remembered turns may hold together.

    Attributes:
        cache: the transformers cache to run the model with, inside a `draft`.
        held: slots held, of which the first `text` are text: the prompt, then the remembered turns.
        turns: tokens of each remembered turn, oldest first.
        cursor: where the stream stands on the position axes.
        grids: the grids the video has had, the current one last.
        seen: tokens ever committed: what a cache without eviction would hold.
        compressions, rebases: how often either was done.
        bytes: what is allocated.
    """

    def __init__(
        self,
        cap: int,
        shapes: list[LayerShape],
        rotary: Rotary,
        rule: PositionRule,
        dialogue_limit: int = 0,
    ) -> None:
        self.cap = cap
        self.dialogue_limit = dialogue_limit
        self.cache = BoundedCache(cap, shapes)
        self.rule = rule
        self.held = 0
        self.text = 0
        self.turns: deque[int] = deque()
        self.cursor = Cursor()
        self.grids: tuple[Grid, ...] = ()
        self.seen = 0
        self.compressions = 0
        self.rebases = 0
        self.bytes = allocated_bytes(cap, shapes)
        self._rotary = {shape.device: rotary.to(shape.device) for shape in shapes}

    @property
    def video(self) -> int:
        """Video tokens held, per layer and KV head."""
        return self.held - self.text

    @property
    def dialogue(self) -> int:
        """Tokens of remembered turns held."""
        return sum(self.turns)

    @property
    def peak(self) -> int:
        """The most slots that were ever in use, drafts included."""
        return max(layer.peak for layer in self.cache.bounded)

    @property
    def filled(self) -> int:
        """Slots in use at this moment, those of an open draft included."""
        return max(layer.filled for layer in self.cache.bounded)

    def use_grid(self, rows: int, columns: int) -> Grid:
        """The grid of this size, from now on the current one; a size seen before gets its old cell numbers back."""
        known = next((grid for grid in self.grids if (grid.rows, grid.columns) == (rows, columns)), None)
        grid = known or Grid(rows, columns, sum(grid.cells for grid in self.grids))
        self.grids = (*(other for other in self.grids if other is not grid), grid)
        return grid

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """A draft on top of the memory. On the way out, what was not committed is forgotten."""
        self.cache.truncate(self.held)
        try:
            yield Draft(self.cursor, self.rule)
        finally:
            self.cache.truncate(self.held)

    def commit(
        self,
        draft: Draft,
        *,
        turn: bool = False,
        policy: Policy | None = None,
        keep: Callable[[int, int], int | None] = lambda text, video: None,
        on_applied: Callable[[], None] = lambda: None,
    ) -> None:
        """Makes the draft part of the memory and, where `keep` asks for it, evicts video tokens.

        Args:
            draft: what the model has just run over. Its text goes to the prompt, or to the newest turn if there is one.
            turn: whether the draft's text is a turn of the dialogue of its own.
            policy: chooses the video tokens that stay.
            keep: given the text and video tokens that there would be, |C|, the video tokens to leave; None for all.
            on_applied: called together with the change, where no interrupt comes between.
        """
        self._record_origin(draft)
        text, video = self._arrangement(draft)
        text, turns = self._drop_old_turns(text, self._turns_after(draft, turn))
        budget = keep(_length(text), _length(video))

        in_order = [*text, *video]
        stays = all(here.stop == behind.start for here, behind in pairwise([slice(0, 0), *in_order]))
        layers = range(0) if stays and budget is None else range(len(self.cache.bounded))
        indices = [self._rows_after(layer, text, video, draft.cursor, policy, budget) for layer in layers]
        with interrupts_held():
            for layer, rows in enumerate(indices):
                self.cache.rewrite(layer, rows)
            self.text = _length(text)
            self.held = self.text + (_length(video) if budget is None else budget)
            self.turns, self.cursor = turns, draft.cursor
            self.seen += draft.tokens
            self.compressions += budget is not None
            on_applied()

    def rebase(self, target: int, limit: int) -> int:
        """Takes positions out of the gaps that eviction left, so that the next one comes near `target`.

        Args:
            target: where the next position should be; it ends above it where the gaps do not give enough.
            limit: where it must be at the most. Only to meet it do neighbouring patches move closer than they were.

        Returns:
            By how much the next position fell.
        """
        for step, keep_extent in ((max(self.cursor.step, 1), True), (1, True), (1, False)):
            gaps = [self._gaps(layer, step, keep_extent) for layer in range(len(self.cache.bounded))]
            before, within = self._common_share(gaps, self.cursor.next - target)
            if self.cursor.next - before - within <= limit:
                break
        if not before + within:
            return 0
        moved = [close_gaps(layer_gaps, before, within) for layer_gaps in gaps]
        with interrupts_held():
            for layer, (temporal, base) in zip(self.cache.bounded, moved, strict=True):
                self._move(layer.slab, temporal.T, base.T)
            self.cursor = self.cursor.after_rebase(before, within)
            self.rebases += 1
        return before + within

    def video_tokens(self, layer: int, draft: Draft | None = None) -> VideoTokens:
        """The video tokens of one layer as a policy sees them, those of a draft behind the others."""
        return self._view(layer, self._arrangement(draft)[1], draft.cursor if draft else self.cursor)

    def _record_origin(self, draft: Draft) -> None:
        if not draft.tokens:
            return
        origin, time = draft.origin()
        rows = slice(self.held, self.held + draft.tokens)
        for device in self._rotary:
            there = origin.to(device).unsqueeze(1), time.to(device).unsqueeze(1)
            for layer in self.cache.bounded:
                if layer.shape.device == device:
                    layer.slab.origin[rows], layer.slab.time[rows] = there

    def _arrangement(self, draft: Draft | None) -> tuple[list[slice], list[slice]]:
        """The slots of text and those of video, each in order, draft included; neighbouring runs are one slice."""
        runs = [(self.text, True), (self.video, False), *(draft.runs if draft else ())]
        found: dict[bool, list[slice]] = {True: [], False: []}
        start = 0
        for tokens, is_text in runs:
            slices = found[is_text]
            if slices and slices[-1].stop == start:
                slices[-1] = slice(slices[-1].start, start + tokens)
            elif tokens:
                slices.append(slice(start, start + tokens))
            start += tokens
        return found[True], found[False]

    def _turns_after(self, draft: Draft, turn: bool) -> deque[int]:
        turns = self.turns.copy()
        # What an empty memory is given first is the prompt, which no turn takes along when it leaves.
        said = draft.runs if self.held else draft.runs[1:]
        added = sum(tokens for tokens, is_text in said if is_text)
        if turn:
            turns.append(added)
        elif turns:
            turns[-1] += added
        return turns

    def _drop_old_turns(self, text: list[slice], turns: deque[int]) -> tuple[list[slice], deque[int]]:
        """The text and turns that stay within the dialogue's limit: the oldest go first, the newest stays."""
        dropped = 0
        while len(turns) > 1 and sum(turns) > self.dialogue_limit:
            dropped += turns.popleft()
        if not dropped:
            return text, turns
        prompt = self.text - self.dialogue
        return [slice(0, prompt), slice(prompt + dropped, text[0].stop), *text[1:]], turns

    def _rows_after(
        self,
        layer: int,
        text: list[slice],
        video: list[slice],
        cursor: Cursor,
        policy: Policy | None,
        budget: int | None,
    ) -> Tensor:
        """`[slots, kv_heads]`: for one layer, the row (slot · kv_heads + head) that each slot is filled from."""
        shape = self.cache.bounded[layer].shape
        slots = _slots(video, shape.device)
        kept = slots.unsqueeze(1).expand(-1, shape.kv_heads)
        if policy is not None and budget is not None:
            chosen = policy.select(self._view(layer, video, cursor), budget)
            if chosen.shape != (shape.kv_heads, budget) or chosen.dtype != torch.int64:
                raise PolicyError(
                    f"policy {policy.name!r} returned {chosen.dtype} indices of shape {tuple(chosen.shape)}: "
                    f"int64 of shape {(shape.kv_heads, budget)} were asked for"
                )
            kept = slots[_ascending(chosen, len(slots))].T
        index = torch.cat([_slots(text, shape.device).unsqueeze(1).expand(-1, shape.kv_heads), kept])
        return index * shape.kv_heads + torch.arange(shape.kv_heads, device=shape.device)

    def _view(self, layer: int, video: list[slice], cursor: Cursor) -> VideoTokens:
        bounded = self.cache.bounded[layer]
        keys, values, origin, _ = (_take(part, video).transpose(0, 1) for part in bounded.slab.parts())

        def unrotate(order: Tensor | None = None) -> Tensor:
            return self._unrotated(bounded, video, order, across_spans=cursor.spans > 1)

        return VideoTokens(
            keys=keys,
            values=values,
            patch=origin[..., 0],
            cell=origin[..., 1],
            grids=self.grids,
            newest_patch=cursor.patch - 1,
            layer=layer,
            layers=len(self.cache.bounded),
            unrotate=unrotate,
        )

    def _unrotated(
        self, bounded: BoundedLayer, video: list[slice], order: Tensor | None, *, across_spans: bool
    ) -> Tensor:
        """Video keys `[kv_heads, n, head_dim]` float32 in some order, moved to temporal position 0.

        Within one span, tokens of a cell have the same row and column positions, so only time has to be undone.
        """
        shape = bounded.shape
        # A memory's video is one run of slots, but for the moment in which a draft puts text behind it.
        if order is None or len(video) > 1:
            slots = _slots(video, shape.device)
            slot = slots if order is None else slots[order]
        else:
            slot = order + video[0].start
        heads = torch.arange(shape.kv_heads, device=shape.device).unsqueeze(-1)
        rows = (slot * shape.kv_heads + heads).reshape(-1)
        keys = bounded.slab.keys.view(-1, shape.head_dim).index_select(0, rows).to(torch.float32)
        temporal, base = bounded.slab.origin.view(-1, 4)[:, 2:].index_select(0, rows).unbind(-1)
        turned = self._rotary[shape.device].unrotate_(keys, temporal, base if across_spans else None)
        return turned.view(shape.kv_heads, -1, shape.head_dim)

    def _gaps(self, layer: int, step: int, keep_extent: bool) -> Gaps:
        origin = self.cache.bounded[layer].slab.origin[: self.held].to(torch.int64).permute(2, 1, 0)
        _, cell, temporal, base = origin
        # One entry a cell number, and behind them all the zero that text, whose cell is -1, picks.
        by_number = sorted(self.grids, key=lambda grid: grid.first_cell)
        extents = [torch.full((grid.cells,), max(grid.rows, grid.columns) * keep_extent) for grid in by_number]
        extent = torch.cat([*extents, torch.zeros(1, dtype=torch.int64)]).to(cell.device)[cell]
        end, opened = self.cursor.next, self.cursor.base
        split = end if opened is None else opened
        return find_gaps(temporal, base, extent, cell >= 0, end=end, split=split, step=step)

    def _common_share(self, gaps: list[Gaps], need: int) -> tuple[int, int]:
        """Positions to take out ahead of the open span and inside it: `need` together, or what every head can give."""
        least = torch.stack([torch.stack([gap.before.sum(-1).min(), gap.within.sum(-1).min()]).cpu() for gap in gaps])
        before, within = least.amin(0).tolist()
        if self.cursor.base is not None:
            extent = max(max(grid.rows, grid.columns) for grid in self.grids)
            within = min(within, max(0, self.cursor.next - self.cursor.base - extent))
        wanted = min(max(need, 0), before + within)
        first = max(wanted * before // max(before + within, 1), wanted - within)
        return first, wanted - first

    def _move(self, slab: Slab, temporal: Tensor, base: Tensor) -> None:
        """Gives the held slots of one layer new positions, `[held, kv_heads]` each, and turns their keys to them."""
        keys, origin = slab.keys[: self.held], slab.origin[: self.held]
        wide = keys.to(torch.float32)  # the keys themselves, if that is what they are stored as
        keys.copy_(self._rotary[keys.device].move_(wide, (origin[..., 2], origin[..., 3]), (temporal, base)))
        origin[..., 2], origin[..., 3] = temporal, base


def _length(slices: list[slice]) -> int:
    return sum(part.stop - part.start for part in slices)


def _slots(slices: list[slice], device: torch.device) -> Tensor:
    runs = [torch.arange(part.start, part.stop, device=device) for part in slices]
    return torch.cat(runs) if runs else torch.zeros(0, dtype=torch.int64, device=device)


def _take(rows: Tensor, slices: list[slice]) -> Tensor:
    """The rows of these slices: a view where they are one run."""
    return rows[slices[0]] if len(slices) == 1 else torch.cat([rows[part] for part in slices])


def _ascending(chosen: Tensor, length: int) -> Tensor:
    """Rows of indices below `length`, put in order: by counting, which is faster than sorting."""
    heads, count = chosen.shape
    taken = torch.zeros(heads, length, dtype=torch.bool, device=chosen.device).scatter_(1, chosen, True)
    place = torch.where(taken, taken.cumsum(1) - 1, count)
    index = torch.arange(length, device=chosen.device).expand(heads, -1)
    return torch.zeros(heads, count + 1, dtype=torch.int64, device=chosen.device).scatter_(1, place, index)[:, :count]
