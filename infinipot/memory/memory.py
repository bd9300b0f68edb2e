"""The bounded memory of one stream: what is held, where it came from, and the only ways in which it changes.

Every row (a KV head of a layer) holds the same text: the prompt, the dialogue, and the captions of temporal patches in
families that have them; and cells of the video, of which it keeps its own. Where a token lies means nothing, to
attention or to anything else: its columns say what it is.

All changes are made by `commit` and `rebase`. Each is planned first, without touching anything that is held, and then
applied. Applying can be done again as often as it is interrupted, and `settle` finishes it: what comes next finds a
memory from before or after a change, never between. Knows nothing of models or frames.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infinipot.errors import CapError, PolicyError
from infinipot.memory.draft import NOWHERE, Draft, Kind, Origin
from infinipot.memory.eviction import evict, what_stays, write_columns
from infinipot.memory.held import Held
from infinipot.memory.hiding import plan_hiding
from infinipot.memory.merging import Merging, plan_merging
from infinipot.memory.observation import NOTHING, Observer
from infinipot.memory.positions import Cursor, PositionRule
from infinipot.memory.ranks import ALONE, Ranks
from infinipot.memory.rebase import plan_rebase
from infinipot.memory.rotary import Rotary
from infinipot.memory.states import States
from infinipot.memory.step import Step
from infinipot.memory.storage import LayerShape, Moves, Rows, StateShape, allocated_bytes, plan_moves
from infinipot.memory.view import Viewer
from infinipot.policies.attention import UNSEEN, Attention
from infinipot.policies.base import HIDDEN, Policy
from infinipot.policies.merge import MASS
from infinipot.tokens import Grid, VideoTokens

_ATTEMPTS = 4  # to finish a change, for a user who is in a hurry to interrupt
_STATES = "states."  # in front of the names of recurrent states


@dataclass(slots=True)
class Plan:
    """A change that is ready to be applied, as often as it takes.

    Attributes:
        after: what is held then.
        columns: new contents of the first slots of some columns, for each group, before anything moves.
        merging: evicted tokens that go into kept ones, before anything moves.
        moves: of slots, for each group of rows.
        on_applied: called when the change is made.
        begun: whether applying began: from then on there is no way back.
    """

    after: Held
    columns: Sequence[Mapping[str, Tensor]] = ()
    merging: Sequence[Merging] = ()
    moves: Sequence[Moves] = ()
    on_applied: Callable[[], None] = lambda: None
    begun: bool = False


class Memory:
    """At most `cap` slots per layer and KV head, allocated once.

    Args:
        cap: |M|, the slots that are ever held.
        shapes: what each layer of the model stores, and where.
        rotary: how keys are rotated.
        rule: how positions advance with the video.
        dialogue_limit: tokens that remembered turns may hold together.
        ranks: the processes that share the KV heads; `shapes` are this one's part.
        columns: what the policy stores of each token, by name.

    Attributes:
        groups: the layers' slots, those of one shape and device together.
        states: the recurrent states beside them.
        grids: the grids the video has had, the current one last.
        peak: the most slots that were ever in use, drafts included.
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
        columns: Sequence[str] = (),
    ) -> None:
        self.cap = cap
        self.dialogue_limit = dialogue_limit
        self.rule = rule
        self.rotary = rotary
        self.grids: tuple[Grid, ...] = ()
        self.peak = 0
        self._columns = tuple(columns)
        self._ranks = ranks
        self._shapes = tuple(shapes)
        self._state = Held()
        self._plan: Plan | None = None
        self._filled = 0
        self._allocate()

    def _allocate(self) -> None:
        stored = stored_columns(self.rule, self._columns)
        slots = [(number, shape) for number, shape in enumerate(self._shapes) if isinstance(shape, LayerShape)]
        self.layers = len(slots)
        self.groups: list[Rows] = []
        self._places: dict[int, tuple[Rows, slice]] = {}
        for shape in dict.fromkeys(shape for _, shape in slots):
            numbers = [place for place, (_, own) in enumerate(slots) if own == shape]
            group = Rows(self.cap, shape, numbers, stored)
            self.groups.append(group)
            for place in numbers:
                self._places[slots[place][0]] = group, group.rows_of(place)
        self.states = States(self._shapes)
        self.bytes = allocated_bytes(self.cap, self._shapes, stored)

    def fork(self) -> "Memory":
        """Another memory that holds the same, in storage of its own."""
        self._forget_draft()
        other = copy.copy(self)
        other._allocate()
        other._fill([group.stored(self.held) for group in self.groups], self.states.committed())
        return other

    def stored(self) -> dict[str, Tensor]:
        """All tensors that make what is held, by name: views of them."""
        self._forget_draft()
        return self._named([group.stored(self.held) for group in self.groups])

    def layout(self, held: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Types and shapes of what `stored` gives when so many slots are held."""
        like = self._named([group.stored(0) for group in self.groups])
        return {
            name: (part.dtype, tuple(part.shape) if name.startswith(_STATES) else (len(part), held, *part.shape[2:]))
            for name, part in like.items()
        }

    def restore(self, held: Held, grids: tuple[Grid, ...], peak: int, stored: Mapping[str, Tensor]) -> None:
        """Takes over what another memory of this shape held: what it said, and what `stored` gave of it."""
        self._state, self.grids, self.peak = held, grids, peak
        slots = [
            {name: stored[f"{number}.{name}"] for name in group.stored(0)} for number, group in enumerate(self.groups)
        ]
        states = range(len(self.states.recurrent))
        self._fill(slots, [(stored[f"{_STATES}{each}.conv"], stored[f"{_STATES}{each}.recurrent"]) for each in states])

    def _named(self, slots: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        named = {f"{number}.{name}": part for number, group in enumerate(slots) for name, part in group.items()}
        for number, (conv, recurrent) in enumerate(self.states.committed()):
            named |= {f"{_STATES}{number}.conv": conv, f"{_STATES}{number}.recurrent": recurrent}
        return named

    def _fill(self, slots: Sequence[Mapping[str, Tensor]], states: Sequence[tuple[Tensor, Tensor]]) -> None:
        for group, stored in zip(self.groups, slots, strict=True):
            group.fill(stored)
        self.states.fill(states, begun=self.held > 0)
        self._filled = self.held

    # What is held

    @property
    def state(self) -> Held:
        """What is held, as numbers."""
        return self._state

    @property
    def held(self) -> int:
        """Slots held."""
        return self._state.tokens

    @property
    def turns(self) -> tuple[int, ...]:
        """Tokens of each remembered turn, oldest first."""
        return self._state.turns

    @property
    def turns_ever(self) -> int:
        """Turns remembered so far, those that have left included."""
        return self._state.turns_gone + len(self._state.turns)

    @property
    def dialogue(self) -> int:
        """Tokens of remembered turns held."""
        return sum(self._state.turns)

    @property
    def text(self) -> int:
        """Tokens held of the prompt and the remembered turns."""
        return self._state.text

    @property
    def video(self) -> int:
        """Tokens of the video held, per layer and KV head: cells, and captions if there are any."""
        return self.held - self.text

    @property
    def captions(self) -> tuple[int, ...]:
        """For each caption token held the temporal patch that it belongs to."""
        return self._state.captions

    @property
    def cursor(self) -> Cursor:
        """Where the stream stands on the position axes."""
        return self._state.cursor

    @property
    def seen(self) -> int:
        """Tokens ever committed."""
        return self._state.seen

    @property
    def compressions(self) -> int:
        """How often tokens were evicted."""
        return self._state.compressions

    @property
    def rebases(self) -> int:
        """How often positions were moved back."""
        return self._state.rebases

    @property
    def filled(self) -> int:
        """Slots in use at this moment, those of an open draft included."""
        return self._filled

    def use_grid(self, rows: int, columns: int) -> Grid:
        """The grid of this size, from now on the current one; a size seen before gets its old cell numbers back."""
        known = next((grid for grid in self.grids if (grid.rows, grid.columns) == (rows, columns)), None)
        grid = known or Grid(rows, columns, sum(grid.cells for grid in self.grids))
        self.grids = (*(other for other in self.grids if other is not grid), grid)
        return grid

    def video_tokens(self, group: int = 0, rows: slice | None = None) -> VideoTokens:
        """The cells that some rows hold, as a policy sees them."""
        rows = slice(0, len(self.groups[group].layer)) if rows is None else rows
        return self._viewer(self._state).tokens(self.groups[group], rows)

    # What a model's forward does

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """A draft on top of the memory. On the way out, what was not committed is forgotten."""
        self._forget_draft()
        try:
            yield Draft(self.cursor, self.rule)
        finally:
            self._forget_draft()

    def step(
        self,
        draft: Draft,
        wanted: Mapping[str, Attention] = NOTHING,
        observers: Sequence[Observer] = (),
        ahead: int | None = None,
    ) -> Step:
        """Makes room for the draft's tokens that no forward has run over yet.

        Args:
            draft: whose tokens they are.
            wanted: the columns of attention that a policy asks for and this step can fill.
            observers: others that are shown what attends to what.
            ahead: see `Step`. The prompt is always in the first slots.

        Raises:
            CapError: they do not fit. Callers check before any work, so this is the last line of defence.
        """
        origin = Origin.joined(draft.origins)
        draft.origins.clear()
        start, end = self._filled, self._filled + len(origin.patch)
        if end > self.cap:
            raise CapError(f"the memory holds {start} of {self.cap} tokens: {end - start} more do not fit")
        for group in self.groups:
            self._record(group, slice(start, end), origin)
        self._filled, self.peak = end, max(self.peak, end)
        seeing = draft.observed.observers(wanted, self.groups, origin.cell >= 0, end) if wanted else []
        return Step(self, start, end, origin.positions, draft.cursor.next, (*seeing, *observers), ahead)

    @contextmanager
    def aside(self, draft: Draft) -> Iterator[None]:
        """What the draft takes up inside is forgotten on the way out, but for what was observed meanwhile."""
        before, filled = draft.copy(), self._filled
        states = [tuple(state.clone() for state in layer.states()) for layer in self.states.recurrent]
        begun = [layer.has_previous_state[0] for layer in self.states.recurrent]
        try:
            yield
        finally:
            draft.go_back(before)
            self._filled = filled
            for layer, saved, had in zip(self.states.recurrent, states, begun, strict=True):
                layer.go_back(saved, had)

    def _record(self, group: Rows, slots: slice, origin: Origin) -> None:
        temporal, height, width = origin.positions
        known = {"temporal": temporal, "height": height, "width": width, "base": origin.base}
        known |= {"patch": origin.patch, "cell": origin.cell, "time": origin.time}
        for name, column in group.columns.items():
            if name == HIDDEN:
                column[:, slots] = 0
            if name in known:
                column[:, slots] = known[name].to(column.device, column.dtype, non_blocking=True)

    def place(self, layer: int) -> tuple[Rows, slice]:
        """Where a layer of the model, by its number, has its slots."""
        return self._places[layer]

    # Changes

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
            on_applied: called together with the change.
        """
        if draft.origins:
            raise ValueError("no forward has run over all of the draft: call step, and write what it makes")
        grown = self._state.with_draft(draft, turn=turn)
        self._label(draft, self._state, grown)
        columns: list[dict[str, Tensor]] = []
        merging: list[Merging] = []
        if policy is not None and policy.attention:
            columns = self._attended(policy, draft, grown)
        if policy is not None and policy.merges:
            for group in self.groups:
                group.columns[MASS][:, self.held : grown.tokens] = 1
        if policy is not None and policy.columns and draft.cells:
            viewer = self._viewer(replace(self._state, cursor=draft.cursor))
            write_columns(policy, viewer, draft, self.held)
        after = grown.without_old_turns(self.dialogue_limit)
        budget = keep(after.text, after.tokens - after.text)
        kept = None
        if policy is not None and budget is not None:
            kept = evict(policy, self._viewer(grown, columns), grown.captions, budget, self._ranks)
            after = after.without_cells(kept.count, kept.patches)
            if policy.merges:
                merging = plan_merging(policy, self._viewer(grown, columns), kept.cells)
                columns = _with(columns, MASS, [each.mass for each in merging])
            if policy.hides:
                hidden = plan_hiding(policy, self._viewer(grown, columns), kept.cells)
                columns = _with(columns, HIDDEN, hidden)
        moves: list[Moves] = []
        if after.tokens < grown.tokens:
            viewer, turns_gone = self._viewer(grown), range(grown.turns_gone + 1, after.turns_gone + 1)
            for number, group in enumerate(self.groups):
                cells = None if kept is None else kept.cells[number]
                stays = what_stays(group, viewer, turns_gone, cells, kept.patches if kept else None)
                moves.append(plan_moves(stays, after.tokens, self.cap))
            after = grown.moved_to(after)
        self._make(Plan(after, columns, merging, moves, on_applied))

    def would_evict(self, draft: Draft, keep: Callable[[int, int], int | None]) -> bool:
        """Whether committing the draft, which is no turn, will evict video tokens."""
        grown = self._state.with_draft(draft, turn=False)
        return keep(grown.text, grown.tokens - grown.text) is not None

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
        self._forget_draft()
        planned = plan_rebase(
            self._state, self.groups, self.grids, self.rule, self._ranks, target=target, limit=limit, slow=slow
        )
        if planned is None:
            return 0
        cursor, columns = planned
        fallen = self.cursor.next - cursor.next
        self._make(Plan(replace(self._state, cursor=cursor, rebases=self.rebases + 1), columns=columns))
        return fallen

    def settle(self) -> None:
        """Finishes a change that something interrupted after it had begun; one that had not is dropped.

        What interrupts this is raised when the change is made.
        """
        if self._plan is not None and not self._plan.begun:
            self._plan = None
        interrupted: BaseException | None = None
        for _ in range(_ATTEMPTS):
            try:
                if self._plan is not None:
                    self._apply(self._plan)
                break
            except BaseException as error:  # once more: there is no way back
                interrupted = interrupted or error
        if interrupted is not None:
            raise interrupted

    def _make(self, plan: Plan) -> None:
        self._plan = plan
        self._apply(plan)

    def _apply(self, plan: Plan) -> None:
        """Makes a planned change. Done again from its beginning, it comes to the same."""
        plan.begun = True
        for group, columns in zip(self.groups, plan.columns, strict=False):
            for name, content in columns.items():
                group.columns[name][:, : content.shape[1]] = content
        for merging in plan.merging:
            merging.make()
        for group, moves in zip(self.groups, plan.moves, strict=False):
            group.move(moves)
        self.states.commit()
        self._state = plan.after
        plan.on_applied()
        self._filled = plan.after.tokens
        self._plan = None

    def _forget_draft(self) -> None:
        self.settle()
        self._filled = self.held
        self.states.roll_back()

    def _label(self, draft: Draft, before: Held, grown: Held) -> None:
        """Has text say in place of a cell of which turn it is, counted from 1; the prompt is of none."""
        turn, start = grown.turns_gone + len(grown.turns), before.tokens
        for number, (tokens, kind) in enumerate(draft.runs):
            if kind is Kind.TEXT and grown.turns and (number or before.tokens):
                for group in self.groups:
                    group.columns["cell"][:, start : start + tokens] = NOWHERE - turn
            start += tokens

    def _attended(self, policy: Policy, draft: Draft, grown: Held) -> list[dict[str, Tensor]]:
        """For each group the columns of attention once the draft is part of the memory."""
        found = []
        for number, group in enumerate(self.groups):
            for name in policy.attention:
                group.columns[name][:, self.held : grown.tokens] = UNSEEN
            found.append(draft.observed.contents(policy.attention, number, group, grown.tokens))
        return found

    def _viewer(self, state: Held, columns: Sequence[Mapping[str, Tensor]] = ()) -> Viewer:
        return Viewer(
            groups=self.groups,
            rotary=self.rotary,
            length=state.tokens,
            cells=state.run,
            count=state.cells,
            grids=self.grids,
            newest_patch=state.cursor.patch - 1,
            layers=self.layers,
            columns=self._columns,
            fresh=columns,
            highest=state.cursor.next,
            rank=self._ranks.number,
        )


def _with(columns: list[dict[str, Tensor]], name: str, contents: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """Contents of columns for each group, and those of one more."""
    return [{**own, name: part} for own, part in zip(columns or [{} for _ in contents], contents, strict=True)]


def stored_columns(rule: PositionRule, columns: Sequence[str] = ()) -> dict[str, torch.dtype]:
    """What a memory stores of each token beside its key and value: names and types."""
    positions = ("temporal", "base") if rule.flat else ("temporal", "height", "width")
    own = dict.fromkeys(("patch", "cell", *positions), torch.int32) | {"time": torch.float64}
    if taken := set(own) & set(columns):
        raise PolicyError(f"a policy's column cannot be called {min(taken)!r}: the memory has one of that name")
    return own | dict.fromkeys(columns, torch.float32)
