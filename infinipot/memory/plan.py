"""A change of a memory that is ready to be made. Applying it can be done again as often as it is interrupted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from infinipot.memory.held import Held
from infinipot.memory.merging import Merging
from infinipot.memory.moves import Moves
from infinipot.memory.prefix import unlike_any
from infinipot.memory.storage import Rows

_ATTEMPTS = 4  # to finish a change, for a user who is in a hurry to interrupt


@dataclass(slots=True)
class Plan:
    """A change that is ready to be applied, as often as it takes.

    Attributes:
        after: what is held then.
        columns: new contents of the first slots of some columns, for each group, before anything moves.
        merging: evicted tokens that go into kept ones, before anything moves.
        moves: of slots, for each group of rows.
        prefix: tells what is held then; see prefix.py.
        on_applied: called when the change is made.
        begun: whether applying began: from then on there is no way back.
    """

    after: Held
    columns: Sequence[Mapping[str, Tensor]] = ()
    merging: Sequence[Merging] = ()
    moves: Sequence[Moves] = ()
    prefix: bytes = field(default_factory=unlike_any)
    on_applied: Callable[[], None] = lambda: None
    begun: bool = False

    def move(self, groups: Sequence[Rows]) -> None:
        """Changes what the slots store. It can be repeated from its beginning, with the same result."""
        self.begun = True
        for group, columns in zip(groups, self.columns, strict=False):
            for name, content in columns.items():
                group.columns[name][:, : content.shape[1]] = content
        for merging in self.merging:
            merging.make()
        for group, moves in zip(groups, self.moves, strict=False):
            group.move(moves)


def finished(change: Callable[[], None]) -> None:
    """Makes a change from which there is no way back, again where something interrupts it.

    What interrupts it is raised when it is made.
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
