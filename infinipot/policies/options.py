"""Options of policies: their types, their possible values, and how they are written as text.

An option is a field of the policy's dataclass, and its annotation defines it: a `Literal` of names, a `Share`, a
`Count`, an `Exponent`, `Words`, a `bool`, a `float`, or one of these or `None`, as in `Count | None`, which is written
`none`. Knows nothing of any particular policy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import accumulate
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from infinipot.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Between:
    """A range of numbers, both ends included."""

    low: float
    high: float = math.inf

    def __str__(self) -> str:
        return f"{self.low:g} or more" if self.high == math.inf else f"from {self.low:g} to {self.high:g}"

    def holds(self, value: float) -> bool:
        """Whether the number is in the range."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class OddNumber:
    """Any odd number, 1 or more."""

    def __str__(self) -> str:
        return "that is odd, 1 or more"

    def holds(self, value: float) -> bool:
        """Whether the number is odd."""
        return value >= 1 and value % 2 == 1


@dataclass(frozen=True, slots=True)
class Bracketed:
    """A text that is written in brackets if it has commas or colons, so that a spec can be split into options."""

    meaning: str

    def __str__(self) -> str:
        return self.meaning

    def holds(self, text: str) -> bool:
        """Whether the text can be read back from a spec."""
        depths = list(accumulate((letter == "[") - (letter == "]") for letter in text))
        return text == text.strip() and text[:1] != "[" and min(depths, default=0) >= 0 and (depths or [0])[-1] == 0


Share = Annotated[float, Between(0, 1)]
Count = Annotated[int, Between(0)]
Positive = Annotated[int, Between(1)]
Ratio = Annotated[float, Between(1)]
Odd = Annotated[int, OddNumber()]
Inner = Annotated[str, Bracketed("a policy, by name or as [name:option=value,...]")]
Words = Annotated[str, Bracketed("a text, as [words, and more words] where it has commas or colons, without brackets")]
Exponent = Annotated[float, Between(0, 16)]  # of norms: higher powers may overflow float32

_NONE = "none"
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def hints(policy: type) -> Mapping[str, Any]:
    """The annotation of each option of a policy, by name, in order."""
    annotations = get_type_hints(policy, include_extras=True)
    return {field.name: annotations[field.name] for field in fields(policy)}


def require_known(policy: type) -> None:
    """Checks that every option of a policy can be given as text, and so on the command line.

    Raises:
        PolicyError: an option has another type.
    """
    for option, hint in hints(policy).items():
        if not _known(hint):
            written = hint.__name__ if type(hint) is type else hint
            raise PolicyError(
                f"{getattr(policy, 'name', policy.__name__)}: its option {option} is of a type that cannot be written "
                f"as text, {written}: make it a bool, int, float or str, a Literal, one of Share, Count, Positive, "
                "Ratio, Odd, Exponent and Words, or one of these or None"
            )


def check(policy: Any) -> None:
    """Raises PolicyError if an option of the policy (an instance) has an impossible value."""
    for option, hint in hints(type(policy)).items():
        value = getattr(policy, option)
        if not _accepts(hint, value):
            raise PolicyError(f"{policy.name}: {option}={value!r} is not possible: it is {possible(hint)}")


def possible(hint: Any) -> str:
    """A description of the possible values of an option."""
    if (given := _optional(hint)) is not None:
        return f"{possible(given)}, or none"
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    base, *limits = _unpacked(hint)
    if base is str and limits:
        return str(limits[0])
    return " ".join([_WORDS.get(base, str(base)), *map(str, limits)])


def from_text(hint: Any, text: str) -> Any:
    """The value that a text stands for; the text itself if there is none, so that `check` refuses it."""
    if (given := _optional(hint)) is not None:
        return None if text.lower() == _NONE else from_text(given, text)
    if get_origin(hint) is Literal:
        return next((value for value in get_args(hint) if to_text(value) == text), text)
    base, *limits = _unpacked(hint)
    try:
        if base is bool:
            return {"true": True, "false": False}[text.lower()]
        if isinstance(limits[0] if limits else None, Bracketed):
            return text[1:-1].strip() if text[:1] == "[" and text[-1:] == "]" else text
        return base(text) if base in (int, float) else text
    except (ValueError, KeyError):
        return text


def to_text(value: Any) -> str:
    """The text that `from_text` reads back as the value."""
    if isinstance(value, str) and ("," in value or ":" in value):
        return f"[{value}]"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _accepts(hint: Any, value: Any) -> bool:
    if (given := _optional(hint)) is not None:
        return value is None or (value != _NONE and _accepts(given, value))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    base, *limits = _unpacked(hint)
    if base in (int, float):
        number = isinstance(value, int if base is int else int | float) and not isinstance(value, bool)
        return number and all(limit.holds(value) for limit in limits)
    return base not in _WORDS or (isinstance(value, base) and all(limit.holds(value) for limit in limits))


def split(text: str) -> list[str]:
    """Splits a text at commas outside brackets; empty parts are left out."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _known(hint: Any) -> bool:
    """Whether an option may have this type."""
    if (given := _optional(hint)) is not None:
        return _known(given)
    base, *limits = _unpacked(hint)
    return get_origin(hint) is Literal or (base in _WORDS and all(hasattr(limit, "holds") for limit in limits))


def _optional(hint: Any) -> Any:
    """`X | None` -> `X`; None for any other annotation."""
    if get_origin(hint) not in (Union, UnionType):
        return None
    others = [each for each in get_args(hint) if each is not NoneType]
    return others[0] if len(others) == 1 < len(get_args(hint)) else None


def _unpacked(hint: Any) -> tuple[Any, ...]:
    """`Annotated[int, Between(0)]` -> `(int, Between(0))`; any other annotation -> `(annotation,)`."""
    return get_args(hint) if get_origin(hint) is Annotated else (hint,)
