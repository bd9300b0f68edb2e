"""Probes: what a policy has the model run over after a block, to see what it attends to, and forgets again.

A probe stands where a question would, in the slots that the reserve keeps free. It is run when tokens are about to be
evicted, one that repeats its block after each.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence

from torch import Tensor

from infinipot.engine.layout import Layout, Part, budget_after
from infinipot.engine.limits import probe_ids
from infinipot.engine.pending import Pending
from infinipot.engine.requests import Forward
from infinipot.policies.base import Attention


def probe(layout: Layout, parts: Sequence[Part], after: Pending) -> Generator[Forward, Tensor, None]:
    """Has the model run over the probes that the policy asks for, after a block that it has just run over.

    Args:
        layout: holds the block.
        parts: of the block.
        after: what waits once the block is part of the memory.
    """
    setup, memory, transaction = layout.setup, layout.state.memory, layout.transaction
    wanted = {name: each for name, each in setup.policy.attention.items() if each.probe is not None}
    if not wanted or not transaction.taken.cell_numbers:
        return
    grown = memory.state.with_transaction(transaction.taken, turn=False)
    evicting = budget_after(setup, after)(grown.text, grown.video) is not None
    for name, attention in wanted.items():
        if not evicting and not attention.repeats:
            continue
        ids = probe_ids(setup, attention.probe or "")
        room = setup.budget.reserve - len(ids) - (0 if setup.suffix is None else len(setup.suffix))
        for again in _repeated(parts, room) if attention.repeats else [None]:
            with memory.aside(transaction):
                yield _forward(layout, ids, again, {name: attention})


def _forward(layout: Layout, ids: Sequence[int], again: Tensor | None, wanted: Mapping[str, Attention]) -> Forward:
    """Asks for a run over a probe, and over `again` after it, whose attention the policy is shown."""
    adapter, state, transaction = layout.setup.adapter, layout.state, layout.transaction
    rows = [part.rows for part in layout.question(ids, follows_video=True)]
    if again is not None:
        transaction.text(len(again), state.pending.time)
        rows.append(again)
    return Forward(adapter, adapter.join(rows), state.memory.step(transaction, wanted), state.stopwatch, "compress")


def _repeated(parts: Sequence[Part], room: int) -> Iterator[Tensor]:
    """The content of a block in pieces of at most `room` tokens, text ahead of it left out."""
    for part in parts:
        if not part.text:
            yield from part.rows.split(room)
