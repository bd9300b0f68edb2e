"""Rows by the layer that they are of."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TypeVar

from infinipot.tokens import VideoTokens

K = TypeVar("K")


def by_group(tokens: VideoTokens, group: Callable[[int], K]) -> Iterator[tuple[K, slice]]:
    """The rows whose layers are of one group, run by run, with that group.

    Args:
        tokens: whose rows lie layer by layer.
        group: that a layer is of, by the number of the layer.
    """
    start = 0
    for key, run in groupby(map(group, tokens.layer)):
        end = start + len(list(run))
        yield key, slice(start, end)
        start = end
