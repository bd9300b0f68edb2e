"""A whole needle benchmark: its plan, what is left to run of it, and the report on what is there."""

import json
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinipot.checkpoint import Checkpoint
from infinipot.config import LoadConfig
from infinipot.errors import InfinipotError, ModelError, VideoError
from infinipot.evaluate.core import machine
from infinipot.evaluate.core.journal import Header, Journal, read_lines, require_same
from infinipot.evaluate.core.plugins import code_of_adapter
from infinipot.evaluate.core.tables import write_text
from infinipot.evaluate.needle import cost, pictures, processes
from infinipot.evaluate.needle.case import Case
from infinipot.evaluate.needle.cost import Cost
from infinipot.evaluate.needle.memories import FAILED, Outcome
from infinipot.evaluate.needle.plan import Extent, code_of, make_plan
from infinipot.evaluate.needle.rows import Row, as_json, put_together
from infinipot.loading import found_device
from infinipot.text import to_json
from infinipot.versions import OF_NEEDLE, digest, digest_of_code, digest_of_model, versions

FORMAT = 2  # of the journal; another one for every change of what is asked in a case
LINES: Any = (Outcome, Cost)
_COST = 1500.0  # work of one measurement of cost, starting its process included; see `Case.work`


@dataclass(frozen=True, slots=True)
class Work:
    """How far a run is: work done and work in all, in the unit of `Case.work`, and cases that are left."""

    done: float
    total: float
    left: int


