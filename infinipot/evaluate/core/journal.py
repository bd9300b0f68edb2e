"""A JSON Lines file that only grows, so that its writer may be killed at any moment, and a run goes on where it was.

The first line is the header: all that the lines after it depend on. Each other line is a dataclass, told from other
kinds by its "type". Knows nothing of what is measured.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

from infinipot import durable
from infinipot.errors import ResultsError
from infinipot.text import to_json

Header = dict[str, Any]

_OPENING = b'{"type": "'
"""What every line begins with."""


class Line(Protocol):
    """A dataclass whose fields JSON can hold; one with other fields has `from_fields`, which makes it from JSON's."""

    type: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


class Journal(AbstractContextManager["Journal"]):
    """A file of lines, written by one process at a time.

    A line is on disk when `append` returns. A last one that a kill cut short is dropped when the file is opened.

    Args:
        path: the file; made if it is not there.
        kinds: the dataclasses that its lines may be.
        option: the option of the command line that names another file, for messages.

    Attributes:
        header: the first line; empty where there is none.
        lines: what it held after its header when it was opened.

    Raises:
        ResultsError: it cannot be written, another process writes to it, or it holds something else, which is then
            left as it is.
    """

    def __init__(self, path: Path, *kinds: type[Line], option: str = "--output") -> None:
        self.path, self._option = path, option
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():  # some devices can be read without end
                raise ResultsError(f"{path}: this is not a file; give another {option}")
            self._file = open(path, "ab+", buffering=0)  # noqa: SIM115
            try:
                self._open(kinds)
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise ResultsError(f"{path}: the results cannot be written here: {error.strerror}") from error

    def _open(self, kinds: Iterable[type[Line]]) -> None:
        self._lock()
        self._file.seek(0)
        content = self._file.read()
        self.header, self.lines, whole = _parse(self.path, content, kinds, self._option)
        if not _is_ours(content):
            raise ResultsError(f"{self.path}: it holds something other than a run; give another {self._option}")
        self._file.truncate(whole)
        durable.sync_folder(self.path.parent)

    def begin(self, header: Header) -> None:
        """Writes the header, or makes sure that the one there is the same.

        Raises:
            ResultsError: the file is of a run with other settings, which the message names.
        """
        header = plain(header)
        if not self.header:
            self._write(header)
            self.header = header
        require_same(self.path, self.header, header, self._option)

    def append(self, *lines: Line) -> None:
        """Adds lines, and returns when they are on disk.

        Raises:
            ResultsError: they cannot be written, for example because the disk is full.
        """
        self._write(*map(_fields, lines))

    def close(self) -> None:
        self._file.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write(self, *lines: Header) -> None:
        left = memoryview(_encoded(lines))
        try:
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ResultsError(
                f"{self.path}: a line cannot be written: {error.strerror}; the lines before it are kept, "
                "and the same command continues from them"
            ) from error

    def _lock(self) -> None:
        # `rewrite` may have replaced it since it was opened: what is written here nobody would find.
        if not (durable.lock(self._file) and durable.names(self.path, self._file)):
            raise ResultsError(f"{self.path}: another run is writing to it; give this one another {self._option}")


def read_lines(path: Path, *kinds: type[Line], option: str = "--output") -> tuple[Header, list[Any]]:
    """The header and the lines of a file that a process may be writing to.

    Raises:
        ResultsError: it cannot be read, or holds something else.
    """
    try:
        return _parse(path, path.read_bytes(), kinds, option)[:2]
    except OSError as error:
        raise ResultsError(f"{path}: it cannot be read: {error.strerror}") from error


def rewrite(path: Path, header: Header, lines: Iterable[Line]) -> None:
    """Replaces a file by one of these lines; at every moment, one of the two is whole on disk.

    Raises:
        ResultsError: it cannot be written; the file is as it was.
    """
    try:
        with durable.replacing(path) as file:
            file.write(_encoded([plain(header), *map(_fields, lines)]))
    except OSError as error:
        raise ResultsError(f"{path}: it cannot be rewritten: {error.strerror}; it is unchanged") from error


def _fields(line: Line) -> Header:
    return {"type": line.type, **asdict(line)}


def _encoded(lines: Iterable[Header]) -> bytes:
    return "".join(to_json(line, allow_nan=False) + "\n" for line in lines).encode()


def require_same(path: Path, old: Header, new: Header, option: str = "--output") -> None:
    """Makes sure that a file's header is that of the run which is to go on.

    A `device` beside the settings may be another one: it tells where a run began. One among them may not.

    Raises:
        ResultsError: it is of another kind, or of a run with other settings, which the message names.
    """
    if old.get("type") != new["type"]:
        raise ResultsError(f"{path}: its first line is not the header of a {new['type']}; give another {option}")
    if changed := list(differences(old, new | {"device": old.get("device")})):
        named = "; ".join(changed[:3]) + (f", and {len(changed) - 3} more" if len(changed) > 3 else "")
        mend = "; --retry takes up videos that were missing" if changed[0].startswith("annotations") else ""
        raise ResultsError(
            f"{path} holds a {new['type']} with other settings ({named}): give the same ones to continue it, "
            f"or another {option}{mend}"
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """The differences between two headers, a line each, by name."""
    for key in [*old, *(key for key in new if key not in old)]:
        before, now = old.get(key), new.get(key)
        where = key if name in ("", "settings") else f"{name}.{key}"
        if isinstance(before, dict) and isinstance(now, dict):
            yield from differences(before, now, key)
        elif before != now:
            yield f"{where}: {json.dumps(before)} there, {json.dumps(now)} now"


def plain(header: Header) -> Header:
    """A header as it will be read back."""
    return dict(json.loads(json.dumps(header)))


def _is_ours(content: bytes) -> bool:
    """Whether a file is one of a run, or holds its first bytes: of another nothing may be cut off."""
    return _OPENING.startswith(content.rstrip(b"\0")[: len(_OPENING)])


def _parse(path: Path, content: bytes, kinds: Iterable[type[Line]], option: str) -> tuple[Header, list[Any], int]:
    """Header, lines, and the bytes that they take; what stands after the last end of a line was cut short."""
    by_name: dict[str, Any] = {kind.type: getattr(kind, "from_fields", kind) for kind in kinds}
    whole = content.rfind(b"\n") + 1
    header: Header = {}
    lines = []
    for number, text in enumerate(content[:whole].splitlines(), 1):
        try:
            fields = json.loads(text)
            kind = by_name.get(fields["type"])
            if kind is None and number > 1:
                raise KeyError(fields["type"])
            if kind is None:
                header = dict(fields)
            else:
                lines.append(kind(**{name: value for name, value in fields.items() if name != "type"}))
        except (ValueError, TypeError, KeyError) as error:
            raise ResultsError(
                f"{path}: line {number} is not a record that this version can read; give another {option}"
            ) from error
    return header, lines, whole
