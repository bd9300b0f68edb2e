"""A whole benchmark: its plan, what is left to run of it, and the report on what is there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinipot.bench import cost, machine, pictures, results, run
from infinipot.bench.case import Case
from infinipot.bench.journal import Journal
from infinipot.bench.plan import Size, make_plan
from infinipot.bench.results import Row
from infinipot.text import to_json
from infinipot.versions import versions

FORMAT = 1  # of the journal; another one for every change of what is asked in a case
_COST = 1500.0  # work of one measurement of cost, starting its process included; see `Case.work`


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: work done and work in all, in the unit of `Case.work`, and cases that are left."""

    done: float
    total: float
    left: int


class Needle:
    """A benchmark in a folder, which may hold results of an earlier run of the same model and versions.

    Args:
        folder: where answers, tables and pictures go.
        model: a folder of weights, or "embedded".
        size: how much is run.
        first_seed: of the clips; see `infinipot.embedded.world` for which are for development, which are reported.
        sections: of `infinipot.bench.plan.SECTIONS`.
        video: a file into which events are drawn, a further background.

    Raises:
        InfinipotError: the folder has results of another model, version or machine; a section or policy is unknown.
    """

    def __init__(
        self,
        folder: Path,
        model: str,
        size: Size,
        first_seed: int,
        sections: tuple[str, ...],
        video: Path | None = None,
    ) -> None:
        footage = f"footage:{machine.digest(video)}" if video else None
        self.folder, self.model, self.size, self.first_seed = folder, model, size, first_seed
        self.plan = make_plan(size, first_seed, footage, sections)
        self._video = str(video) if video else None
        self.journal = Journal.open(folder / "answers.jsonl", header(model))
        self._costs = cost.cases(size, first_seed) if "cost" in self.plan else {}

    def left(self) -> tuple[list[list[Case]], dict[str, Case]]:
        """Groups of cases, and measurements of cost, that are not finished."""
        cases = [case for of_section in self.plan.values() for case in of_section]
        groups = run.groups((case for case in cases if case not in self.journal.records), self.first_seed)
        return groups, {name: case for name, case in self._costs.items() if name not in self.journal.costs}

    def run(self, processes: int) -> Iterator[Progress]:
        """Runs what is left and writes it down piece by piece; yields before the first and after each.

        Raises:
            ModelError, VideoError: the model or the video cannot be loaded.
        """
        groups, costs = self.left()
        left = sum(map(len, groups)) + len(costs)
        total = sum(case.work for group in groups for case in group) + _COST * len(costs)
        done = 0.0
        yield Progress(done, total, left)
        for records in run.run(self.model, groups, self._video, processes):
            self.journal.add(records)
            done, left = done + sum(record.case.work for record in records), left - len(records)
            yield Progress(done, total, left)
        for name, case in costs.items():  # one at a time, with nothing else beside it
            self.journal.add_cost(name, cost.measure(self.model, case))
            done, left = done + _COST, left - 1
            yield Progress(done, total, left)

    def rows(self) -> dict[str, list[Row]]:
        """The rows of each section, from what is finished."""
        return results.put_together(self.plan, self.size, self.journal)

    def report(self, rows: dict[str, list[Row]]) -> dict[str, Any]:
        """Writes summary.json and the pictures; returns what is in the summary."""
        summary = {
            **self.journal.header,
            "machine": machine.machine(),
            "first_seed": self.first_seed,
            "unfinished": sum(map(len, self.left()[0])) + len(self.left()[1]),
            "refused": results.refused(self.plan, self.journal),
            "sections": results.as_json(rows),
            "pictures": [path.name for path in pictures.draw(rows, self.folder)],
        }
        (self.folder / "summary.json").write_text(to_json(summary, indent=1) + "\n", encoding="utf-8")
        return summary


def header(model: str) -> dict[str, Any]:
    """What all answers in a folder depend on."""
    return {
        "format": FORMAT,
        "model": machine.digest_of_model(model),
        "versions": versions(),
        "code": machine.digest_of_code(),
    }
