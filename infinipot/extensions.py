"""Policies and model families that other installed packages bring, as entry points in their metadata.

    [project.entry-points."infinipot.policies"]
    newest = "street_policies:Newest"        # the policy's own name

    [project.entry-points."infinipot.models"]
    street = "street_policies.vl:StreetVL"   # any name

Looking up which there are imports nothing; a class is imported when it is asked for. Knows neither policies nor models.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from typing import Any

from infinipot.errors import InfinipotError

POLICIES, MODELS = "infinipot.policies", "infinipot.models"


@cache
def found(group: str) -> dict[str, EntryPoint]:
    """Returns the entry points of a group by name, those of installed packages at the first call."""
    return {point.name: point for point in entry_points(group=group)}


def load(point: EntryPoint, kind: type, error: type[InfinipotError]) -> type[Any]:
    """Imports the class that an entry point names.

    Raises:
        error: importing it fails, for whatever reason, or it is no complete subclass of `kind`; the message says which
            package it is of, and why, in one line.
    """
    try:
        loaded = point.load()
    except Exception as failure:
        raise error(_broken(point, f"{type(failure).__name__}: {' '.join(str(failure).split())}")) from failure
    if not (isinstance(loaded, type) and issubclass(loaded, kind)):
        raise error(_broken(point, f"it is not a subclass of {kind.__name__}"))
    if isabstract(loaded):
        absent = (name for name in dir(loaded) if getattr(getattr(loaded, name), "__isabstractmethod__", False))
        raise error(_broken(point, f"it has no {' and no '.join(absent)}"))
    return loaded


def origin(point: EntryPoint) -> str:
    """The package that an entry point is of, for messages."""
    return f"the package {point.dist.name}" if point.dist else "an unnamed package"


def _broken(point: EntryPoint, why: str) -> str:
    return f"{point.group}: {point.name} = {point.value} of {origin(point)} cannot be used: {why}"
