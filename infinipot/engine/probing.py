"""Probes: what a policy has the model run over behind a block, to see what it attends to, and forgets again.

A probe stands where a question would, in the slots that the reserve keeps free. It is run when tokens are about to be
evicted, one that repeats its block behind each.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence

from torch import Tensor

from infinipot.engine.layout import Part, asked_behind, keeping
from infinipot.engine.limits import probe_ids
from infinipot.engine.pending import Pending
from infinipot.engine.requests import Forward
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.memory import Draft
from infinipot.policies.attention import Attention


def probe(
    setup: Setup, state: StreamState, draft: Draft, parts: Sequence[Part], pending: Pending
) -> Generator[Forward, Tensor, None]:
    """Has the model run over the probes that the policy asks for, behind a block that it has just run over.

    Args:
        setup, state: of the stream.
        draft: holds the block.
        parts: of the block.
        pending: what waits once the block is part of the memory.
    """
    wanted = {name: each for name, each in setup.policy.attention.items() if each.probe is not None}
    if not wanted or not draft.cells:
        return
    evicting = state.memory.would_evict(draft, keeping(setup, pending))
    for name, attention in wanted.items():
        if not evicting and not attention.repeats:
            continue
        ids = probe_ids(setup, attention.probe or "")
        room = setup.budget.reserve - len(ids) - (0 if setup.suffix is None else len(setup.suffix))
        for again in _repeated(parts, room) if attention.repeats else [None]:
            with state.memory.aside(draft):
                yield _forward(setup, state, draft, ids, again, {name: attention})


def _forward(
    setup: Setup,
    state: StreamState,
    draft: Draft,
    ids: Sequence[int],
    again: Tensor | None,
    wanted: Mapping[str, Attention],
) -> Forward:
    asked = asked_behind(setup, state, draft, ids, follows_video=True)
    if again is not None:
        draft.text(len(again), state.pending.time)
        asked.append(Part(again))
    embeddings = setup.family.join([part.rows for part in asked])
    return Forward(setup.family, embeddings, state.memory.step(draft, wanted), state.stopwatch, "compress")


def _repeated(parts: Sequence[Part], room: int) -> Iterator[Tensor]:
    """The content of a block in pieces of at most `room` tokens, text ahead of it left out."""
    for part in parts:
        if not part.text:
            yield from part.rows.split(room)
