"""What the model is given next of a stream, in which order, and what makes it part of the memory.

Knows neither when a block is full nor what is asked.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from infinipot.engine.decoding import are_numbers, overflow
from infinipot.engine.pending import Pending, Transcript
from infinipot.engine.requests import Encode, Forward
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.memory import Taken, Transaction
from infinipot.memory.observation import Observer
from infinipot.models import Patch
from infinipot.tokens import Grid


class Part(NamedTuple):
    """A piece of what the model runs over.

    Attributes:
        rows: embeddings, `[n, width]`.
        text, captions: the token ids in it, of the conversation and of patches' captions.
    """

    rows: Tensor
    text: Sequence[int] = ()
    captions: Sequence[int] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A transaction on a stream's memory, and the order in which texts, captions and patches are laid out on it.

    The methods that return parts have the transaction take these up; `forward` then asks for the run over them.

    Attributes:
        setup, state: of the stream.
        transaction: what takes the parts up, after what is held.
    """

    setup: Setup
    state: StreamState
    transaction: Transaction

    @classmethod
    @contextmanager
    def begin(cls, setup: Setup, state: StreamState, after: Taken | None = None) -> Iterator["Layout"]:
        """Inside, an empty layout, or one that begins after what was taken up before; forgotten unless committed."""
        with state.memory.transaction(after) as transaction:
            yield cls(setup, state, transaction)

    def patches(self, patches: Sequence[Patch], grid: Grid | None = None) -> Generator[Encode, Tensor, list[Part]]:
        """Has patches of one grid encoded, and lays them out after the text that opens them."""
        cells = yield from self.encoded(patches)
        return [part for each in zip(patches, cells, strict=True) for part in self.patch(*each, grid)]

    def encoded(self, patches: Sequence[Patch]) -> Generator[Encode, Tensor, list[Tensor | None]]:
        """Has patches of one grid encoded: `[tokens, width]` of each, None of one of which no cell is given."""
        given = [patch for patch in patches if patch.given]
        features = (yield Encode(self.setup.adapter, given, self.state.stopwatch)) if given else None
        parts = iter(features.split([patch.tokens for patch in given]) if features is not None else ())
        return [next(parts) if patch.given else None for patch in patches]

    def patch(self, patch: Patch, cells: Tensor | None, grid: Grid | None = None) -> list[Part]:
        """Lays out a patch with its captions, the first one after the text that opens it.

        Args:
            patch: what the cells are of.
            cells: what the encoder made of it.
            grid: that it is of; by default the newest.
        """
        adapter, state, transaction, parts = self.setup.adapter, self.state, self.transaction, []
        closed = not transaction.cursor.open
        opening = () if transaction.tokens else ahead_of_video(self.setup, state, closed=closed)
        if opening:
            transaction.text(len(opening), patch.starts[0], tuple(opening))
            parts.append(Part(adapter.embed(opening), opening if state.memory.held else ()))
        number, opens = transaction.cursor.patch, not transaction.cursor.open
        before, after = adapter.caption_ids(patch.times, number, opens=opens)
        places = None if patch.places is None else torch.tensor(patch.places, dtype=torch.int64)
        made_of = patch.number, *before, "and", *after
        transaction.video(grid or state.pending.grid, patch.starts, len(before), len(after), places, content=made_of)
        if cells is not None:
            if places is not None:
                cells = cells.index_select(0, places.to(cells.device, non_blocking=True))
            rows = [adapter.embed(before), cells, adapter.embed(after)]
            parts.append(Part(adapter.join(rows), captions=(*before, *after)))
        return parts

    def text(self, ids: Sequence[int]) -> Part:
        """Lays out text, at the moment of the newest frame."""
        self.transaction.text(len(ids), self.state.pending.time, tuple(ids))
        return Part(self.setup.adapter.embed(ids), ids)

    def question(self, ids: Sequence[int], *, follows_video: bool) -> list[Part]:
        """Lays out a question, after what closes a video where it follows one."""
        parts = []
        if follows_video and self.setup.suffix is not None:
            self.transaction.text(len(self.setup.suffix), self.state.pending.time, ("suffix",))
            parts.append(Part(self.setup.suffix))
        return [*parts, self.text(ids)]

    def forward(
        self, parts: Sequence[Part], phase: str, observers: Sequence[Observer] = (), *, stays: bool = True
    ) -> Forward:
        """Asks for a run over the parts laid out last, in a row; observers are shown its attention.

        Args:
            parts: all that were laid out since the last run.
            phase: that its time counts to.
            observers: see `Memory.step`.
            stays: whether it is to become part of the memory: a policy may want to know what attends to it.
        """
        adapter, state = self.setup.adapter, self.state
        wanted = {name: each for name, each in self.setup.policy.attention.items() if stays and each.probe is None}
        step = state.memory.step(self.transaction, wanted, observers)
        return Forward(adapter, adapter.join([part.rows for part in parts]), step, state.stopwatch, phase)

    def say(self, token: int, observers: Sequence[Observer] = ()) -> Forward:
        """Lays out a token of an answer, and asks for a run over it."""
        self.transaction.text(1, self.state.pending.time, (token,))
        step = self.state.memory.step(self.transaction, observers=observers)
        return Forward(self.setup.adapter, [token], step, self.state.stopwatch, "answer")

    def run(self, parts: Sequence[Part], phase: str) -> Generator[Forward, Tensor, None]:
        """Has the model run over parts that are to become part of the memory.

        What is not a number in the memory makes all logits after it none either. Looking at those costs nothing on a
        CPU; a GPU would have to be waited for, which is done once, for the first block, to tell at once of a type that
        overflows. From then on it is told when a question is asked, whose answer is waited for anyway.
        """
        logits = yield self.forward(parts, phase)
        if (logits.device.type == "cpu" or not self.state.memory.held) and not are_numbers(logits):
            raise overflow(logits.dtype)

    def commit(self, after: Pending, parts: Sequence[Part], answer: Sequence[int] = (), *, turn: bool = False) -> None:
        """Makes the transaction part of the memory, compressed so that the next block of what waits finds room.

        Args:
            after: what waits then.
            parts: all that the transaction holds, but for the answer.
            answer: the tokens of one, after the parts.
            turn: whether it is a turn of the dialogue.
        """
        setup, state = self.setup, self.state
        said = told(state, parts, answer, turn=turn)

        def take() -> None:
            state.pending = replace(after, said=said.held(len(state.memory.state.turns)))
            state.prefilled = ()

        with state.stopwatch.phase("compress"):
            state.memory.commit(
                self.transaction, turn=turn, policy=setup.policy, budget_for=budget_after(setup, after), on_applied=take
            )
            close_gaps(setup, state)


