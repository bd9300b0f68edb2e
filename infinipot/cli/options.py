"""Command-line options made from the fields of a configuration: what the library can set, a command can."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

import infinipot
from infinipot import shipped
from infinipot.config import POLICY
from infinipot.errors import PolicyError
from infinipot.numbers import is_finite

if TYPE_CHECKING:
    from infinipot.policies import Policy

F = TypeVar("F", bound=Callable[..., Any])
Option = Callable[[F], F]

_KINDS: dict[Any, type] = {int: int, int | None: int, float: float}  # everything else is text


def options_of(config: type, *names: str, required: Iterable[str] = ()) -> list[Any]:
    """An option for each field of a configuration that says something of itself.

    Args:
        config: a dataclass of this package's config.py.
        names: of the fields; none for all.
        required: fields that have to be given.
    """
    shown = [each for each in fields(config) if "help" in each.metadata]
    chosen = [each for each in shown if not names or each.name in names]
    return [_option(each, required=each.name in set(required)) for each in chosen]


def together(*options: Option[F]) -> Option[F]:
    """A decorator that gives a command all of these options, in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


class Finite(click.FloatRange):
    """A range of numbers, to which neither infinity nor NaN belongs, whatever they are compared with."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        return number if is_finite(number) else self.fail(f"{value} is not a finite number", param, ctx)


class Seconds(click.ParamType):
    """A time in a video, in seconds: 90, 1:30 or 1:02:03.5; "inf" too, where it may be endless."""

    name = "seconds"

    def __init__(self, *, endless: bool = False) -> None:
        self._endless = endless

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = _seconds(str(value).strip())
        if number is None or number < 0 or not (is_finite(number) or (self._endless and number == math.inf)):
            expected = "seconds, such as 90, or minutes and seconds, such as 1:30 or 1:02:03.5"
            self.fail(f"{str(value)!r} is not a time: give {expected}", param, ctx)
        return number


def _seconds(text: str) -> float | None:
    """Returns the seconds of h:mm:ss, m:ss or a number; None for what is none of these."""
    *whole, last = text.split(":")
    try:
        seconds = float(last)
    except ValueError:
        return None
    if not whole:
        return seconds
    parts = [int(part) if part.isascii() and part.isdecimal() else -1 for part in whole]
    if len(parts) > 2 or min(parts) < 0 or max([*parts[1:], seconds]) >= 60 or not last[:1].isdecimal():
        return None
    return sum(60 ** (len(parts) - place) * part for place, part in enumerate(parts)) + seconds


class _Required(click.types.StringParamType):
    """A text that has to be given: where it is not, the error says what it may be."""

    def __init__(self, said: str) -> None:
        self._said = said

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        return f"Give {self._said[:1].lower()}{self._said[1:]}"


class _TextOrNone(click.types.StringParamType):
    """A text, of which one word stands for None."""

    def __init__(self, none: str) -> None:
        self._none = none

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = super().convert(value, param, ctx)
        return None if text == self._none else text


def _option(each: Field[Any], *, required: bool) -> Any:
    text, choices, none = each.metadata["help"], each.metadata.get("choices"), each.metadata.get("none")
    if default := each.metadata.get("default", none):
        text += f"  [default: {default}]"
    kind: Any = click.Choice(choices) if choices else _KINDS.get(each.type, str)
    if none is not None:
        kind = _TextOrNone(none)
    options: dict[str, Any] = {"default": each.default}
    if required:
        kind, options = _Required(text), {"required": True}
    return click.option(
        f"--{each.name.replace('_', '-')}",
        type=kind,
        show_default=not required and each.default is not None,
        metavar=each.metadata.get("metavar"),
        help=text,
        **options,
    )


def policy_of(spec: str) -> Policy:
    """The policy that an option names; one that there is not is wrong usage."""
    try:
        return infinipot.policies.make(spec)
    except PolicyError as error:
        raise click.UsageError(str(error)) from error


policy_option = click.option(
    "--policy",
    default=POLICY,
    show_default=True,
    metavar="POLICY",
    help="Policy: see `infinipot policies`.",
)
world_model_option = click.option(
    "--model",
    default="embedded",
    show_default=True,
    metavar="NAME|FOLDER",
    help=f"A model that knows the synthetic world: {', '.join(shipped.NAMES)}, or a folder.",
)
pixel_options = [
    click.option("--min-pixels", type=click.IntRange(min=1), metavar="N", help="Minimum pixels of a resized frame."),
    click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        metavar="N",
        help="Maximum pixels of a resized frame.  [default: the model's for video]",
    ),
]


def pixels_of(least: int | None, most: int | None) -> tuple[int, int] | None:
    """The values of `pixel_options` as one setting."""
    if (least is None) != (most is None):
        raise click.UsageError("give both --min-pixels and --max-pixels, or neither")
    return None if least is None or most is None else (least, most)
