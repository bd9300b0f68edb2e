"""The file of a run: JSON Lines that only grow, so that a run may be killed at any moment and go on later.

The first line is the header: everything that the answers depend on. Then comes a line for each answer, and one for each
thing that could not be used. All of it is a function of the settings: nothing in the file tells how long anything took,
and a run that was killed and resumed leaves the same bytes as one that was not. Times are in a second file beside it,
`NAME.times.jsonl`. Knows nothing of models, videos or benchmarks.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infinipot.errors import ResultsError

try:
    import fcntl
except ImportError:  # Windows: nothing there keeps two runs off one file
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
Record = dict[str, Any]

_OPENING = b'{"type": "'
"""What every line begins with."""
_OF_WHAT_IS_THERE = ("annotations", "videos", "questions")
"""Settings that change where a video that was missing is there now."""


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
            _sync_folder(path.parent)
        except BaseException:
            self._file.close()
            raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a line, and returns when it is on disk.

        Raises:
            ResultsError: it cannot be written, on a disk that is full for one.
        """
        left = memoryview(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")
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


class Results:
    """The two files of a run, open for writing.

    Args:
        path: the run's file, which ends in .jsonl.
        settings: everything that answers depend on, as JSON.
        device: what it computes on. A run may go on on another one: the times say what was done where.
        made_by: versions, which have to be the same when a run goes on.

    Attributes:
        answered: ids of the questions that have an answer.
        given_up: ids of those that could not be asked.
        problems: how many lines tell of what could not be used.

    Raises:
        ResultsError: see `Journal`; or the file is of a run with other settings, which the message names.
    """

    def __init__(self, path: Path, settings: Record, device: str, made_by: Mapping[str, str]) -> None:
        header: Record = {"type": "run", "format": FORMAT, "settings": settings, "made_by": made_by, "device": device}
        self._device = device
        header = json.loads(json.dumps(header))  # as it will be read back
        self._journal = Journal(path)
        try:
            self._begin(header)
            self._times = Journal(times_path(path))
        except BaseException:
            self._journal.close()
            raise
        self.answered = {line["question"] for line in self._journal.records if line["type"] == "answer"}
        problems = [line for line in self._journal.records if line["type"] == "problem"]
        self.given_up = {question for line in problems for question in line["questions"]}
        self.problems = len(problems)
        self._told = {(line["where"], line["what"]) for line in problems}

    def _begin(self, header: Record) -> None:
        path = self._journal.path
        if not self._journal.records:
            self._journal.append(header)
            return
        old = self._journal.records[0]
        if old.get("type") != "run":
            raise ResultsError(f"{path}: its first line is not the header of a run; give another --output")
        if changed := list(differences(old, header | {"device": old.get("device")})):
            named = "; ".join(changed[:3]) + (f", and {len(changed) - 3} more" if len(changed) > 3 else "")
            mend = "; --retry takes up videos that were missing" if changed[0].startswith("annotations") else ""
            raise ResultsError(
                f"{path} holds a run with other settings ({named}): go on with the same, or give another --output{mend}"
            )

    def answer(self, record: Record, times: Record) -> None:
        """Writes an answer, and beside it what it took."""
        self._journal.append({"type": "answer", **record})
        self.answered.add(record["question"])
        self._times.append({"type": "answer", "question": record["question"], **times})

    def watched(self, times: Record) -> None:
        """Writes what watching a video took."""
        self._times.append({"type": "watched", "device": self._device, **times})

    def problem(self, where: str, what: str, questions: tuple[str, ...] = ()) -> bool:
        """Writes what could not be used, once, with the questions that were not asked for it; False: known before."""
        if (where, what) in self._told and self.given_up.issuperset(questions):
            return False
        self._journal.append({"type": "problem", "where": where, "what": what, "questions": list(questions)})
        self._told.add((where, what))
        self.problems += 1
        self.given_up.update(questions)
        return True

    def close(self) -> None:
        self._journal.close()
        self._times.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Run:
    """What a run's files hold. `times` may lack lines, or hold one twice, where a run was killed."""

    path: Path
    settings: Record
    made_by: Record
    device: str
    answers: tuple[Record, ...]
    problems: tuple[Record, ...]
    times: tuple[Record, ...]


def read_run(path: Path) -> Run:
    """Reads the files of a run, which may still be going on.

    Raises:
        ResultsError: it is not there, or no run's file.
    """
    lines = read_lines(path)
    if not lines or lines[0].get("type") != "run":
        raise ResultsError(f"{path}: its first line is not the header of a run")
    if lines[0].get("format") != FORMAT:
        raise ResultsError(f"{path}: it has format {lines[0].get('format')!r}; this version reads {FORMAT}")
    times = read_lines(times_path(path)) if times_path(path).is_file() else []
    answers = tuple(line for line in lines if line["type"] == "answer")
    problems = tuple(line for line in lines if line["type"] == "problem")
    return Run(path, lines[0]["settings"], lines[0]["made_by"], lines[0]["device"], answers, problems, tuple(times))


def read_lines(path: Path) -> list[Record]:
    """The records of a file that a process may be writing to."""
    try:
        return _parse(path, path.read_bytes())[0]
    except OSError as error:
        raise ResultsError(f"{path}: it cannot be read: {error.strerror}") from error


def forget_problems(path: Path, settings: Record) -> int:
    """Takes the lines of problems out of a run's file, so that what they are about is tried again; returns how many.

    The header is then that of `settings` in what depends on which videos are there. A file of a run that differs in
    more is left as it is.
    """
    with Journal(path) as journal:
        if not journal.records or list(differences(_lasting(journal.records[0]["settings"]), _lasting(settings))):
            return 0
        header, *lines = journal.records
        now = {name: settings[name] for name in _OF_WHAT_IS_THERE}
        kept = [header | {"settings": header["settings"] | now}, *(one for one in lines if one["type"] != "problem")]
        if kept != journal.records:
            beside = path.with_name(path.name + ".new")
            beside.unlink(missing_ok=True)
            with Journal(beside) as copy:
                for line in kept:
                    copy.append(line)
            beside.replace(path)
            _sync_folder(path.parent)
        return len(journal.records) - len(kept)


def times_path(path: Path) -> Path:
    """Where the times of a run are."""
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.times.jsonl")


def differences(old: Mapping[str, Any], new: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """What differs between two headers, a line each, by name."""
    for key in [*old, *(key for key in new if key not in old)]:
        before, now = old.get(key), new.get(key)
        where = key if name in ("", "settings") else f"{name}.{key}"
        if isinstance(before, dict) and isinstance(now, dict):
            yield from differences(before, now, key)
        elif before != now:
            yield f"{where}: {json.dumps(before)} there, {json.dumps(now)} now"


def _lasting(settings: Record) -> Record:
    """As JSON has them, without what depends on which videos are there."""
    kept = {name: value for name, value in settings.items() if name not in _OF_WHAT_IS_THERE}
    return dict(json.loads(json.dumps(kept)))


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


def _sync_folder(folder: Path) -> None:
    """Makes sure that a new file's name is on disk too, where a folder can be asked for that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
