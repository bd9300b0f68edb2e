"""What the model sees of a stream: the order of texts, captions and patches, and what makes it part of the memory.

Knows neither when a block is full nor what is asked.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from infinipot.engine.decoding import are_numbers, overflow
from infinipot.engine.pending import Pending, Transcript
from infinipot.engine.requests import Encode, Forward, Prepare
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.errors import FrameError
from infinipot.memory import Transaction
from infinipot.memory.observation import Observer
from infinipot.models import Clip, Patch
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


def lay_out(
    setup: Setup, state: StreamState, transaction: Transaction, patches: Sequence[Patch], grid: Grid | None = None
) -> Generator[Encode, Tensor, list[Part]]:
    """Has patches of one grid encoded, after the text that opens them; the transaction takes them up."""
    cells = yield from encoded(setup, state, patches)
    placed = (place(setup, state, transaction, *each, grid) for each in zip(patches, cells, strict=True))
    return [part for parts in placed for part in parts]


def encoded(
    setup: Setup, state: StreamState, patches: Sequence[Patch]
) -> Generator[Encode, Tensor, list[Tensor | None]]:
    """Has patches of one grid encoded: `[tokens, width]` of each, None of one of which no cell is given."""
    given = [patch for patch in patches if patch.given]
    features = (yield Encode(setup.adapter, given, state.stopwatch)) if given else None
    parts = iter(features.split([patch.tokens for patch in given]) if features is not None else ())
    return [next(parts) if patch.given else None for patch in patches]


def place(
    setup: Setup,
    state: StreamState,
    transaction: Transaction,
    patch: Patch,
    cells: Tensor | None,
    grid: Grid | None = None,
) -> list[Part]:
    """A patch with its captions, the first one after the text that opens it; the transaction takes them up.

    Args:
        cells: what the encoder made of it.
        grid: that it is of; by default the newest.
    """
    adapter, parts = setup.adapter, []
    opening = () if transaction.tokens else ahead_of_video(setup, state, closed=not transaction.cursor.open)
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


def ahead_of_video(setup: Setup, state: StreamState, *, closed: bool) -> list[int]:
    """The text ahead of the next patch: the prompt, or what resumes a video that a turn has closed."""
    if not state.memory.held:
        return setup.prompt_ids
    return setup.resume_ids if closed else []


def text(setup: Setup, state: StreamState, transaction: Transaction, ids: Sequence[int]) -> Part:
    """Text at the moment of the newest frame; the transaction takes it up."""
    transaction.text(len(ids), state.pending.time, tuple(ids))
    return Part(setup.adapter.embed(ids), ids)


def asked_behind(
    setup: Setup, state: StreamState, transaction: Transaction, ids: Sequence[int], *, follows_video: bool
) -> list[Part]:
    """A question after what is held and what waits; the transaction takes it up."""
    parts = []
    if follows_video and setup.suffix is not None:
        transaction.text(len(setup.suffix), state.pending.time, ("suffix",))
        parts.append(Part(setup.suffix))
    return [*parts, text(setup, state, transaction, ids)]


def forward(
    setup: Setup,
    state: StreamState,
    transaction: Transaction,
    parts: Sequence[Part],
    phase: str,
    observers: Sequence[Observer] = (),
    *,
    stays: bool = True,
) -> Forward:
    """Asks for a run over what a transaction took up last, parts in a row; observers are shown its attention.

    Args:
        stays: whether it is to become part of the memory: a policy may want to know what attends to it.
    """
    embeddings = setup.adapter.join([part.rows for part in parts])
    wanted = {name: each for name, each in setup.policy.attention.items() if stays and each.probe is None}
    return Forward(setup.adapter, embeddings, state.memory.step(transaction, wanted, observers), state.stopwatch, phase)


def say(
    setup: Setup, state: StreamState, transaction: Transaction, token: int, observers: Sequence[Observer] = ()
) -> Forward:
    """Asks for a run over a token of an answer, which the transaction takes up."""
    transaction.text(1, state.pending.time, (token,))
    step = state.memory.step(transaction, observers=observers)
    return Forward(setup.adapter, [token], step, state.stopwatch, "answer")


def run(
    setup: Setup, state: StreamState, transaction: Transaction, parts: Sequence[Part], phase: str
) -> Generator[Forward, Tensor, None]:
    """Has the model run over parts that are to become part of the memory.

    What is not a number in the memory makes all logits after it none either. Looking at those costs nothing on a CPU; a
    GPU would have to be waited for, which is done once, for the first block, to tell at once of a type that overflows.
    From then on it is told when a question is asked, whose answer is waited for anyway.
    """
    logits = yield forward(setup, state, transaction, parts, phase)
    if (logits.device.type == "cpu" or not state.memory.held) and not are_numbers(logits):
        raise overflow(logits.dtype)


def told(state: StreamState, parts: Sequence[Part], answer: Sequence[int] = (), *, turn: bool) -> Transcript:
    """What was said once these parts and an answer are part of the memory."""
    words = [token for part in parts for token in part.text]
    return state.pending.said.after([*words, *answer], (token for part in parts for token in part.captions), turn=turn)


def commit(
    setup: Setup,
    state: StreamState,
    transaction: Transaction,
    pending: Pending,
    parts: Sequence[Part],
    answer: Sequence[int] = (),
    *,
    turn: bool = False,
) -> None:
    """Makes a transaction part of the memory, and `pending` what waits, with room for its next block after it."""
    said = told(state, parts, answer, turn=turn)
    budget_for = budget_after(setup, pending)

    def take() -> None:
        state.pending = replace(pending, said=said.held(len(state.memory.state.turns)))
        state.prefilled = ()

    with state.stopwatch.phase("compress"):
        state.memory.commit(transaction, turn=turn, policy=setup.policy, budget_for=budget_for, on_applied=take)
        close_gaps(setup, state)


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


@contextmanager
def patching(state: StreamState) -> Iterator[None]:
    """Inside, what was given becomes what the encoder takes."""
    with state.stopwatch.phase("vision"), _fitting():
        yield


@contextmanager
def _fitting() -> Iterator[None]:
    """Inside, a picture that no processor takes, such as one that is 200 times as wide as high, is told as a frame."""
    try:
        yield
    except ValueError as error:
        raise FrameError(f"the model cannot take a frame of this size: {error}") from error


def prepared(
    setup: Setup, state: StreamState, clips: Sequence[Clip], pixels: tuple[int, int] | None
) -> Generator[Prepare, list[Patch], list[Patch]]:
    """Has frames of one size made patches of."""
    with _fitting():
        return (yield Prepare(setup.adapter, clips, pixels, state.stopwatch))


def patch_of(setup: Setup, state: StreamState, part: Patch | Clip) -> Generator[Prepare, list[Patch], Patch]:
    """Has a patch made of what it is made of, where it is none yet."""
    if isinstance(part, Patch):
        return part
    return (yield from prepared(setup, state, [part], setup.pixels))[0]


def waiting(setup: Setup, state: StreamState, known: int = 0) -> Generator[Prepare, list[Patch], tuple[Patch, ...]]:
    """The patches that wait after so many that are known, one that is not full included."""
    full = state.pending.patches
    if known > len(full):
        return ()
    with patching(state):
        last = setup.gatherer.whole(state.pending.partial)
    return full[known:] if last is None else (*full[known:], (yield from patch_of(setup, state, last)))
