"""Probes: what a policy has the model run over after a block, to see what it attends to, and forgets again.

A probe stands where a question would, in the slots that the reserve keeps free. It is run when tokens are about to be
evicted, one that repeats its block after each.
"""

from collections.abc import Generator, Iterator

from torch import Tensor

from infinipot.engine.compressing import budget_after
from infinipot.engine.layout import Layout
from infinipot.engine.limits import probe_ids
from infinipot.engine.pending import Pending
from infinipot.engine.requests import Forward


def probe(layout: Layout, after: Pending, turn: int = 0) -> Generator[Forward, Tensor, None]:
    """Has the model run over the probes that the policy asks for, after what it has just run over.

    Args:
        layout: holds that, and is to become part of the memory.
        after: what waits then.
        turn: tokens of text that may become part of the memory with it.
    """
    setup, memory = layout.setup, layout.state.memory
    if not setup.probes:
        return
    grown = memory.state.with_transaction(layout.transaction.taken, turn=False)
    evicting = budget_after(setup, after)(grown.text + turn, grown.video) is not None
    for name, attention in setup.probes.items():
        if not evicting and not attention.repeats:
            continue
        ids = probe_ids(setup, attention.probe or "")
        room = setup.budget.reserve - len(ids) - (0 if setup.suffix is None else len(setup.suffix))
        for again in _pieces(layout, room) if attention.repeats else [None]:
            with layout.aside():
                layout.add_question(ids, follows_video=True)
                if again is not None:
                    layout.transaction.text(len(again), layout.state.pending.time)
                    layout.add(again)
                yield layout.forward("compress", {name: attention})


def _pieces(layout: Layout, room: int) -> Iterator[Tensor]:
    """The patches of a block in pieces of at most `room` tokens, without the text ahead of them."""
    for rows in layout.patches:
        yield from rows.split(room)