class Needle:
    """A benchmark in a folder, which may hold results of an earlier run of the same model and versions.

    Args:
        folder: where answers, tables and pictures go.
        loading: the model, a folder of weights or the name of one that is packaged, and its type and device.
        size: how much is run.
        first_seed: of the clips; see `infinipot.embedded.world` for which are for development, which are reported.
        sections: names in `plan.SECTIONS`.
        video: a file into which events are drawn, a further background.
        shard: which of how many parts of the cases a run takes, from 1. Several runs, on one machine or on many, share
            the folder or bring their files together in one.
        reads: only reads what is there, whatever machine and version it is of, so that nothing can be run.

    Attributes:
        outcomes, costs: what is finished, in the journal of whichever part: outcomes of cases, and measurements by
            their names.

    Raises:
        InfinipotError: the folder has results of another model, version or machine; a section or policy is unknown.
    """

    def __init__(
        self,
        folder: Path,
        loading: LoadConfig,
        size: Extent,
        first_seed: int,
        sections: tuple[str, ...],
        video: Path | None = None,
        *,
        shard: tuple[int, int] = (1, 1),
        reads: bool = False,
    ) -> None:
        footage = f"footage:{digest(video)}" if video else None
        self.folder, self.loading, self.size, self.first_seed = folder, loading, size, first_seed
        number, count = self._shard = shard
        self.path = folder / ("answers.jsonl" if count == 1 else f"answers-{number}-of-{count}.jsonl")
        self.outcomes: dict[Case, Outcome] = {}
        self.costs: dict[str, Cost] = {}
        self._not_measured: dict[str, str] = {}  # why the cost of a policy is not known, by its name
        self._video = str(video) if video else None
        self._reads, self._header = reads, {} if reads else header(loading)
        lines = self._lines()
        self._code = _code_in(lines) if reads else code_of(size)
        self.plan = make_plan(size, first_seed, footage, sections, self._code)
        self._costs = cost.cases(size, first_seed, self._code) if "cost" in self.plan else {}
        self._take(*lines)
        if not self._header:
            raise InfinipotError(
                f"{folder} holds no results yet: run the benchmark first, or give the --out of the run"
            )

    def left(self) -> tuple[list[list[Case]], dict[str, Case]]:
        """Groups of cases, and measurements of cost, that are not finished and are this part's."""
        number, count = self._shard
        mine = processes.groups(self._cases(), self.first_seed)[number - 1 :: count]
        unfinished = ([case for case in group if case not in self.outcomes] for group in mine)
        costs = {name: case for name, case in self._costs.items() if name not in self.costs and number == 1}
        return [group for group in unfinished if group], costs

    @property
    def unfinished(self) -> int:
        """Cases and measurements of cost that are left to run, in whichever part they are; cases that failed too."""
        done = {case for case, outcome in self.outcomes.items() if not outcome.error.startswith(FAILED)}
        return len(self._cases().keys() - done) + len(self._costs.keys() - self.costs.keys())

    def run(self, jobs: int) -> Generator[Work, None, None]:
        """Runs what is left and writes it down piece by piece; yields before the first and after each.

        Args:
            jobs: processes at once.

        Raises:
            ModelError, VideoError: the model or the video cannot be loaded.
            ResultsError: another process writes to the same journal, or it cannot be written.
        """
        groups, costs = self.left()
        left = sum(map(len, groups)) + len(costs)
        total = sum(case.work for group in groups for case in group) + _COST * len(costs)
        done = 0.0
        with Journal(self.path, *LINES, option="--out") as journal:
            journal.begin(self._header)
            yield Work(done, total, left)
            for outcomes in processes.run(self.loading, groups, self._video, jobs):
                journal.append(*outcomes)
                self._take(*outcomes, failed=True)
                done, left = done + sum(outcome.case.work for outcome in outcomes), left - len(outcomes)
                yield Work(done, total, left)
            for name, case in costs.items():  # one at a time, with nothing else beside it
                try:
                    measured = processes.alone(cost.measure, name, self.loading, case)
                except (ModelError, VideoError):
                    raise
                except Exception as error:  # of this policy; the others can be measured
                    self._not_measured[name] = f"{FAILED}{type(error).__name__}: {error}"
                else:
                    journal.append(measured)
                    self._take(measured)
                done, left = done + _COST, left - 1
                yield Work(done, total, left)

    def rows(self) -> dict[str, list[Row]]:
        """The rows of each section, from what is finished by now in whichever part."""
        self._take(*self._lines())
        return put_together(self.plan, self.size, self.outcomes, self.costs)

    def report(self, rows: dict[str, list[Row]]) -> dict[str, Any]:
        """Writes summary.json and the pictures; returns what is in the summary."""
        failed = [outcome for case in self._cases() if (outcome := self.outcomes.get(case)) and outcome.error]
        refused = {f"{one.case.holder.policy}, |C| = {one.case.holder.kept}": one.error for one in failed}
        summary = {
            "format": self._header["format"],
            **self._header["settings"],
            "machine": self._machine(),
            "first_seed": self.first_seed,
            "unfinished": self.unfinished,
            "refused": refused | {f"cost of {name}": error for name, error in self._not_measured.items()},
            "sections": as_json(rows),
            "pictures": [path.name for path in pictures.draw(rows, self.folder)],
        }
        write_text(self.folder / "summary.json", to_json(summary, indent=1) + "\n")
        return summary

    def heading(self) -> tuple[str, ...]:
        """Lines to stand above the tables: what was asked for, and what made the answers, which need not be what prints
        them."""
        settings = dict(self._header["settings"])
        missing = f", {self.unfinished:,} cases unfinished" if self.unfinished else ""
        return (
            f"sections {', '.join(self.plan)}; policies {'; '.join(self.size.policies)}",
            f"clips of each background {self.size.clips}, from seed {self.first_seed}, "
            f"asked at {self.size.moments} moments{missing}",
            f"versions {_listed(settings.pop('versions'))}",
            _listed(settings),
            *([f"policies of other packages: {', '.join(dict.fromkeys(self._code.values()))}"] if self._code else []),
        )

    def _machine(self) -> Any:
        """The machine that answered: this one, or where nothing is run, the one that the summary there names."""
        if not self._reads:
            return machine.machine()
        there = self.folder / "summary.json"
        return json.loads(there.read_text("utf-8")).get("machine") if there.is_file() else None

    def _cases(self) -> dict[Case, None]:
        """The cases of the plan, each once, in its order."""
        return dict.fromkeys(case for of_section in self.plan.values() for case in of_section)

    def _lines(self) -> list[Outcome | Cost]:
        """What the journals of all parts hold, whose header is then that of the run."""
        lines: list[Outcome | Cost] = []
        for path in sorted(self.folder.glob("answers*.jsonl")):
            found, its = read_lines(path, *LINES, option="--out")
            if its or found:  # another part of the run may only have begun
                self._header = self._header or found
                require_same(path, found, self._header, "--out")
                lines += its
        return lines

    def _take(self, *lines: Outcome | Cost, failed: bool = False) -> None:
        """Takes note of lines; what failed in an earlier run is run again, as is what a policy's former code did."""
        for line in lines:
            if isinstance(line, Cost):
                if line.code == self._code.get(line.name, ""):
                    self.costs[line.name] = line
            elif failed or not line.error.startswith(FAILED):
                self.outcomes[line.case] = line


def _code_in(lines: Iterable[Outcome | Cost]) -> dict[str, str]:
    """The code of each policy, by spec, that the last of its lines is of."""
    named = {line.name: line.code for line in lines if isinstance(line, Cost)}
    named |= {line.case.holder.policy: line.case.holder.code for line in lines if isinstance(line, Outcome)}
    return {spec: code for spec, code in named.items() if code}


def _listed(named: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in named.items())


def header(loading: LoadConfig) -> Header:
    """The settings that all answers in a folder depend on."""
    settings = {
        "model": digest_of_model(loading.model),
        "versions": versions(),
        "device": machine.device_name(found_device(loading.device)),
        "dtype": loading.dtype,
        "code": digest_of_code(*OF_NEEDLE),
    }
    if code := code_of_adapter(Checkpoint(loading.model).adapter()):
        settings["adapter_code"] = code
    return {"type": "needle", "format": FORMAT, "settings": settings}
