"""What waits for its block, as the last question had the model run over it: the next one begins behind that.

A question sees the patches that wait, and so the model runs over them. Their keys and values stay in the free slots
behind what is held, in which nothing else lies until a block or a remembered turn comes: so it runs for the next
question over those alone that came since. Nothing of this becomes part of the memory: a block is run over when it is
full, as if nobody had asked. The memory knows whether the slots are still as they were left. Layers with a recurrent
state have no slots: streams of such families prepare nothing.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from torch import Tensor

from infinipot.engine.layout import Part, encoded, place
from infinipot.engine.requests import Encode
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.memory import Transaction
from infinipot.models import Patch


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A patch that waits, and what a transaction was behind it.

    Attributes:
        behind: a copy of the transaction, which begins behind what is held.
        parts: those of the patch, without their embeddings.
        frames: that were given until then, if the patch was not full; 0 if it was.
    """

    behind: Transaction
    parts: tuple[Part, ...]
    frames: int = 0


def prepared(state: StreamState) -> tuple[Prepared, ...]:
    """Those of the patches that wait, from the first one on, that need not be run over again."""
    memory, frames = state.memory, state.pending.frames

    def stands(each: Prepared) -> bool:
        return each.behind.tokens <= memory.intact and each.frames in (0, frames)

    return tuple(takewhile(stands, state.prepared))


def prepare(
    setup: Setup, state: StreamState, transaction: Transaction, patches: Sequence[Patch], known: Sequence[Prepared]
) -> Generator[Encode, Tensor, tuple[list[Part], list[Prepared]]]:
    """Has those patches that wait encoded and taken up by a transaction that begins behind those that are known.

    Returns:
        What is to be run over, and what is known of all once that is done.
    """
    made, found = [], list(known)
    full = len(state.pending.patches)
    for patch, cells in zip(patches, (yield from encoded(setup, state, patches)), strict=True):
        parts = place(setup, state, transaction, patch, cells)
        made += parts
        behind = transaction.copy()
        behind.origins.clear()
        told = tuple(part._replace(rows=part.rows.new_empty(0, part.rows.shape[1])) for part in parts)
        found.append(Prepared(behind, told, state.pending.frames if len(found) >= full else 0))
    return made, found


def keep(setup: Setup, state: StreamState, found: Sequence[Prepared]) -> None:
    """Has what a question ran over stay for the next one."""
    if found and setup.adapter.packs:
        state.prepared = tuple(found)
        state.memory.keep(found[-1].behind)
