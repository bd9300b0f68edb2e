"""Which values are numbers, numpy's included, and True and False left out. Knows nothing else."""

import math
from numbers import Integral, Real
from typing import TypeGuard


def is_real(value: object) -> TypeGuard[float]:
    """Whether it is a number."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float can hold: neither infinite nor NaN, and no whole number that is too long."""
    try:
        return is_real(value) and math.isfinite(value)
    except OverflowError:
        return False


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool)
