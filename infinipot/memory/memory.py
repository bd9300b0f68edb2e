"""The bounded memory of one stream: what is held, where it came from, and the only ways in which it changes.

Text of the conversation lies at the first slots, the same for all heads: the prompt, then the dialogue. Behind it lies
the video: its cells, of which every KV head keeps tokens of its own, and, in families that have them, the captions of
its temporal patches, the same for all heads again. The order of slots means nothing to attention; positions do.

All changes are made by `commit` and `rebase`. Each first computes what is to change and then applies it with interrupts
held, so that a memory is either before or after a change, never between. Knows nothing of models or frames.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

from infinipot.memory.draft import Draft, Kind, Run
from infinipot.memory.eviction import Kept, evict
from infinipot.memory.interrupts import interrupts_held
from infinipot.memory.positions import Cursor, PositionRule
from infinipot.memory.ranks import ALONE, Ranks
from infinipot.memory.rebase import Gaps, close_gaps, find_gaps
from infinipot.memory.rotary import Rotary
from infinipot.memory.storage import BoundedCache, LayerShape, Slab, StateShape, allocated_bytes
from infinipot.memory.view import Viewer, slot_numbers
from infinipot.policies.base import Grid, Policy, VideoTokens


class Memory:
    """At most `cap` slots per layer and KV head, allocated once.

    Args:
        cap: |M|, the slots that are ever held.
        shapes: what each layer of the model stores, and where.
        rotary: how keys are rotated.
        rule: how positions advance with the video.
        dialogue_limit: tokens that remembered turns may hold together.
        ranks: the processes that share the KV heads; `shapes` are this one's part.

    Attributes:
        cache: the transformers cache to run the model with, inside a `draft`.
        runs: what lies in the slots that are held, in order.
        captions: for each caption token held, in order of slots, the temporal patch that it belongs to.
        turns: tokens of each remembered turn, oldest first.
        cursor: where the stream stands on the position axes.
        grids: the grids the video has had, the current one last.
        seen: tokens ever committed: what a cache without eviction would hold.
        compressions, rebases: how often either was done.
        noted: the newest temporal patch of which a policy has noted something, -1 before the first.
        bytes: what is allocated.
    """

    def __init__(
        self,
        cap: int,
        shapes: Sequence[LayerShape | StateShape],
        rotary: Rotary,
        rule: PositionRule,
        dialogue_limit: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        self.cap = cap
        self.dialogue_limit = dialogue_limit
        self.cache = BoundedCache(cap, shapes)
        self.rule = rule
        self.runs: tuple[Run, ...] = ()
        self.captions: tuple[int, ...] = ()
        self.turns: deque[int] = deque()
        self.cursor = Cursor()
        self.grids: tuple[Grid, ...] = ()
        self.seen = 0
        self.compressions = 0
        self.noted = -1
        self.rebases = 0
        self.bytes = allocated_bytes(cap, shapes)
        self._ranks = ranks
        self._rotary = {layer.shape.device: rotary.to(layer.shape.device) for layer in self.cache.bounded}

    @property
    def held(self) -> int:
        """Slots held."""
        return sum(tokens for tokens, _ in self.runs)

    @property
    def text(self) -> int:
        """Tokens held of the prompt and the remembered turns; they are the first slots."""
        return sum(tokens for tokens, kind in self.runs if kind is Kind.TEXT)

    @property
    def video(self) -> int:
        """Tokens of the video held, per layer and KV head: cells, and captions if there are any."""
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
        self.cache.roll_back(self.held)
        try:
            yield Draft(self.cursor, self.rule)
        finally:
            self.cache.roll_back(self.held)

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
        runs = _joined([*self.runs, *draft.runs])
        text, turns = self._drop_old_turns(_slices(runs, Kind.TEXT), self._turns_after(draft, turn))
        video, captions = _slices(runs, Kind.CAPTION, Kind.CELL), (*self.captions, *draft.captions)
        budget = keep(_length(text), _length(video))

        stays = all(here.stop == behind.start for here, behind in pairwise([slice(0, 0), *text]))
        indices: list[Tensor] = []
        notes: Sequence[Tensor] = ()
        if policy is not None and budget is not None:
            kept = evict(policy, self._viewer(_slices(runs, Kind.CELL), draft.cursor), captions, budget)
            indices, notes = self._rows_of(text, runs, captions, kept), kept.notes
            captions = tuple(patch for patch in captions if patch in kept.patches)
            runs = _joined([(_length(text), Kind.TEXT), (len(captions), Kind.CAPTION), (kept.count, Kind.CELL)])
        elif not stays:
            indices = [self._rows(layer, [*text, *video]) for layer in range(len(self.cache.bounded))]
            runs = _joined([(_length(text), Kind.TEXT), *(run for run in runs if run[1] is not Kind.TEXT)])
        with interrupts_held():
            for layer, rows in enumerate(indices):
                self.cache.rewrite(layer, rows)
            for layer, noted in enumerate(notes):
                self.cache.bounded[layer].write_notes(noted)
            self.cache.commit()
            self.runs, self.captions = tuple(runs), captions
            self.turns, self.cursor = turns, draft.cursor
            self.seen += draft.tokens
            self.compressions += budget is not None
            if notes:
                self.noted = self.cursor.patch - 1
            on_applied()

    def rebase(self, target: int, limit: int, *, slow: bool = False) -> int:
        """Takes positions out of the gaps that eviction left, so that the next one comes near `target`.

        Args:
            target: where the next position should be; it ends above it where the gaps do not give enough.
            limit: where it must be at the most. To meet it neighbouring patches move as close as they can.
            slow: whether they may move as close as `PositionRule.closest` before that, and a video of which patches are
                further apart than this counts on as slowly as what is held does now: so positions go on telling time.

        Returns:
            By how much the next position fell.
        """
        usual = max(self.cursor.step, 1)
        for step, keep_extent in ((min(usual, self.rule.closest) if slow else usual, True), (1, True), (1, False)):
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
            self.cursor = self.cursor.after_rebase(before, within, self.rule, slow=slow)
            self.rebases += 1
        return before + within

    def video_tokens(self, layer: int, draft: Draft | None = None) -> VideoTokens:
        """The cells of one layer as a policy sees them, those of a draft behind the others."""
        runs, cursor = (draft.runs, draft.cursor) if draft else ([], self.cursor)
        return self._viewer(_slices(_joined([*self.runs, *runs]), Kind.CELL), cursor).tokens(layer)

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

    def _turns_after(self, draft: Draft, turn: bool) -> deque[int]:
        turns = self.turns.copy()
        # What an empty memory is given first is the prompt, which no turn takes along when it leaves.
        said = draft.runs if self.held else draft.runs[1:]
        added = sum(tokens for tokens, kind in said if kind is Kind.TEXT)
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

    def _viewer(self, cells: list[slice], cursor: Cursor) -> Viewer:
        newest, across = cursor.patch - 1, cursor.spans > 1
        return Viewer(self.cache.bounded, self._rotary, cells, self.grids, newest, across, self.noted, self._ranks)

    def _rows_of(self, text: list[slice], runs: Sequence[Run], captions: Sequence[int], kept: Kept) -> list[Tensor]:
        """For each layer the rows of what stays: text, captions, and each head's cells. See `_rows`."""
        stays = torch.tensor([patch in kept.patches for patch in captions], dtype=torch.bool)
        cpu = torch.device("cpu")
        common = torch.cat([slot_numbers(text, cpu), slot_numbers(_slices(runs, Kind.CAPTION), cpu)[stays]])
        cells = _slices(runs, Kind.CELL)
        rows = []
        for bounded, chosen in zip(self.cache.bounded, kept.cells, strict=True):
            heads, device = torch.arange(bounded.shape.kv_heads, device=bounded.shape.device), bounded.shape.device
            own = slot_numbers(cells, device)[chosen].T
            slots = torch.cat([common.to(device).unsqueeze(1).expand(-1, len(heads)), own])
            rows.append(slots * len(heads) + heads)
        return rows

    def _rows(self, layer: int, slots: list[slice]) -> Tensor:
        """`[slots, kv_heads]`: for one layer, the row (slot · kv_heads + head) that each slot is filled from."""
        shape = self.cache.bounded[layer].shape
        heads = torch.arange(shape.kv_heads, device=shape.device)
        return slot_numbers(slots, shape.device).unsqueeze(1) * shape.kv_heads + heads

    def _gaps(self, layer: int, step: int, keep_extent: bool) -> Gaps:
        origin = self.cache.bounded[layer].slab.origin[: self.held].to(torch.int64).permute(2, 1, 0)
        _, cell, temporal, base = origin
        # One entry a cell number, and behind them all the zero that text, whose cell is -1, picks.
        by_number = sorted(self.grids, key=lambda grid: grid.first_cell)
        extents = [torch.full((grid.cells,), self.rule.extent(grid) * keep_extent) for grid in by_number]
        extent = torch.cat([*extents, torch.zeros(1, dtype=torch.int64)]).to(cell.device)[cell]
        end, opened = self.cursor.next, self.cursor.base
        split = end if opened is None else opened
        flat = self.rule.flat
        time, now = self.cache.bounded[layer].slab.time[: self.held].T, self.cursor.latest
        return find_gaps(temporal, base, extent, cell >= 0, time, end=end, now=now, split=split, step=step, flat=flat)

    def _common_share(self, gaps: list[Gaps], need: int) -> tuple[int, int]:
        """Positions to take out ahead of the open span and inside it: `need` together, or what every head can give."""
        least = torch.stack([torch.stack([gap.before.sum(-1).min(), gap.within.sum(-1).min()]).cpu() for gap in gaps])
        before, within = self._ranks.gather(least.amin(0)).amin(0).tolist()
        if self.cursor.base is not None:
            extent = max(self.rule.extent(grid) for grid in self.grids)
            within = min(within, max(0, self.cursor.next - self.cursor.base - extent))
        wanted = min(max(need, 0), before + within)
        if self.cursor.base is None:
            return wanted, 0
        # What is left is shared out by time, so that one rate holds for the whole stream.
        cursor, left = self.cursor, self.cursor.next - wanted
        earlier = (cursor.began - cursor.first) / max(cursor.latest - cursor.first, 1e-9)
        first = cursor.base - round(left * min(max(earlier, 0.0), 1.0))
        first = min(max(first, wanted - within, 0), before, wanted)
        return first, wanted - first

    def _move(self, slab: Slab, temporal: Tensor, base: Tensor) -> None:
        """Gives the held slots of one layer new positions, `[held, kv_heads]` each, and turns their keys to them."""
        keys, origin = slab.keys[: self.held], slab.origin[: self.held]
        wide = keys.to(torch.float32)  # the keys themselves, if that is what they are stored as
        keys.copy_(self._rotary[keys.device].move_(wide, (origin[..., 2], origin[..., 3]), (temporal, base)))
        origin[..., 2], origin[..., 3] = temporal, base


def _joined(runs: Sequence[Run]) -> list[Run]:
    """The same runs, those of one kind in a row taken together, and none of them empty."""
    joined: list[Run] = []
    for tokens, kind in runs:
        if joined and joined[-1][1] is kind:
            joined[-1] = joined[-1][0] + tokens, kind
        elif tokens:
            joined.append((tokens, kind))
    return joined


def _slices(runs: Sequence[Run], *kinds: Kind) -> list[slice]:
    """The slots of tokens of these kinds, in order; neighbouring runs are one slice."""
    found: list[slice] = []
    start = 0
    for tokens, kind in runs:
        if kind in kinds and found and found[-1].stop == start:
            found[-1] = slice(found[-1].start, start + tokens)
        elif kind in kinds:
            found.append(slice(start, start + tokens))
        start += tokens
    return found


def _length(slices: list[slice]) -> int:
    return sum(part.stop - part.start for part in slices)
