"""A JSON Lines file that only grows, so that its writer may be killed at any moment. Knows nothing of runs."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infinipot.errors import ResultsError
from infinipot.text import to_json

try:
    import fcntl
except ImportError:  # Windows: nothing there keeps two runs off one file
    fcntl = None  # type: ignore[assignment]

Record = dict[str, Any]

_OPENING = b'{"type": "'
"""What every line begins with."""


class Journal:
    """A JSON Lines file that only grows, written by one process at a time.

    A record is on disk when `append` returns. A last line that a kill cut short is dropped when the file is opened.

    Attributes:
        path: the file; made if it is not there.
        records: what it held when it was opened.

    Raises:
        ResultsError: it cannot be written, another process writes to it, or it holds something else, which is then
            left as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab+", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise ResultsError(f"{path}: the results cannot be written here: {error.strerror}") from error
        try:
            self._lock()
            self._file.seek(0)
            content = self._file.read()
            self.records, whole = _parse(path, content)
            if not _is_ours(content):
                raise ResultsError(f"{path}: it holds something else than a run; give another --output")
            self._file.truncate(whole)
            sync_folder(path.parent)
        except BaseException:
            self._file.close()
            raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a line, and returns when it is on disk.

        Raises:
            ResultsError: it cannot be written, on a disk that is full for one.
        """
        left = memoryview(to_json(record, allow_nan=False).encode() + b"\n")
        try:
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ResultsError(
                f"{self.path}: a line cannot be written: {error.strerror}; what was written stays, to be gone on with"
            ) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResultsError(f"{self.path}: another run is writing to it; give this one another --output") from error
        except OSError:  # a network file system that has no locks
            return


def read_lines(path: Path) -> list[Record]:
    """The records of a file that a process may be writing to."""
    try:
        return _parse(path, path.read_bytes())[0]
    except OSError as error:
        raise ResultsError(f"{path}: it cannot be read: {error.strerror}") from error


def _is_ours(content: bytes) -> bool:
    """Whether a file is one of a run, or holds its first bytes: of another nothing may be cut off."""
    return _OPENING.startswith(content.rstrip(b"\0")[: len(_OPENING)])


def _parse(path: Path, content: bytes) -> tuple[list[Record], int]:
    """The records, and the bytes that they take; what stands behind the last end of a line was cut short."""
    whole = content.rfind(b"\n") + 1
    records = []
    for number, line in enumerate(content[:whole].splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("type"), str):
            raise ResultsError(f"{path}: line {number} is no record of a run")
        records.append(record)
    return records, whole


def sync_folder(folder: Path) -> None:
    """Makes sure that a new file's name is on disk too, where a folder can be asked for that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
