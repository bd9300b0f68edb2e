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

from infinipot.engine.layout import LaidOut, Layout
from infinipot.engine.requests import Encode
from infinipot.engine.state import StreamState
from infinipot.models import Patch


@dataclass(frozen=True, slots=True, eq=False)
class Prefilled:
    """A patch that waits, and whose keys and values lie in free slots, after those of the ones before it.

    Attributes:
        end: what was laid out with the patch, for another layout to go on from.
        frames: of a patch that was not full, how many had been given to the stream; 0 of one that was.
    """

    end: LaidOut
    frames: int = 0


def reusable(state: StreamState) -> tuple[Prefilled, ...]:
    """The waiting patches, from the first one on, that the model need not run over again."""
    intact, frames = state.memory.intact, state.pending.frames
    return tuple(
        takewhile(lambda each: each.end.taken.tokens <= intact and each.frames in (0, frames), state.prefilled)
    )


def lay_out_rest(
    layout: Layout, patches: Sequence[Patch], known: Sequence[Prefilled]
) -> Generator[Encode, Tensor, list[Prefilled]]:
    """Has the patches that wait after those that are known encoded, and laid out where those end.

    Returns:
        What all that wait will be once the model has run over these.
    """
    found, pending = list(known), layout.state.pending
    for patch, cells in zip(patches, (yield from layout.encoded(patches)), strict=True):
        layout.add_patch(patch, cells)
        found.append(Prefilled(layout.so_far, pending.frames if len(found) >= len(pending.patches) else 0))
    return found


def retain(layout: Layout, found: Sequence[Prefilled]) -> None:
    """Has what the model has just run over stay for the next question.

    What interrupts this in between does no harm: until the memory says more, what was known before is intact.
    """
    if found and layout.setup.adapter.packs:
        layout.state.prefilled = tuple(found)
        layout.state.memory.retain(found[-1].end.taken)
