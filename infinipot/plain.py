"""Frozen dataclasses as what JSON can hold, and back, with arrays set aside. Knows no class: annotations say all.

What comes back is of the types that are annotated, whatever was read: whole numbers that every reader of JSON keeps,
finite numbers, all fields and no others. Whether the values make sense is for others to say.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from infinipot.numbers import is_finite

_LARGEST = 1 << 53  # beyond it not every JSON reader keeps whole numbers


class PlainError(ValueError):
    """What was read is not what the annotations say."""


def to_plain(value: Any, name: str, arrays: dict[str, Tensor]) -> Any:
    """What JSON can hold of a value.

    Args:
        name: of the value.
        arrays: takes up arrays and tensors in the value, each under the names that lead to it.
    """
    if isinstance(value, Tensor | np.ndarray):
        arrays[name] = torch.as_tensor(value)
        return None
    if isinstance(value, slice):
        return [value.start, value.stop]
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [to_plain(each, f"{name}.{number}", arrays) for number, each in enumerate(value)]
    if isinstance(value, dict):
        return {key: to_plain(each, f"{name}.{key}", arrays) for key, each in value.items()}
    if is_dataclass(value):
        return {key: to_plain(getattr(value, own), f"{name}.{key}", arrays) for key, own in _keys(value).items()}
    if isinstance(value, Real) and not isinstance(value, int | float):
        return int(value) if isinstance(value, Integral) else float(value)
    return value


def from_plain(hint: Any, plain: Any, name: str, arrays: Callable[[str], Tensor]) -> Any:
    """The value of which `to_plain` made this.

    Args:
        hint: its annotation.
        plain: what was read.
        name: of the value.
        arrays: gives an array by its name.

    Raises:
        PlainError: it is not of its type.
    """
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return _one_of(parts, plain, name, arrays)
    if kind in (Tensor, np.ndarray):
        return arrays(name) if kind is Tensor else arrays(name).numpy()
    if kind in (tuple, frozenset) and isinstance(plain, list):
        hints = parts * len(plain) if kind is frozenset else _each(parts, plain, name)
        return kind(
            from_plain(each, value, f"{name}.{number}", arrays)
            for number, (each, value) in enumerate(zip(hints, plain, strict=True))
        )
    if kind is slice and isinstance(plain, list):
        return slice(*from_plain(tuple[int, int], plain, name, arrays))
    if kind is dict and isinstance(plain, dict):
        return {key: from_plain(parts[1], value, f"{name}.{key}", arrays) for key, value in plain.items()}
    if is_dataclass(kind) and isinstance(plain, dict):
        return _dataclass(kind, plain, name, arrays)
    if kind is float and type(plain) in (int, float) and is_finite(plain):
        return float(plain)
    if kind is int and type(plain) is int and abs(plain) < _LARGEST:
        return plain
    if kind in (str, bool, NoneType) and type(plain) is kind:
        return plain
    raise PlainError(f"{name} is not of type {getattr(kind, '__name__', kind)}")


def _dataclass(kind: Any, plain: Mapping[str, Any], name: str, arrays: Callable) -> Any:
    hints, keys = get_type_hints(kind), _keys(kind)
    if set(plain) != set(keys):
        raise PlainError(f"{name} has other fields than {', '.join(keys)}")
    return kind(**{own: from_plain(hints[own], plain[key], f"{name}.{key}", arrays) for key, own in keys.items()})


def _keys(kind: Any) -> dict[str, str]:
    """The fields of a dataclass by their keys in a file: the name of each, or, where it was renamed, what its metadata
    call `saved_as`. A field that is saved as None is not in the file: it has a default."""
    keys = ((each.metadata.get("saved_as", each.name), each.name) for each in fields(kind))
    return {key: own for key, own in keys if key is not None}


def _one_of(parts: tuple[Any, ...], plain: Any, name: str, arrays: Callable) -> Any:
    """The value of the first annotation that fits; a dataclass with the right fields is the only one that is tried."""
    same = [part for part in parts if is_dataclass(part) and isinstance(plain, dict) and {*_keys(part)} == {*plain}]
    message = ""
    for part in same or parts:
        try:
            return from_plain(part, plain, name, arrays)
        except PlainError as error:
            message = str(error)  # the error itself would hold on to this frame, and what it sees
    raise PlainError(message)


def _each(parts: tuple[Any, ...], plain: list[Any], name: str) -> tuple[Any, ...]:
    """The annotation of each element of a tuple."""
    if parts[-1] is Ellipsis:
        return (parts[0],) * len(plain)
    if len(parts) != len(plain):
        raise PlainError(f"{name} has {len(plain)} parts, not {len(parts)}")
    return parts
