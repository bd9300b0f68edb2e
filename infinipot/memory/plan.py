"""A planned change of a memory. Applying it can be repeated as often as it is interrupted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from infinipot.memory.held import Held
from infinipot.memory.merging import Merging
from infinipot.memory.moves import Moves
from infinipot.memory.prefix import unlike_any
from infinipot.memory.storage import Rows

_ATTEMPTS = 4  # to finish a change while the user keeps interrupting


@dataclass(slots=True)
class Plan:
    """A change that is ready to be applied, as often as it takes.

    Attributes:
        after: what is held afterwards.
        columns: for each group, new contents of the first slots of some columns, written before anything moves.
        merging: merges of evicted tokens into kept ones, done before anything moves.
        moves: the moves of slots, for each group of rows.
        prefix: the digest of what is held afterwards; see prefix.py.
        on_applied: called when the change is made.
        begun: whether applying has begun: from then on the change must be finished.
    """

    after: Held
    columns: Sequence[Mapping[str, Tensor]] = ()
    merging: Sequence[Merging] = ()
    moves: Sequence[Moves] = ()
    prefix: bytes = field(default_factory=unlike_any)
    on_applied: Callable[[], None] = lambda: None
    begun: bool = False

    def move(self, groups: Sequence[Rows]) -> None:
        """Changes what the slots store. It can be repeated from the start, with the same result."""
        self.begun = True
        for group, columns in zip(groups, self.columns, strict=False):
            for name, content in columns.items():
                group.columns[name][:, : content.shape[1]] = content
        for merging in self.merging:
            merging.make()
        for group, moves in zip(groups, self.moves, strict=False):
            group.move(moves)


def finished(change: Callable[[], None]) -> None:
    """Makes a change that must be finished, and repeats it if it is interrupted.

    The interrupt is raised once the change is complete.
    """
    interrupted: BaseException | None = None
    for _ in range(_ATTEMPTS):
        try:
            change()
            break
        except BaseException as error:
            interrupted = interrupted or error
    if interrupted is not None:
        raise interrupted
