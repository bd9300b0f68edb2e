"""Patches that wait for their block, and that a question has had the model run over: the next one begins after them.

A question sees the patches that wait, and so the model has to run over them before their block is full:

    what is held | patch | patch | half a patch | question, answer
                 `--- free slots of the memory ---------------------

Their keys and values depend on nothing that comes after them. So they stay in those slots, and the next question has
the model run over what came since alone. It is a cache: nothing of it becomes part of the memory, and a block is run
over when it is full, as if nobody had asked. What may be reused is decided in two places:

- `Memory.intact` says how many of the slots are as they were left: any change of the memory, by a block, by a turn or
  by re-basing, sets it to none, and a step that writes into those slots lowers it.
- `reusable` passes over half a patch that has grown since.

Layers with a recurrent state have no slots to leave it in: streams of such families reuse nothing.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from torch import Tensor

from infinipot.engine.layout import Layout, Part
from infinipot.engine.requests import Encode
from infinipot.engine.state import StreamState
from infinipot.memory import Taken
from infinipot.models import Patch


@dataclass(frozen=True, slots=True, eq=False)
class Prefilled:
    """A patch that waits, and whose keys and values lie in free slots, after those of the ones before it.

    Attributes:
        end: what the transaction had taken up with the patch, for another one to begin with.
        parts: those of the patch, without their embeddings: what text is in it.
        frames: of a patch that was not full, how many had been given to the stream; 0 of one that was.
    """

    end: Taken
    parts: tuple[Part, ...]
    frames: int = 0


def reusable(state: StreamState) -> tuple[Prefilled, ...]:
    """The waiting patches, from the first one on, that the model need not run over again."""
    intact, frames = state.memory.intact, state.pending.frames
    return tuple(takewhile(lambda each: each.end.tokens <= intact and each.frames in (0, frames), state.prefilled))


def lay_out_rest(
    layout: Layout, patches: Sequence[Patch], known: Sequence[Prefilled]
) -> Generator[Encode, Tensor, tuple[list[Part], list[Prefilled]]]:
    """Has the patches that wait after those that are known encoded, and laid out where those end.

    Returns:
        What is to be run over, and what all that wait will be once that is done.
    """
    parts, found, pending = [], list(known), layout.state.pending
    for patch, cells in zip(patches, (yield from layout.encoded(patches)), strict=True):
        placed = layout.patch(patch, cells)
        parts += placed
        end = layout.transaction.taken.after_forward()  # which comes before anybody begins there
        frames = pending.frames if len(found) >= len(pending.patches) else 0
        found.append(Prefilled(end, tuple(map(_without_rows, placed)), frames))
    return parts, found


def _without_rows(part: Part) -> Part:
    """A part without its embeddings: a slice of them would keep all of them on the device."""
    return part._replace(rows=part.rows.new_empty(0))


def retain(layout: Layout, found: Sequence[Prefilled]) -> None:
    """Has what the model has just run over stay for the next question.

    What interrupts this in between does no harm: until the memory says more, what was known before is intact.
    """
    if found and layout.setup.adapter.packs:
        layout.state.prefilled = tuple(found)
        layout.state.memory.retain(found[-1].end)
