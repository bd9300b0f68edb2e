"""Probes: what a policy has the model run over after a block, to see what it attends to, and forgets again.

A probe stands where a question would, in the slots that the reserve keeps free. It is run when tokens are about to be
evicted, one that repeats its block after each.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence

from torch import Tensor

from infinipot.engine.layout import Part, asked_behind, budget_after
from infinipot.engine.limits import probe_ids
from infinipot.engine.pending import Pending
from infinipot.engine.requests import Forward
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.memory import Transaction
from infinipot.policies.base import Attention


def probe(
    setup: Setup, state: StreamState, transaction: Transaction, parts: Sequence[Part], pending: Pending
) -> Generator[Forward, Tensor, None]:
    """Has the model run over the probes that the policy asks for, after a block that it has just run over.

    Args:
        setup, state: of the stream.
        transaction: holds the block.
        parts: of the block.
        pending: what waits once the block is part of the memory.
    """
    wanted = {name: each for name, each in setup.policy.attention.items() if each.probe is not None}
    if not wanted or not transaction.taken.cell_numbers:
        return
    grown = state.memory.state.with_transaction(transaction.taken, turn=False)
    evicting = budget_after(setup, pending)(grown.text, grown.video) is not None
    for name, attention in wanted.items():
        if not evicting and not attention.repeats:
            continue
        ids = probe_ids(setup, attention.probe or "")
        room = setup.budget.reserve - len(ids) - (0 if setup.suffix is None else len(setup.suffix))
        for again in _repeated(parts, room) if attention.repeats else [None]:
            with state.memory.aside(transaction):
                yield _forward(setup, state, transaction, ids, again, {name: attention})


def _forward(
    setup: Setup,
    state: StreamState,
    transaction: Transaction,
    ids: Sequence[int],
    again: Tensor | None,
    wanted: Mapping[str, Attention],
) -> Forward:
    asked = asked_behind(setup, state, transaction, ids, follows_video=True)
    if again is not None:
        transaction.text(len(again), state.pending.time)
        asked.append(Part(again))
    embeddings = setup.adapter.join([part.rows for part in asked])
    return Forward(setup.adapter, embeddings, state.memory.step(transaction, wanted), state.stopwatch, "compress")


def _repeated(parts: Sequence[Part], room: int) -> Iterator[Tensor]:
    """The content of a block in pieces of at most `room` tokens, text ahead of it left out."""
    for part in parts:
        if not part.text:
            yield from part.rows.split(room)
