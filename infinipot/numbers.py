"""Which values are numbers, times and sizes; numpy's included, True and False left out. Knows nothing else."""

import math
from collections.abc import Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, TypeGuard

LATEST = 1e15
"""The latest time, in seconds: above it a float has no tenths, and the value is likely to be in nanoseconds."""
MOST_PIXELS = 1 << 26
"""The largest frame that a setting may ask for or a snapshot may describe."""


def is_real(value: object) -> TypeGuard[float]:
    """Whether it is a real number; bools and `timedelta64`, which is a `Real` to NumPy, are not."""
    is_span = getattr(getattr(value, "dtype", None), "kind", None) == "m"
    return isinstance(value, Real) and not isinstance(value, bool) and not is_span


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float can hold, a `Decimal` too: neither infinite, nor NaN, nor too long.

    Who computes with it turns it into a float first.
    """
    try:
        return (is_real(value) or isinstance(value, Decimal)) and math.isfinite(value)
    except (OverflowError, ValueError):
        return False


def is_endless(value: Any) -> bool:
    """Whether it stands for the end of what is read: None, or infinity."""
    try:
        return value is None or (math.isinf(value) and value > 0)
    except (TypeError, ValueError, OverflowError):  # no number, NaN that signals, a whole number that is too long
        return False


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number."""
    return isinstance(value, Integral) and is_real(value)


def is_whole_pair(value: object) -> bool:
    """Whether it is a sequence of two whole numbers."""
    return isinstance(value, Sequence) and len(value) == 2 and all(map(is_whole, value))


def is_time(value: object) -> TypeGuard[float]:
    """Whether it is a time in a stream: seconds from 0 to `LATEST`."""
    return is_finite(value) and 0 <= value <= LATEST