def ahead_of_video(setup: Setup, state: StreamState, *, closed: bool) -> list[int]:
    """The text ahead of the next patch: the prompt, or what resumes a video that a turn has closed."""
    if not state.memory.held:
        return setup.prompt_ids
    return setup.resume_ids if closed else []


def told(state: StreamState, parts: Sequence[Part], answer: Sequence[int] = (), *, turn: bool) -> Transcript:
    """What was said once these parts and an answer are part of the memory."""
    words = [token for part in parts for token in part.text]
    return state.pending.said.after([*words, *answer], (token for part in parts for token in part.captions), turn=turn)


def budget_after(setup: Setup, pending: Pending) -> Callable[[int, int], int | None]:
    """The video tokens to leave of so many, given the text tokens beside them; None to leave all.

    All stay while the next block fits after them, unless the policy never wants to hold as many.
    """
    policy, budget, cells = setup.policy, setup.budget, pending.grid.cells
    patch = pending.patch_tokens(setup)
    most = policy.most(patch)

    def budget_for(text: int, video: int) -> int | None:
        fits = video + pending.block * patch <= budget.video(text) and (most is None or video <= most)
        if fits or not policy.evicts:
            return None
        target = budget.target(text, cells)
        return target if most is None else min(target, most)

    return budget_for


def close_gaps(setup: Setup, state: StreamState) -> None:
    """Re-assigns positions without gaps after a compression, where the policy is one that does."""
    memory = state.memory
    if setup.policy.dense_positions and state.dense_after != memory.state.compressions:
        memory.rebase(target=0, limit=memory.cursor.next)
        state.dense_after = memory.state.compressions
