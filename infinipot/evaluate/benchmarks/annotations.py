"""Reading what others wrote: annotation files whose every field may be missing, wrong or hostile.

Whatever a file holds is either usable or a sentence that says why it is not; nothing else is ever raised.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infinipot import extras
from infinipot.errors import BenchmarkError
from infinipot.evaluate.records import LETTERS, Problem
from infinipot.numbers import is_real, is_whole

_LONGEST_SHOWN = 60


class UnusableError(Exception):
    """An annotation that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An annotation: a JSON value, and where it stands. A field of another type than is asked for is an
    `UnusableError`.

    Attributes:
        value: whatever stands there.
        where: the file and the place in it, as messages name them.
        source: the name of the file without its ending; of a part of an annotation, that annotation's index.
        index: its place in `source`, from 0 on.
    """

    value: Any
    where: str = ""
    source: str = ""
    index: int = 0

    def get(self, name: str) -> Any:
        """The field's value; None where it is missing or null."""
        if not isinstance(self.value, dict):
            raise UnusableError(f"is {_kind(self.value)}, not an object with fields")
        return self.value.get(name)

    def text(self, name: str, default: str | None = None) -> str:
        """A text that is not blank; `default`, if given, where it is missing or blank."""
        value = self._given(name, default)
        if isinstance(value, str) and not value.strip() and default is not None:
            return default
        return _text(value, f'"{name}"')

    def one_of(self, name: str, possible: Sequence[str]) -> str:
        """One of the possible texts."""
        value = self.text(name)
        if value not in possible:
            raise UnusableError(f'"{name}" is {shown(value)}; possible: {", ".join(possible)}')
        return value

    def option(self, name: str) -> str:
        """The text of an option: a number becomes one, as in `texts`."""
        return _option(self._given(name), f'"{name}"')

    def label(self, name: str) -> str:
        """A short name of something: a text, or a whole number."""
        value = self._given(name)
        return str(value) if is_whole(value) else _text(value, f'"{name}"')

    def seconds(self, name: str) -> float:
        """A time from 0 on: a number, or a text such as "754.5", "12:34" or "0:12:34"."""
        return parse_seconds(self._given(name), f'"{name}"')

    def whole(self, name: str) -> int:
        """A whole number."""
        value = self._given(name)
        if not is_whole(value):
            raise UnusableError(f'"{name}" is {_kind(value)}, not a whole number')
        return int(value)

    def choice(self, name: str, options: Sequence[str]) -> str:
        """The letter of the right option, which is given by its number from 0 on."""
        index = self.whole(name)
        if not 0 <= index < len(options):
            raise UnusableError(f'"{name}" is {shown(index)}; there are options 0 to {len(options) - 1}')
        return LETTERS[index]

    def letter(self, name: str, options: Sequence[str]) -> str:
        """The letter of the right option, which is given as such."""
        value = self.text(name).strip()
        if value not in LETTERS[: len(options)] or len(value) != 1:
            raise UnusableError(f'"{name}" is {shown(value)}; one of {", ".join(LETTERS[: len(options)])} was expected')
        return value

    def values(self, name: str) -> list[Any]:
        """The values of a list."""
        value = self.get(name)
        if value is None:
            raise UnusableError(f'has no list "{name}"')
        if not isinstance(value, list | tuple):
            raise UnusableError(f'"{name}" is {_kind(value)}, not a list')
        return list(value)

    def some(self, name: str) -> list[Any]:
        """The values of a list, which must not be empty."""
        if values := self.values(name):
            return values
        raise UnusableError(f'"{name}" is an empty list')

    def texts(self, name: str) -> tuple[str, ...]:
        """The options of a question: at least two, and no more than there are letters. Numbers become texts."""
        values = self.values(name)
        if not 2 <= len(values) <= len(LETTERS):
            raise UnusableError(f'"{name}" holds {len(values)} options; 2 to {len(LETTERS)} are possible')
        return tuple(_option(option, f'"{name}"[{index}]') for index, option in enumerate(values))

    def parts(self, name: str) -> list["Entry"]:
        """The annotations in the list `name`, each with the fields of this one that it lacks."""
        values = self.values(name)
        shared = {field: other for field, other in self.value.items() if field != name}
        wholes = [shared | value if isinstance(value, dict) else value for value in values]
        return [
            Entry(whole, f'{self.where} "{name}"[{place}]', str(self.index), place)
            for place, whole in enumerate(wholes)
        ]

    def at(self, name: str, place: int, /, **fields: Any) -> "Entry":
        """This annotation for one place of its list `name`: `fields` are added, or take the place of its own."""
        return replace(self, value=self.value | fields, where=f'{self.where} "{name}"[{place}]')

    def _given(self, name: str, default: Any = None) -> Any:
        value = self.get(name)
        if value is None and default is None:
            raise UnusableError(f'has no "{name}"')
        return default if value is None else value


