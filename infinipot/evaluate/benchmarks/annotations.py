"""Reading what others wrote: annotation files whose every field may be missing, wrong or hostile.

A file that should be there and is not is a `BenchmarkError`. Whatever a file holds is either usable or a sentence
that says why it is not; nothing else is ever raised.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from infinipot.errors import BenchmarkError
from infinipot.evaluate.records import LETTERS, Problem
from infinipot.numbers import is_real, is_whole

_LONGEST_SHOWN = 60


class UnusableError(Exception):
    """An annotation that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An annotation: a JSON value, and where it stands. Fields are asked for by name and type, or are `UnusableError`.

    Attributes:
        value: whatever stands there.
        where: file and place, for people.
        source: of the file, where a benchmark has several.
        index: from 0 on, in its file.
    """

    value: Any
    where: str
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

    def texts(self, name: str) -> tuple[str, ...]:
        """The options of a question: at least two, and no more than there are letters. Numbers become texts."""
        value = self._given(name)
        if not isinstance(value, list | tuple):
            raise UnusableError(f'"{name}" is {_kind(value)}, not a list of texts')
        if not 2 <= len(value) <= len(LETTERS):
            raise UnusableError(f'"{name}" holds {len(value)} options; 2 to {len(LETTERS)} are possible')
        return tuple(_option(option, f'"{name}"[{index}]') for index, option in enumerate(value))

    def option(self, name: str) -> str:
        """A text as in `texts`."""
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

    def parts(self, name: str) -> list["Entry"]:
        """The annotations in a list, each with the other fields of this one where it has none of that name."""
        value = self._given(name)
        if not isinstance(value, list | tuple):
            raise UnusableError(f'"{name}" is {_kind(value)}, not a list')
        shared = {field: other for field, other in self.value.items() if field != name}
        return [
            Entry(
                shared | part if isinstance(part, dict) else part, f'{self.where} "{name}"[{index}]', self.source, index
            )
            for index, part in enumerate(value)
        ]

    def _given(self, name: str, default: Any = None) -> Any:
        value = self.get(name)
        if value is None and default is None:
            raise UnusableError(f'has no "{name}"')
        return default if value is None else value


def require(data: Path, title: str, *names: str) -> Path:
    """The first of the files or folders `names` in `data` that exists.

    Raises:
        BenchmarkError: none does.
    """
    return require_all(data, title, names)[0]


def require_all(data: Path, title: str, *wanted: Sequence[str]) -> list[Path]:
    """Of each of `wanted` the first of the files or folders that exists.

    Raises:
        BenchmarkError: of some none does; all of those are named.
    """
    found = [next((data / name for name in names if _exists(data / name, title)), None) for names in wanted]
    if lacking := [" or ".join(names) for names, path in zip(wanted, found, strict=True) if path is None]:
        raise BenchmarkError(
            f"{data} does not hold {', '.join(lacking)}, of {title}; `infinipot eval --list` shows the layout"
        )
    return [path for path in found if path is not None]


def _exists(path: Path, title: str) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise BenchmarkError(f"{title}: {path} cannot be reached ({error.strerror})") from None


def entries_of(
    path: Path, data: Path, source: str = "", columns: Sequence[str] = (), instead: Path | None = None
) -> Iterator[Entry | Problem]:
    """The annotations in a file: a list in JSON, the rows of a CSV file with a heading, or those of a Parquet file.

    Args:
        path: of the file.
        data: the data folder.
        source: see `Entry`.
        columns: that are read of Parquet, where they are there; none: all.
        instead: the JSON file that would be read instead, for who has no pyarrow; by default beside `path`.

    Raises:
        BenchmarkError: it is Parquet, and pyarrow is not installed.
    """
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        needed = f"{path} is read by pyarrow, which is not installed: pip install 'infinipot[eval]'"
        raise BenchmarkError(f"{needed}, or put the same rows beside it as {instead or path.with_suffix('.json')}")
    where = path.relative_to(data).as_posix()
    try:
        rows = _ROWS[path.suffix](path, columns)
    except UnusableError as error:
        yield Problem(where, str(error))
        return
    for index, row in enumerate(rows):
        yield Entry(row, f"{where}[{index}]" if path.suffix == ".json" else f"{where} row {index + 1}", source, index)


def parts_of(entries: Iterable[Entry | Problem], name: str) -> Iterator[Entry | Problem]:
    """The annotations in the lists `name` of `entries`; `source` tells one entry's from another's."""
    for entry in entries:
        if isinstance(entry, Problem):
            yield entry
            continue
        try:
            yield from (replace(part, source=str(entry.index)) for part in entry.parts(name))
        except UnusableError as error:
            yield Problem(entry.where, str(error))


def read_json(path: Path) -> Any:
    """The value that a JSON file holds.

    Raises:
        UnusableError: it is no JSON.
    """
    return parse_json(read_text(path))


def parse_json(content: str) -> Any:
    """The value that a text holds as JSON.

    Raises:
        UnusableError: it is no JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnusableError(f"is no JSON that can be read ({error})") from None


