"""A whole benchmark: its plan, what is left to run of it, and the report on what is there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinipot.bench import cost, machine, pictures, results, run
from infinipot.bench.case import Case
from infinipot.bench.counting import Row
from infinipot.bench.journal import Journal
from infinipot.bench.plan import Size, make_plan
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


@dataclass(frozen=True, slots=True)
class Part:
    """Which of the cases a run takes, where several runs share them, on one machine or on many.

    Attributes:
        number: from 1 to `of`.
        of: how many runs there are.
    """

    number: int = 1
    of: int = 1

    @property
    def file(self) -> str:
        """The name of its journal."""
        return "answers.jsonl" if self.of == 1 else f"answers-{self.number}-of-{self.of}.jsonl"


class Needle:
    """A benchmark in a folder, which may hold results of an earlier run of the same model and versions.

    Args:
        folder: where answers, tables and pictures go.
        model: a folder of weights, or "embedded".
        size: how much is run.
        first_seed: of the clips; see `infinipot.embedded.world` for which are for development, which are reported.
        sections: of `infinipot.bench.plan.SECTIONS`.
        video: a file into which events are drawn, a further background.
        device: what the model computes on; "auto" takes the accelerator if there is one.
        part: of the cases, where several runs share them and the folder, or bring their files together in one.
        reads: only reads what is there, whatever machine and version it is of, so that nothing can be run.

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
        *,
        device: str = "auto",
        part: Part = Part(),
        reads: bool = False,
    ) -> None:
        footage = f"footage:{machine.digest(video)}" if video else None
        self.folder, self.model, self.size, self.first_seed = folder, model, size, first_seed
        self.plan = make_plan(size, first_seed, footage, sections)
        self._video = str(video) if video else None
        self._device, self._part = device, part
        path, found = folder / part.file, sorted(folder.glob("answers*.jsonl"))
        if reads:
            self.journal = Journal.read(found)
        else:
            others = [other for other in found if other != path]
            self.journal = Journal.open(path, header(model, device), others)
        self._costs = cost.cases(size, first_seed) if "cost" in self.plan and part.number == 1 else {}

    def left(self) -> tuple[list[list[Case]], dict[str, Case]]:
        """Groups of cases, and measurements of cost, that are not finished and are this part's."""
        cases = (case for of_section in self.plan.values() for case in of_section)
        mine = run.groups(cases, self.first_seed)[self._part.number - 1 :: self._part.of]
        unfinished = ([case for case in group if case not in self.journal.records] for group in mine)
        return (
            [group for group in unfinished if group],
            {name: case for name, case in self._costs.items() if name not in self.journal.costs},
        )

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
        for records in run.run(self.model, groups, self._video, processes, self._device):
            self.journal.add(records)
            done, left = done + sum(record.case.work for record in records), left - len(records)
            yield Progress(done, total, left)
        for name, case in costs.items():  # one at a time, with nothing else beside it
            self.journal.add_cost(name, cost.measure(self.model, case, self._device))
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


def header(model: str, device: str = "auto") -> dict[str, Any]:
    """What all answers in a folder depend on."""
    return {
        "format": FORMAT,
        "model": machine.digest_of_model(model),
        "versions": versions(),
        "device": machine.device(device),
        "code": machine.digest_of_code(),
    }
