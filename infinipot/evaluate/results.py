"""The file of a run: JSON Lines that only grow, so that a run may be killed at any moment and go on later.

The first line is the header: everything that the answers depend on. Then comes a line for each answer, and one for each
thing that could not be used. All of it is a function of the settings: nothing in the file tells how long anything took,
and a run that was killed and resumed leaves the same bytes as one that was not. Times are in a second file beside it,
`NAME.times.jsonl`. Knows nothing of models, videos or benchmarks.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infinipot.errors import ResultsError
from infinipot.evaluate.journal import Journal, Record, read_lines, sync_folder

FORMAT = 1

_OF_WHAT_IS_THERE = ("annotations", "videos", "questions", "parts")
"""Settings that change where a video that was missing is there now."""


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
        require_same_run(path, self._journal.records[0], header)

    def answer(self, record: Record, times: Record) -> None:
        """Writes an answer, and beside it what it took."""
        self._journal.append({"type": "answer", **record})
        self.answered.add(record["question"])
        self._times.append({"type": "answer", "question": record["question"], **times})

    def watched(self, times: Record) -> None:
        """Writes what watching a video took."""
        self._times.append({"type": "watched", "device": self._device, **times})

    def problem(self, where: str, what: str, questions: tuple[str, ...] = (), reserve: int | None = None) -> bool:
        """Writes what could not be used, once, with the questions that were not asked for it; False: known before.

        Args:
            reserve: the one that the questions need, where that is what was missing.
        """
        if (where, what) in self._told and self.given_up.issuperset(questions):
            return False
        needed = {} if reserve is None else {"reserve": reserve}
        self._journal.append({"type": "problem", "where": where, "what": what, "questions": list(questions), **needed})
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


def require_same_run(path: Path, old: Record, new: Record) -> None:
    """Makes sure that a file's header is that of the run which is to go on, on whatever device.

    Raises:
        ResultsError: it is no header, or one of a run with other settings, which the message names.
    """
    if old.get("type") != "run":
        raise ResultsError(f"{path}: its first line is not the header of a run; give another --output")
    if changed := list(differences(old, new | {"device": old.get("device")})):
        named = "; ".join(changed[:3]) + (f", and {len(changed) - 3} more" if len(changed) > 3 else "")
        mend = "; --retry takes up videos that were missing" if changed[0].startswith("annotations") else ""
        raise ResultsError(
            f"{path} holds a run with other settings ({named}): go on with the same, or give another --output{mend}"
        )


def check_output(path: Path, known: Record, made_by: Mapping[str, str], retry: bool = False) -> None:
    """Refuses a file that is there and that a run could not go on with, as far as `known` settings tell.

    Args:
        path: the run's file; none: nothing is to be refused.
        known: the settings that can be told while no model is loaded.
        made_by: versions.
        retry: whether what depends on which videos are there may change.

    Raises:
        ResultsError: see `Journal` and `require_same_run`.
    """
    if not path.is_file():
        return
    with Journal(path) as journal:
        if not journal.records:
            return
        old = journal.records[0]
        known = _lasting(known) if retry else json.loads(json.dumps(known))
        there = old.get("settings", {})
        old = old | {"settings": {name: there[name] for name in known if name in there}}
        require_same_run(path, old, old | {"format": FORMAT, "settings": known, "made_by": dict(made_by)})


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
            sync_folder(path.parent)
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