def read_rows(
    path: Path, data: Path, columns: Sequence[str] = (), instead: str | None = None
) -> Iterator[Entry | Problem]:
    """The annotations in a file: a list in JSON, the rows of a CSV file with a heading, or those of a Parquet file.

    Args:
        path: of the file.
        data: the data folder.
        columns: the columns of a Parquet file that are read, where they exist; empty for all.
        instead: the JSON file in `data` that the error names as another way, where pyarrow is missing; by default the
            one beside `path`.

    Raises:
        BenchmarkError: it is Parquet, and pyarrow is not installed.
    """
    if path.suffix == ".parquet" and extras.missing("eval"):
        needed = f"{path} is read by pyarrow, which is not installed: {extras.how_to_install('eval')}"
        other = data / instead if instead else path.with_suffix(".json")
        raise BenchmarkError(f"{needed}, or put the same rows beside it as {other}")
    where = path.relative_to(data).as_posix()
    place = "{}[{}]" if path.suffix == ".json" else "{} row {}"
    begin = 0 if path.suffix == ".json" else 1
    try:
        rows = _parquet_rows(path, columns) if path.suffix == ".parquet" else _TEXT_ROWS[path.suffix](read_text(path))
    except UnusableError as error:
        yield Problem(where, str(error))
        return
    for index, row in enumerate(rows):
        yield Entry(row, place.format(where, index + begin), path.stem, index)


def parse_json(content: str) -> Any:
    """The value that a text holds as JSON.

    Raises:
        UnusableError: it is no JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnusableError(f"cannot be read as JSON ({error})") from None


def _json_rows(content: str) -> list[Any]:
    value = parse_json(content)
    if not isinstance(value, list):
        raise UnusableError(f"holds {_kind(value)}, not a list of annotations")
    return value


def _csv_rows(content: str) -> list[Any]:
    try:
        return list(csv.DictReader(io.StringIO(content, newline="")))
    except csv.Error as error:
        raise UnusableError(f"cannot be read as CSV ({error})") from None


_TEXT_ROWS = {".json": _json_rows, ".csv": _csv_rows}


def _parquet_rows(path: Path, columns: Sequence[str]) -> list[Any]:
    import pyarrow  # of the extra "eval"
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        there = [name for name in columns or table.column_names if name in table.column_names]
        return list(table.select(there).to_pylist())
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UnusableError(f"cannot be read as Parquet ({why})") from None


def read_text(path: Path) -> str:
    """Reads a text file in UTF-8.

    Raises:
        UnusableError: it cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UnusableError(f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UnusableError("is not text in UTF-8") from None


def parse_seconds(value: Any, what: str) -> float:
    """Seconds from 0 on: a number, or a text such as "754.5", "12:34" or "0:12:34".

    Raises:
        UnusableError: it is not a time; the message calls it `what`.
    """
    seconds = math.nan
    try:
        if isinstance(value, str):
            parts = [float(part) for part in value.strip().split(":")]
            if len(parts) <= 3 and all(part >= 0 for part in parts):
                seconds = sum(part * 60.0**power for power, part in enumerate(reversed(parts)))
        elif is_real(value):
            seconds = float(value)
    except (ValueError, OverflowError):
        pass
    if not math.isfinite(seconds) or seconds < 0:
        raise UnusableError(f"{what} is {shown(value)}, not a time in seconds")
    return seconds


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Options without the "A. ", "B. ", … that they bring along, if all of them do."""
    if all(option.startswith(f"{letter}.") for letter, option in zip(LETTERS, options, strict=False)):
        return tuple(option[2:].strip() for option in options)
    return tuple(options)


def with_letters(options: Sequence[str]) -> str:
    """Options with "A. ", "B. ", … before them, whether or not they bring these along, a line each."""
    if without_letters(options) == tuple(options):
        options = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join(options)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UnusableError(f"{what} is {_kind(value)}, not a text")
    if not value.strip():
        raise UnusableError(f"{what} is blank")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnusableError(f"{what} holds half of a character (an unpaired surrogate)") from None
    return value


def _option(value: Any, what: str) -> str:
    return str(value) if is_real(value) else _text(value, what)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number" if is_real(value) else "something else")


def shown(value: Any) -> str:
    """A value in quotes on one line, cut short."""
    text = repr(value) if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
