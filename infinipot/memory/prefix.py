"""Digests that tell which memories hold the same, without reading keys and values.

A model's keys and values are determined by its input and the positions. So each token added to a memory extends a
digest of all tokens before it, as engines identify shared prefixes by a hash of their tokens (e.g. vLLM's automatic
prefix caching, arXiv 2309.06180): memories of one model with the same digest hold the same in the same slots. Once
tokens have left or moved, the input no longer determines what is held, and the memory gets a unique digest.
"""

from hashlib import blake2b
from itertools import count

from torch import Tensor

EMPTY = b""  # the digest of a memory that holds nothing

Content = tuple[object, ...]  # numbers and texts that identify what tokens were made of

_numbers = count()


def unlike_any() -> bytes:
    """A digest that is unique in this process."""
    return next(_numbers).to_bytes(8, "big")


def extended(prefix: bytes, content: Content | None, positions: Tensor) -> bytes:
    """The digest after more tokens.

    Args:
        prefix: the digest before them.
        content: identifies what they were made of; None if nothing does, so that the digest is unique.
        positions: `[3, n]` int64, on the CPU.
    """
    if content is None:
        return unlike_any()
    digest = blake2b(prefix, digest_size=16)
    digest.update(repr((len(prefix), positions.shape[1], content)).encode())
    digest.update(positions.numpy().tobytes())
    return digest.digest()
