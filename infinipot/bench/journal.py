"""Finished cases in a file, so that a run that was stopped goes on where it was. Knows nothing of models.

The first line says what all others depend on; each other line is a finished case. A line that was cut off when a run
was killed is forgotten, and its case runs again. Parts of a run write files of their own into one folder, and read
what the others have finished.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from infinipot.bench.case import Case
from infinipot.bench.watch import FAILED, Record
from infinipot.errors import InfinipotError
from infinipot.text import to_json


class Journal:
    """The file of a run. `open` makes it or goes on with it.

    Attributes:
        path: the file.
        header: what the answers in it depend on.
        records: finished cases.
        costs: measurements of the section on cost, by what was measured.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.header = header
        self.records: dict[Case, Record] = {}
        self.costs: dict[str, dict[str, Any]] = {}

    @classmethod
    def open(cls, path: Path, header: dict[str, Any], beside: Iterable[Path] = ()) -> Self:
        """The journal at `path`, which is made where there is none.

        Args:
            beside: further journals, whose finished cases count as this one's and which are left as they are.

        Raises:
            InfinipotError: the file is of another model, version or machine, or is none of ours, or cannot be written.
        """
        journal = cls(path, header)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size:
                journal._go_on()
            else:
                path.touch()
            for other in beside:
                journal._take_over(other)
        except OSError as error:
            raise InfinipotError(f"{path}: results cannot be kept there: {error}") from error
        return journal

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Self:
        """What journals of one model, of one version and on one kind of machine hold together; nothing is written.

        Raises:
            InfinipotError: there is none, or they do not belong together.
        """
        whole = [path for path in paths if path.exists() and path.stat().st_size]
        if not whole:
            raise InfinipotError("there are no results yet: run it first")
        try:
            with whole[0].open(encoding="utf-8") as file:
                header = dict(json.loads(file.readline())["header"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InfinipotError(f"{whole[0]}: this is no file of results: {error}") from error
        journal = cls(whole[0], header)
        for path in whole:
            journal._take_over(path)
        return journal

    def add(self, records: Iterable[Record]) -> None:
        """Writes finished cases down."""
        records = list(records)
        self._write(*(record.as_dict() for record in records))
        self.records.update((record.case, record) for record in records)

    def add_cost(self, name: str, measured: dict[str, Any]) -> None:
        """Writes a measurement down."""
        self._write({"cost": name, "measured": measured})
        self.costs[name] = measured

    def _go_on(self) -> None:
        if cut_off := self._take_over(self.path):
            with self.path.open("r+b") as file:
                file.truncate(self.path.stat().st_size - cut_off)

    def _take_over(self, path: Path) -> int:
        """Takes what a file holds; returns how many bytes at its end are a line that was cut off."""
        whole, _, cut_off = path.read_bytes().rpartition(b"\n")
        if not whole and path != self.path:
            return 0  # another part of the run has only begun
        try:
            header, *lines = (json.loads(line) for line in whole.splitlines())
            self._check(path, header["header"])
            for line in lines:
                self._take(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._foreign(path) from error
        return len(cut_off)

    @staticmethod
    def _foreign(path: Path) -> InfinipotError:
        return InfinipotError(f"{path}: this is no file of results of this version: give another --out")

    def _take(self, line: dict[str, Any]) -> None:
        if "cost" in line:
            self.costs[line["cost"]] = line["measured"]
        else:
            record = Record.from_dict(line)
            if not record.error.startswith(FAILED):
                self.records[record.case] = record

    def _check(self, path: Path, found: dict[str, Any]) -> None:
        for name, now in self.header.items():
            if (before := found.get(name)) != now:
                raise InfinipotError(
                    f"{path} has results of another {name} ({_short(before)}; now {_short(now)}), which do not "
                    "mix: give another --out, or remove that folder"
                )

    def _write(self, *lines: dict[str, Any]) -> None:
        text = "".join(to_json(line, separators=(",", ":")) + "\n" for line in lines)
        with self.path.open("a", encoding="utf-8") as file:
            if not file.tell():
                file.write(to_json({"header": self.header}) + "\n")
            file.write(text)


def _short(value: Any) -> str:
    return ", ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
