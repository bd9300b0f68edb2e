"""Keys as attention reads them, turned once for all tokens of an answer: scratch that the streams of a model share.

Between two tokens of an answer nothing changes of what is held, and the answer's own tokens come after it: keys that
were turned to their positions for one token are what the next one reads. Kept, they take as much as the keys that are
stored. So there is a bound for all streams of a model together, and an answer that finds no room beneath it has its
keys turned again for each token, as a block has: slower, to the same end. Knows slots, not what is in them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from torch import Tensor

if TYPE_CHECKING:
    from infinipot.memory.memory import Memory

LIMIT = 256 << 20  # bytes, where nobody says: an answer of a 7B model at 8,192 tokens


class TurnedKeys:
    """The turned keys of one memory, whose first slots do not change meanwhile.

    Args:
        memory: whose keys they are.
        slots: of each row, from the first on.
        claim: to the bytes that they take, given up with them.
    """

    def __init__(self, memory: "Memory", slots: int, claim: "Claim") -> None:
        self.claim = claim
        self._known: dict[int, int] = {}
        self._place = memory.place
        self._keys = {group: group.keys.new_empty(group.count, slots, group.shape.head_dim) for group in memory.groups}

    def add(self, layer: int, start: int, keys: Tensor) -> None:
        """Takes the keys of slots from `start` on, `[kv_heads, n, head_dim]`, where those before them are known."""
        if self._known.get(layer) == start:
            group, rows = self._place(layer)
            end = start + keys.shape[1]
            self._keys[group][rows, start:end] = keys
            self._known[layer] = end

    def read(self, layer: int, end: int) -> tuple[int, Tensor]:
        """How many slots of a layer are known, and the keys of the first `end`: the caller fills in the others, and
        calls `filled`."""
        group, rows = self._place(layer)
        return self._known.get(layer, 0), self._keys[group][rows, :end]

    def filled(self, layer: int, end: int) -> None:
        """Notes that the first `end` slots of a layer are known now."""
        self._known[layer] = end

    def rows(self, layers: Sequence[int], end: int) -> Tensor | None:
        """The keys of the first `end` slots of layers that follow one another in a group, if all of them are known."""
        if any(self._known.get(layer, 0) < end for layer in layers):
            return None
        group, first = self._place(layers[0])
        return self._keys[group][first.start : self._place(layers[-1])[1].stop, :end]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Claim:
    """So many bytes of the scratch, as long as anything holds it."""

    bytes: int


class AnswerScratch:
    """What the answers that are under way on one model may take together for turned keys.

    It is counted by what exists, not by a number that goes up and down, nor under a lock: whatever interrupts an answer
    at whatever instant can so leave no bytes taken for good, and nobody waiting.

    Attributes:
        limit: in bytes; 0 for none.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._claims = WeakValueDictionary[int, Claim]()

    @property
    def taken(self) -> int:
        """Bytes in use now."""
        claims = [claim() for claim in self._claims.valuerefs()]
        return sum(claim.bytes for claim in claims if claim is not None)

    @contextmanager
    def lent(self, memory: "Memory", slots: int) -> Iterator[None]:
        """Inside, a memory keeps the turned keys of its first slots, if there is room for so many of them."""
        memory.turned = self._allocated(memory, slots)
        try:
            yield
        finally:
            memory.turned = None

    def _allocated(self, memory: "Memory", slots: int) -> TurnedKeys | None:
        """Turned keys, or None where they find no room, here or on the device: an answer does without."""
        claim = Claim(slots * key_bytes(memory))
        self._claims[id(claim)] = claim  # ahead of the sum: of two at a time both are counted by either
        if self.taken > self.limit:
            return None
        try:
            return TurnedKeys(memory, slots, claim)
        except RuntimeError:
            return None


def key_bytes(memory: "Memory") -> int:
    """Bytes of the keys of a token over all layers and KV heads."""
    return sum(group.count * group.shape.head_dim * group.keys.itemsize for group in memory.groups)
