"""Runs as a report takes them: their shards together, and only what can be compared side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infinipot.errors import ResultsError
from infinipot.evaluate.benchmarks import Benchmark, find_benchmark
from infinipot.evaluate.journal import Record
from infinipot.evaluate.judge import read_verdicts, verdicts_path
from infinipot.evaluate.protocols import find_protocol
from infinipot.evaluate.records import Scored
from infinipot.evaluate.results import Run, differences, read_run, times_path

if TYPE_CHECKING:
    from infinipot.evaluate.metrics import Average

# What may differ between the shards of one run,
_OF_A_SHARD = ("shard", "videos", "questions", "parts")
# and what must not between runs that are compared.
_TO_COMPARE = ("annotations", "limit", "protocol", "seed", "sampling")


@dataclass(frozen=True, slots=True)
class Whole:
    """A run with all its shards.

    Attributes:
        name: for a table: what tells it from the others.
        settings: of the header, without what belongs to a shard.
        answers, problems, times: of all shards; each question once.
        paths: its files.
        asked: questions that it is to ask.
        parts: how many of them each task and group has.
        missing: shards whose files were not given, as "2/4".
        devices: what it computed on.
    """

    name: str
    settings: Record
    made_by: Record
    answers: tuple[Record, ...]
    problems: tuple[Record, ...]
    times: tuple[Record, ...]
    paths: tuple[Path, ...]
    asked: int
    parts: Mapping[str, int]
    missing: tuple[str, ...]
    devices: tuple[str, ...]

    @property
    def benchmark(self) -> Benchmark:
        return find_benchmark(self.settings["benchmark"])

    def scored(self) -> dict[str, list[Scored]]:
        """The scores, by video."""
        videos: dict[str, list[Scored]] = {}
        for line in self.answers:
            scored = Scored(line["question"], line["task"], line["group"], line["correct"])
            videos.setdefault(line["video"], []).append(scored)
        return videos

    def lacking(self) -> dict[str, tuple[int, int]]:
        """Where questions have no answer: how many have one, of how many; "overall" first, then tasks and groups."""
        has = {**Counter(line["task"] for line in self.answers), **Counter(line["group"] for line in self.answers)}
        has["overall"], whole = len(self.answers), {"overall": self.asked}
        every = whole | dict(self.parts) | whole
        return {name: (has.get(name, 0), asked) for name, asked in every.items() if has.get(name, 0) < asked}

    @property
    def average(self) -> Average:
        """The one that its protocol takes."""
        return find_protocol(self.settings["protocol"]).average(self.benchmark)


def read_runs(paths: Sequence[Path]) -> list[Whole]:
    """Reads runs, with the verdicts of their judge where there are some, and puts shards together.

    Raises:
        ResultsError: no run's file; a shard that is given twice; or runs of one benchmark that differ in more than the
            model and its memory, so that their numbers do not compare.
    """
    shards: dict[str, list[Run]] = {}
    beside = {name(path) for path in paths for name in (times_path, verdicts_path)}  # as a shell's *.jsonl gives them
    for path in dict.fromkeys(path for path in paths if path not in beside):
        run = read_verdicts(read_run(path))
        shards.setdefault(repr(_shared(run)), []).append(run)
    wholes = [_whole(runs) for runs in shards.values()]
    _require_comparable(wholes)
    names = _names(wholes)
    return [replace(whole, name=name) for whole, name in zip(wholes, names, strict=True)]


def _shared(run: Run) -> tuple[Any, ...]:
    settings = {name: value for name, value in run.settings.items() if name not in _OF_A_SHARD}
    return settings, run.settings["shard"][1], run.made_by


def _whole(runs: list[Run]) -> Whole:
    count = runs[0].settings["shard"][1]
    by_number: dict[int, Run] = {}
    for run in runs:
        number = run.settings["shard"][0]
        if number in by_number:
            raise ResultsError(f"{by_number[number].path} and {run.path} are the same run, shard {number} of {count}")
        by_number[number] = run
    parts = [by_number[number] for number in sorted(by_number)]
    problems = {(line["where"], line["what"]): line for part in parts for line in part.problems}
    return Whole(
        name="",
        settings=_shared(parts[0])[0],
        made_by=parts[0].made_by,
        answers=tuple(line for part in parts for line in part.answers),
        problems=tuple(problems.values()),
        times=tuple(line for part in parts for line in part.times),
        paths=tuple(part.path for part in parts),
        asked=sum(part.settings["questions"] for part in parts),
        parts=sum((Counter(part.settings.get("parts")) for part in parts), Counter()),
        missing=tuple(f"{number}/{count}" for number in range(1, count + 1) if number not in by_number),
        devices=tuple(dict.fromkeys(part.device for part in parts)),
    )


def _require_comparable(wholes: Sequence[Whole]) -> None:
    first: dict[tuple[str, str], Whole] = {}
    for whole in wholes:
        one = first.setdefault((whole.settings["benchmark"], whole.settings["variant"]), whole)
        here, there = ({name: each.settings[name] for name in _TO_COMPARE} for each in (whole, one))
        if apart := list(differences(there, here)):
            raise ResultsError(
                f"{one.paths[0]} and {whole.paths[0]} do not compare ({'; '.join(apart)}): report them apart"
            )


def _names(wholes: Sequence[Whole]) -> list[str]:
    """Policy and cap, a gate and second looks; with the model where there are several, and the file where that does not
    tell them apart."""
    several = len({whole.settings["model"] for whole in wholes}) > 1
    names = []
    for whole in wholes:
        model = f"{Path(whole.settings['model']).name} " if several else ""
        options = (("gate", whole.settings.get("gate")), ("look", whole.settings.get("look_again") or None))
        more = "".join(f" {name}={value}" for name, value in options if value is not None)
        names.append(f"{model}{whole.settings['policy']} @{whole.settings['cap']}{more}")
    places = [
        (whole.settings["benchmark"], whole.settings["variant"], name)
        for whole, name in zip(wholes, names, strict=True)
    ]
    return [
        name if places.count(place) == 1 else f"{name} ({whole.paths[0].stem})"
        for whole, name, place in zip(wholes, names, places, strict=True)
    ]
