"""Which memories hold the same, told without looking at their keys and values.

A model's keys and values follow from what it is given and where that stands. So each token that a memory takes up
extends a digest of all before it, as engines tell shared prefixes by a hash of their tokens (vLLM's automatic prefix
caching, arXiv 2309.06180, does): memories of one model with one digest hold the same in the same slots. What can no
longer be told by what was given, because tokens left or moved, gets a digest of its own.
"""

from hashlib import blake2b
from itertools import count

from torch import Tensor

EMPTY = b""  # the digest of a memory that holds nothing

Content = tuple[object, ...]  # numbers and texts that tell what tokens were made of

_numbers = count()


def unlike_any() -> bytes:
    """A digest that nothing else has or will have in this process."""
    return next(_numbers).to_bytes(8, "big")


def extended(prefix: bytes, content: Content | None, positions: Tensor) -> bytes:
    """The digest after more tokens.

    Args:
        prefix: the digest before them.
        content: what they were made of; None where nobody can tell, and so nothing is like it.
        positions: `[3, n]` int64, on the CPU.
    """
    if content is None:
        return unlike_any()
    told = blake2b(prefix, digest_size=16)
    told.update(repr((len(prefix), positions.shape[1], content)).encode())
    told.update(positions.numpy().tobytes())
    return told.digest()