def _json_rows(path: Path, _: Sequence[str]) -> list[Any]:
    value = read_json(path)
    if not isinstance(value, list):
        raise UnusableError(f"holds {_kind(value)}, not a list of annotations")
    return value


def _csv_rows(path: Path, _: Sequence[str]) -> list[Any]:
    try:
        return list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise UnusableError(f"is no CSV that can be read ({error})") from None


def _parquet_rows(path: Path, columns: Sequence[str]) -> list[Any]:
    import pyarrow  # of the extra "eval"
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        return list(
            table.select([name for name in columns or table.column_names if name in table.column_names]).to_pylist()
        )
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UnusableError(f"is no Parquet file that can be read ({why})") from None


_ROWS = {".json": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}


def read_text(path: Path) -> str:
    """What a text file in UTF-8 holds.

    Raises:
        UnusableError: it cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UnusableError(f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UnusableError("is not text in UTF-8") from None


def find_video(folder: Path, name: str, data: Path, *, endings: Sequence[str] = ("",)) -> tuple[Path, str]:
    """The video that an annotation names, and its path in the layout.

    Args:
        folder: of the layout; what the annotation names has to lie in it.
        name: as the annotation gives it.
        data: the data folder.
        endings: tried in order behind the name.

    Raises:
        UnusableError: it is missing, is no file, or lies outside of `folder`, whatever leads there.
    """
    quoted = shown(name)
    if "\0" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise UnusableError(f"the video {quoted} is not named by a path inside {_place(folder, data)}")
    try:
        root = folder.resolve()
        for ending in endings:
            path = folder / (name + ending)
            found = path.resolve()
            if not found.is_relative_to(root) or found == root:
                raise UnusableError(f"the video {quoted} lies outside of {_place(folder, data)}")
            if found.is_file():
                return path, Path(os.path.relpath(path, data)).as_posix()
    except OSError as error:
        raise UnusableError(f"the video {quoted} cannot be reached ({error.strerror})") from None
    except (RuntimeError, ValueError):  # links that lead to themselves, and names that no file can have
        raise UnusableError(f"the video {quoted} is no file that can be reached") from None
    raise UnusableError(f"the video {quoted} is not in {_place(folder, data)}")


def parse_seconds(value: Any, what: str) -> float:
    """Seconds from 0 on: a number, or a text such as "754.5", "12:34" or "0:12:34".

    Raises:
        UnusableError: it is none; the message calls it `what`.
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
    """Options with "A. ", "B. ", … before them, each on a line; as they are, if the first brings its own."""
    if options[0].startswith("A."):
        return "\n".join(options)
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UnusableError(f"{what} is {_kind(value)}, not a text")
    if not value.strip():
        raise UnusableError(f"{what} is blank")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnusableError(f"{what} holds half of a character") from None
    return value


def _option(value: Any, what: str) -> str:
    return str(value) if is_real(value) else _text(value, what)


def _place(folder: Path, data: Path) -> str:
    return "the data folder" if folder == data else f"{folder.relative_to(data).as_posix()}/"


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number" if is_real(value) else "something else")


def shown(value: Any) -> str:
    """A value in quotes on one line, cut short."""
    text = repr(value) if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
