"""Rotated keys that are kept for all tokens of an answer, in scratch that the streams of a model share.

What is held does not change between two tokens of an answer, and the answer's own tokens come after it, so keys rotated
for one token serve the next as well. They take as many bytes as the stored keys, so all streams of a model share a
limit. An answer that does not fit has its keys rotated again for each token: the result is the same, but slower. Knows
slots, not what is in them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from torch import Tensor

if TYPE_CHECKING:
    from infinipot.memory.memory import Memory

LIMIT = 256 << 20  # bytes, by default: an answer of a 7B model at 8,192 tokens


class TurnedKeys:
    """The rotated keys of a memory, whose first slots do not change meanwhile.

    Args:
        memory: the memory.
        slots: how many slots of each row, from the first on.
        claim: the claim to their bytes, released together with them.
    """

    def __init__(self, memory: "Memory", slots: int, claim: "Claim") -> None:
        self.claim = claim
        self._known: dict[int, int] = {}
        self._place = memory.place
        self._keys = {group: group.keys.new_empty(group.count, slots, group.shape.head_dim) for group in memory.groups}

    def add(self, layer: int, start: int, keys: Tensor) -> None:
        """Adds the keys of slots from `start` on, `[kv_heads, n, head_dim]`, if those before them are known."""
        if self._known.get(layer) == start:
            group, rows = self._place(layer)
            end = start + keys.shape[1]
            self._keys[group][rows, start:end] = keys
            self._known[layer] = end

    def read(self, layer: int, end: int) -> tuple[int, Tensor]:
        """The number of known slots of a layer, and the keys of the first `end`. The caller fills in those not known
        and calls `filled`."""
        group, rows = self._place(layer)
        return self._known.get(layer, 0), self._keys[group][rows, :end]

    def filled(self, layer: int, end: int) -> None:
        """Marks the first `end` slots of a layer as known."""
        self._known[layer] = end

    def rows(self, layers: Sequence[int], end: int) -> Tensor | None:
        """The keys of the first `end` slots of consecutive layers of a group, if all of them are known; else None."""
        if any(self._known.get(layer, 0) < end for layer in layers):
            return None
        group, first = self._place(layers[0])
        return self._keys[group][first.start : self._place(layers[-1])[1].stop, :end]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Claim:
    """A claim to bytes of the scratch, for as long as the object exists."""

    bytes: int


class AnswerScratch:
    """The scratch for the rotated keys of all answers under way on a model.

    The bytes in use are the sum of the claims that exist, without a counter or a lock: an interrupt at any moment can
    neither leak bytes nor leave anyone waiting.

    Attributes:
        limit: the limit in bytes; 0 for no scratch at all.
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
        """Lets a memory keep the rotated keys of its first slots until exit, if there is room for them."""
        memory.turned = self._allocated(memory, slots)
        try:
            yield
        finally:
            memory.turned = None

    def _allocated(self, memory: "Memory", slots: int) -> TurnedKeys | None:
        """Rotated keys, or None if there is no room for them, within the limit or on the device."""
        claim = Claim(slots * key_bytes(memory))
        self._claims[id(claim)] = claim  # before the sum: of two concurrent answers each counts both
        if self.taken > self.limit:
            return None
        try:
            return TurnedKeys(memory, slots, claim)
        except RuntimeError:
            return None


def key_bytes(memory: "Memory") -> int:
    """The bytes of a token's keys over all layers and KV heads."""
    return sum(group.count * group.shape.head_dim * group.keys.itemsize for group in memory.groups)
