"""Rows grouped by layer."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TypeVar

from infinipot.tokens import VideoTokens

K = TypeVar("K")


def by_group(tokens: VideoTokens, group: Callable[[int], K]) -> Iterator[tuple[K, slice]]:
    """Consecutive rows whose layers are in the same group, each run with its group.

    Args:
        tokens: their rows are in order of layers.
        group: maps the number of a layer to its group.
    """
    start = 0
    for key, run in groupby(map(group, tokens.layer)):
        end = start + len(list(run))
        yield key, slice(start, end)
        start = end
