"""What the model is given next of a stream, in which order, and what makes it part of the memory.

Knows neither when a block is full nor what is asked.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infinipot.engine.compressing import budget_after, close_gaps
from infinipot.engine.decoding import are_numbers, overflow
from infinipot.engine.pending import Pending, Transcript
from infinipot.engine.requests import Encode, Forward
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.memory import Taken, Transaction
from infinipot.memory.observation import NOTHING, Observer
from infinipot.models import Patch
from infinipot.policies.base import Attention
from infinipot.tokens import Grid


@dataclass(frozen=True, slots=True, eq=False)
class LaidOut:
    """What a layout holds at one moment, for another one to begin with.

    Attributes:
        taken: what its transaction had taken up, and the model had run over.
        text, captions: the token ids among it, of the conversation and of patches' captions; the prompt's are not.
    """

    taken: Taken
    text: tuple[int, ...] = ()
    captions: tuple[int, ...] = ()


class Layout:
    """Texts, captions and patches in the order in which the model is given them, after what a memory holds.

    What is added has its slots and positions in a transaction at once. `forward` asks for the run over all that was
    added since the last one, and `commit` makes it part of the memory. `Layout.begin` opens one.

    Attributes:
        setup, state: of the stream.
        transaction: on the stream's memory.
        patches: embeddings of the patches that were added, with their captions, `[n, width]` each.
    """

    def __init__(self, setup: Setup, state: StreamState, transaction: Transaction, before: LaidOut | None) -> None:
        self.setup, self.state, self.transaction = setup, state, transaction
        self.patches: list[Tensor] = []
        self._ahead: list[Tensor] = []  # embeddings that no forward has run over yet
        self._text = [] if before is None else [*before.text]
        self._captions = [] if before is None else [*before.captions]

    @classmethod
    @contextmanager
    def begin(cls, setup: Setup, state: StreamState, before: LaidOut | None = None) -> Iterator["Layout"]:
        """Opens a layout, which is empty or goes on from another one; on exit, what was not committed is forgotten."""
        with state.memory.transaction(None if before is None else before.taken) as transaction:
            yield cls(setup, state, transaction, before)

    @property
    def so_far(self) -> LaidOut:
        """What has been added, for another layout to go on from once the model has run over it."""
        return LaidOut(self.transaction.taken.after_forward(), tuple(self._text), tuple(self._captions))

    def transcript(self, *, turn: bool) -> Transcript:
        """What will have been said once this is part of the memory, as a turn of the dialogue or not."""
        return self.state.pending.said.after(self._text, self._captions, turn=turn)

    # What comes next

    def add(self, rows: Tensor, text: Sequence[int] = (), captions: Sequence[int] = ()) -> None:
        """Adds embeddings, `[n, width]`, of what the transaction has taken up.

        Args:
            rows: the embeddings.
            text, captions: the token ids among it that count as said.
        """
        self._ahead.append(rows)
        self._text += text
        self._captions += captions

    def add_text(self, ids: Sequence[int]) -> None:
        """Adds text, at the moment of the newest frame."""
        self.transaction.text(len(ids), self.state.pending.time, tuple(ids))
        self.add(self.setup.adapter.embed(ids), text=ids)

    def add_question(self, ids: Sequence[int], *, follows_video: bool) -> None:
        """Adds a question, after what closes a video where it follows one."""
        suffix = self.setup.suffix
        if follows_video and suffix is not None:
            self.transaction.text(len(suffix), self.state.pending.time, ("suffix",))
            self.add(suffix)
        self.add_text(ids)

    def add_patches(self, patches: Sequence[Patch], grid: Grid | None = None) -> Generator[Encode, Tensor, None]:
        """Has patches of one grid encoded, and adds them after the text that opens them."""
        for patch, cells in zip(patches, (yield from self.encoded(patches)), strict=True):
            self.add_patch(patch, cells, grid)

    def encoded(self, patches: Sequence[Patch]) -> Generator[Encode, Tensor, list[Tensor | None]]:
        """Has patches of one grid encoded: `[tokens, width]` of each, None of one of which no cell is given."""
        given = [patch for patch in patches if patch.given]
        features = (yield Encode(self.setup.adapter, given, self.state.stopwatch)) if given else None
        parts = iter(features.split([patch.tokens for patch in given]) if features is not None else ())
        return [next(parts) if patch.given else None for patch in patches]

    def add_patch(self, patch: Patch, cells: Tensor | None, grid: Grid | None = None) -> None:
        """Adds a patch with its captions, the first one after the text that opens it.

        Args:
            patch: what the cells are of.
            cells: what the encoder made of it.
            grid: that it is of; by default the newest.
        """
        adapter, transaction = self.setup.adapter, self.transaction
        self._open_video(patch.starts[0])
        number, opens = transaction.cursor.patch, not transaction.cursor.open
        before, after = adapter.caption_ids(patch.times, number, opens=opens)
        places = None if patch.places is None else torch.tensor(patch.places, dtype=torch.int64)
        made_of, grid = (patch.number, *before, "and", *after), grid or self.state.pending.grid
        transaction.video(grid, patch.starts, len(before), len(after), places, content=made_of)
        if cells is None:
            return
        if places is not None:
            cells = cells.index_select(0, places.to(cells.device, non_blocking=True))
        rows = adapter.join([adapter.embed(before), cells, adapter.embed(after)])
        self.patches.append(rows)
        self.add(rows, captions=(*before, *after))

    def _open_video(self, time: float) -> None:
        """Adds the text ahead of the first patch. The prompt is always held, and does not count as said."""
        closed = not self.transaction.cursor.open
        ids = () if self.transaction.tokens else ahead_of_video(self.setup, self.state, closed=closed)
        if ids:
            self.transaction.text(len(ids), time, tuple(ids))
            self.add(self.setup.adapter.embed(ids), text=ids if self.state.memory.held else ())

    @contextmanager
    def aside(self) -> Iterator[None]:
        """On exit, what was added inside is forgotten; what a policy saw of its attention stays."""
        text, captions = [*self._text], [*self._captions]
        with self.state.memory.aside(self.transaction):
            try:
                yield
            finally:
                self._text, self._captions, self._ahead = text, captions, []

    # What becomes of it

    def forward(
        self,
        phase: str,
        wanted: Mapping[str, Attention] = NOTHING,
        observers: Sequence[Observer] = (),
        ahead: int | None = None,
    ) -> Forward:
        """Asks for a run over all that was added since the last one.

        Args:
            phase: that its time counts to.
            wanted, observers, ahead: see `Memory.step`.
        """
        rows, self._ahead = self.setup.adapter.join(self._ahead), []
        step = self.state.memory.step(self.transaction, wanted, observers, ahead)
        return Forward(self.setup.adapter, rows, step, self.state.stopwatch, phase)

    def say(self, token: int, observers: Sequence[Observer] = ()) -> Forward:
        """Adds a token of an answer, and asks for a run over it."""
        self.transaction.text(1, self.state.pending.time, (token,))
        self._text.append(token)
        step = self.state.memory.step(self.transaction, observers=observers)
        return Forward(self.setup.adapter, [token], step, self.state.stopwatch, "answer")

    def run(self, phase: str, *, stays: bool = True) -> Generator[Forward, Tensor, None]:
        """Has the model run over what was added, if anything was; the policy sees its attention if it `stays`.

        What is not a number in the memory makes all logits after it none either. Looking at those costs nothing on a
        CPU; a GPU would have to be waited for, which is done once, for the first block, to tell at once of a type that
        overflows. From then on it is told when a question is asked, whose answer is waited for anyway.
        """
        if not self._ahead:
            return
        logits = yield self.forward(phase, self.setup.block_attention if stays else NOTHING)
        if (logits.device.type == "cpu" or not self.state.memory.held) and not are_numbers(logits):
            raise overflow(logits.dtype)

    def commit(self, after: Pending, *, turn: bool = False) -> None:
        """Makes what was added part of the memory, compressed so that the next block of what waits finds room.

        Args:
            after: what waits then.
            turn: whether the text is a turn of the dialogue.
        """
        setup, state = self.setup, self.state
        said, budget_for = self.transcript(turn=turn), budget_after(setup, after)

        def take() -> None:
            state.pending = replace(after, said=said.held(len(state.memory.state.turns)))
            state.prefilled = ()

        with state.stopwatch.phase("compress"):
            state.memory.commit(
                self.transaction, turn=turn, policy=setup.policy, budget_for=budget_for, on_applied=take
            )
            close_gaps(setup, state)


def ahead_of_video(setup: Setup, state: StreamState, *, closed: bool) -> list[int]:
    """The text ahead of the next patch: the prompt, or what resumes a video that a turn has closed."""
    if not state.memory.held:
        return setup.prompt_ids
    return setup.resume_ids if closed else []
