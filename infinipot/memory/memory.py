"""The bounded memory of one stream: what is held, where it came from, and the only ways in which it changes.

All rows (KV heads of layers) hold the same text: the prompt, the dialogue, and, in families that have them, captions
of temporal patches. Each row also holds cells of the video of its own choice. The slot of a token means nothing, to
attention or anything else: its columns say what it is.

Only `commit` and `rebase` change a memory. Each change is planned first, without touching what is held, and then
applied. Applying can be repeated after an interrupt, and `settle` finishes it: the next call finds the memory as it was
before a change or after it, never in between. Knows nothing of models or frames.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from infinipot.errors import CapError
from infinipot.memory.commit import plan_commit, prepare
from infinipot.memory.grids import grid_of, with_current
from infinipot.memory.held import Held
from infinipot.memory.incoming import write_columns
from infinipot.memory.observation import NOTHING, Observer
from infinipot.memory.plan import Plan, finished
from infinipot.memory.positions import Cursor, PositionRule
from infinipot.memory.prefix import EMPTY, unlike_any
from infinipot.memory.rebase import plan_rebase
from infinipot.memory.rotary import Rotary
from infinipot.memory.slots import Slots, stored_columns
from infinipot.memory.step import Step
from infinipot.memory.storage import LayerShape, Rows, StateShape
from infinipot.memory.tensor_parallel import ALONE, TensorParallelGroup
from infinipot.memory.transaction import Origin, Taken, Transaction
from infinipot.memory.turned import TurnedKeys
from infinipot.memory.view import Viewer
from infinipot.policies.base import Attention, Policy
from infinipot.tokens import Grid


class Memory:
    """At most `cap` slots per layer and KV head, allocated once.

    Args:
        cap: |M|, the slots that are ever held.
        shapes: what each layer of the model stores, and where.
        rotary: how keys are rotated.
        rule: how positions advance with the video.
        dialogue_limit: the most tokens of all remembered turns together.
        tp_group: the processes that share the KV heads; `shapes` are this process's part.
        columns: the names of the policy's columns.

    Attributes:
        groups: the slots of the layers, grouped by shape and device.
        states: the recurrent states.
        grids: the grids of the video of which cells may be held, the current one last.
        state: what is held, as numbers.
        filled: the slots in use now, those of an open transaction included.
        prefix: a digest of what is held; memories of a model with one digest hold the same, see prefix.py.
        intact: how many slots after what is held are as `retain` found them; -1 if what is held has changed since.
        turned: the rotated keys, during an answer that has room for them; else None.
        peak: the most slots that were ever in use, transactions included.
        bytes: the bytes allocated.
    """

    def __init__(
        self,
        cap: int,
        shapes: Sequence[LayerShape | StateShape],
        rotary: Rotary,
        rule: PositionRule,
        dialogue_limit: int = 0,
        tp_group: TensorParallelGroup = ALONE,
        columns: Sequence[str] = (),
    ) -> None:
        self.cap = cap
        self.dialogue_limit = dialogue_limit
        self.rule = rule
        self.rotary = rotary
        self.grids: tuple[Grid, ...] = ()
        self.peak, self.intact, self.prefix = 0, -1, EMPTY
        self.turned: TurnedKeys | None = None
        self._columns = tuple(columns)
        self._tp_group = tp_group
        self.state = Held()
        self._plan: Plan | None = None
        self._slots = slots = Slots(cap, shapes, stored_columns(rule, columns))
        self.groups, self.states = slots.groups, slots.states
        self.layers, self.bytes = slots.layers, slots.bytes
        self.filled = 0

    def fork(self) -> "Memory":
        """A copy with storage of its own, without any open transaction."""
        self.settle()
        self._slots.clear(self.held, self._columns)
        shapes, group = self._slots.shapes, self._tp_group
        other = Memory(self.cap, shapes, self.rotary, self.rule, self.dialogue_limit, group, self._columns)
        other.restore(self.state, self.grids, self.peak, self._slots.stored(self.held + max(self.intact, 0)))
        other.intact, other.prefix = self.intact, self.prefix
        return other

    def stored(self) -> dict[str, Tensor]:
        """Views of all tensors that make up what is held, by name."""
        self._roll_back()
        self._slots.clear(self.held, self._columns)
        return self._slots.stored(self.held)

    def layout(self, held: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """The types and shapes of what `stored` returns when `held` slots are held."""
        return self._slots.layout(held)

    def restore(self, held: Held, grids: tuple[Grid, ...], peak: int, stored: Mapping[str, Tensor]) -> None:
        """Takes over what another memory of this shape held: its numbers, and what its `stored` returned."""
        self.state, self.grids, self.peak = held, grids, peak
        self._slots.fill(stored, begun=held.tokens > 0)
        self.filled, self.intact, self.prefix = held.tokens, -1, unlike_any()

    # What is held

    @property
    def held(self) -> int:
        """Slots held."""
        return self.state.tokens

    @property
    def cursor(self) -> Cursor:
        """The stream's place on the position axes."""
        return self.state.cursor

    def grid(self, rows: int, columns: int) -> Grid:
        """The grid of this size: the known one, or else a new one with cell numbers of its own."""
        return grid_of(self.grids, rows, columns)

    def use_grid(self, rows: int, columns: int) -> Grid:
        """Makes the grid of this size the current one and returns it; a known size keeps its cell numbers.

        Raises:
            FrameError: cells of too many sizes are held.
        """
        self.grids = with_current(self.grids, rows, columns, self.groups, self.held)
        return self.grids[-1]

    # What a model's forward does

    @contextmanager
    def transaction(self, after: Taken | None = None) -> Iterator[Transaction]:
        """Opens a transaction on top of the memory. On exit, what was not committed is forgotten.

        Args:
            after: what an earlier transaction had taken up, if its slots are intact: the new one begins with it.
        """
        self._roll_back()
        taken = Taken(self.cursor, prefix=self.prefix, stepped=self.prefix) if after is None else after
        transaction = Transaction(taken, self.rule)
        self.filled = self.held + transaction.tokens
        try:
            yield transaction
        finally:
            self._roll_back()

    def retain(self, taken: Taken) -> None:
        """Keeps the slots of an uncommitted transaction intact until something else needs them."""
        self.intact = taken.tokens

    def step(
        self,
        transaction: Transaction,
        wanted: Mapping[str, Attention] = NOTHING,
        observers: Sequence[Observer] = (),
        ahead: int | None = None,
    ) -> Step:
        """Takes slots for the transaction's tokens that no forward has run over yet.

        Args:
            transaction: the transaction.
            wanted: the attention that a policy asks for and this step can provide, by column.
            observers: further observers of attention.
            ahead: see `Step`. The prompt is always in the first slots.

        Raises:
            CapError: the tokens do not fit. Callers check before any work, so this is the last line of defence.
        """
        taken = transaction.taken
        origin = Origin.joined(taken.origins)
        start, end = self.filled, self.filled + len(origin.patch)
        if end > self.cap:
            raise CapError(f"the memory holds {start} of {self.cap} tokens: {end - start} more do not fit")
        self.intact = min(self.intact, start - self.held)
        self._slots.record(start, end, origin)
        self.filled, self.peak = end, max(self.peak, end)
        seeing = transaction.observed.observers(wanted, self.groups, origin.cell >= 0, end) if wanted else []
        transaction.taken = taken.after_forward()
        return Step(
            self,
            start,
            end,
            origin.positions,
            taken.cursor.next,
            (taken.stepped, taken.prefix),
            observers=(*seeing, *observers),
            ahead=ahead,
            window=taken.window,
            free=max(0, self.held + taken.free - start),
        )

    @contextmanager
    def aside(self, transaction: Transaction) -> Iterator[None]:
        """On exit, the transaction forgets the tokens added inside; the attention that was observed stays."""
        before, filled = transaction.taken, self.filled
        with self.states.aside():
            try:
                yield
            finally:
                transaction.taken = before
                self.filled = filled

    def place(self, layer: int) -> tuple[Rows, slice]:
        """The group and rows that hold the slots of a layer of the model, by its number."""
        return self._slots.place(layer)

    # Changes

    def commit(
        self,
        transaction: Transaction,
        *,
        turn: bool = False,
        policy: Policy | None = None,
        budget_for: Callable[[int, int], int | None] = lambda text, video: None,
        on_applied: Callable[[], None] = lambda: None,
    ) -> None:
        """Makes the transaction part of the memory and, if `budget_for` asks for it, evicts video tokens.

        Args:
            transaction: what the model has just run over. Its text counts towards the newest turn, or towards the
                prompt if there is none.
            turn: whether the transaction's text is a new turn of the dialogue.
            policy: chooses the video tokens that stay.
            budget_for: given the text and video tokens that there would be, returns |C|, the video tokens to leave, or
                None to leave all.
            on_applied: called as part of the change.
        """
        taken = transaction.taken
        if taken.origins:
            raise ValueError("no forward has run over all of the transaction: call step, and write what it makes")
        grown = self.state.with_transaction(taken, turn=turn)
        columns = prepare(policy, self.groups, transaction, self.state, grown)
        if policy is not None and policy.columns and taken.cell_numbers:
            write_columns(policy, self._viewer(replace(self.state, cursor=taken.cursor)), taken)
        after = grown.without_old_turns(self.dialogue_limit)
        budget, tp_group = budget_for(after.text, after.tokens - after.text), self._tp_group
        plan = plan_commit(
            *(policy, self.groups, self._viewer, columns, grown, after, taken.prefix),
            budget=budget,
            cap=self.cap,
            tp_group=tp_group,
        )
        self._plan = replace(plan, on_applied=on_applied)
        self._apply()

    def rebase(self, target: int, limit: int, *, slow: bool = False) -> int:
        """Removes positions from the gaps that eviction left, so that the next position comes near `target`.

        Args:
            target: the wanted next position; it stays higher if the gaps are not large enough.
            limit: the highest allowed next position. To meet it, neighbouring patches move as close as they can.
            slow: whether patches may move as close as `PositionRule.closest` even before that. A video whose patches
                are further apart then continues at the pace of what is held now, so that positions still tell time.

        Returns:
            By how much the next position fell.
        """
        self._roll_back()
        change = plan_rebase(
            self.state, self.groups, self.grids, self.rule, self._tp_group, target=target, limit=limit, slow=slow
        )
        if change is None:
            return 0
        cursor, columns = change
        fallen = self.cursor.next - cursor.next
        self._plan = Plan(replace(self.state, cursor=cursor, rebases=self.state.rebases + 1), columns=columns)
        self._apply()
        return fallen

    def settle(self) -> None:
        """Finishes an interrupted change if applying it had begun; otherwise drops it.

        An interrupt meanwhile is raised once the change is complete.
        """
        if self._plan is not None and not self._plan.begun:
            self._plan = None
        finished(self._apply)

    def _apply(self) -> None:
        """Applies the planned change, if any. It can be repeated from the start, with the same result."""
        plan = self._plan
        if plan is None:
            return
        self.intact = -1
        plan.move(self.groups)
        self.states.commit()
        self.state, self.prefix = plan.after, plan.prefix
        plan.on_applied()
        self.filled = plan.after.tokens
        self._plan = None

    def _roll_back(self) -> None:
        self.settle()
        self.turned = None  # an interrupted answer may have left it
        self.filled = self.held
        self.states.roll_back()

    def _viewer(self, held: Held, columns: Sequence[Mapping[str, Tensor]] = ()) -> Viewer:
        names, rank = self._columns, self._tp_group.number
        return Viewer(self.groups, self.rotary, held, self.grids, self.layers, names, columns, rank)
