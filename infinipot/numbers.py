"""Which values are numbers, numpy's included. Knows nothing else."""

from numbers import Integral, Real


def is_real(value: object) -> bool:
    """Whether it is a number, numpy's included."""
    return isinstance(value, Real)


def is_whole(value: object) -> bool:
    """Whether it is a whole number, numpy's included."""
    return isinstance(value, Integral)
