"""Runs as a report takes them: read from their files, shards together, and only what can be compared side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infinipot.errors import ResultsError
from infinipot.evaluate.benchmarks import Benchmark, find_benchmark
from infinipot.evaluate.core.journal import Header, differences, read_lines
from infinipot.evaluate.core.tables import file_name, write_text
from infinipot.evaluate.engines.base import WatchTime
from infinipot.evaluate.protocols import find_protocol
from infinipot.evaluate.records import Problem, Scored, Unit
from infinipot.evaluate.results import FORMAT, LINES, TIMES, Answered, AnswerTime, Verdict, beside, fill_in, sort

if TYPE_CHECKING:
    from infinipot.evaluate.core.statistics import Average

# What tells two runs apart that have one policy and one cap.
_OF_A_STREAM = ("keep", "block", "reserve", "positions", "dtype")
# What may differ between the shards of one run, by how it is put together,
_OF_A_SHARD = ("shard", "videos", "questions", "left_out", "parts")
# and what must not between runs that are compared.
_TO_COMPARE = ("annotations", "limit", "protocol", "seed", "sampling")


@dataclass(frozen=True, slots=True)
class Run:
    """A run as read from its files, of one shard or of several.

    Attributes:
        settings, made_by: of the header.
        devices: what it computed on.
        answers, problems, times: each question once; `times` may lack lines, or hold one twice, where it was killed.
        paths: its files.
        name: for a table: what tells it from the others.
        missing: shards whose files were not given, as "2/4".
        verdicts: of a judge on the answers, the last on each.
        judge: whose they are: its model and its prompt; empty where there are none.
    """

    settings: Header
    made_by: Header
    devices: tuple[str, ...]
    answers: tuple[Answered, ...]
    problems: tuple[Problem, ...]
    times: tuple[AnswerTime | WatchTime, ...]
    paths: tuple[Path, ...]
    name: str = ""
    missing: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    judge: Header = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """The number of questions of the run."""
        return int(self.settings["questions"])

    @property
    def left_out(self) -> int:
        """How many annotations could not be used, so that their questions are not among those `asked`."""
        return int(self.settings.get("left_out", 0))

    @property
    def mute(self) -> int:
        """How many answers have no verdict, because the judge's replies were none."""
        return sum(line.correct is None for line in self.verdicts)

    @property
    def grade(self) -> float | None:
        """The mean of the judge's scores, 0 to 5; None where it gave none."""
        scores = [line.score for line in self.verdicts if line.score is not None]
        return sum(scores) / len(scores) if scores else None

    @property
    def benchmark(self) -> Benchmark:
        return find_benchmark(self.settings["benchmark"])

    @property
    def average(self) -> Average:
        """The rule by which its protocol averages scores."""
        return find_protocol(self.settings["protocol"]).average(self.benchmark)

    def scored(self) -> dict[str, list[Scored]]:
        """The scores, by video."""
        videos: dict[str, list[Scored]] = {}
        for line in self.answers:
            unit = None if line.unit is None else Unit(**line.unit)
            scored = Scored(line.question, line.task, line.group, line.correct, tuple(line.parts), unit)
            videos.setdefault(line.video, []).append(scored)
        return videos

    def lacking(self) -> dict[str, tuple[int, int]]:
        """Where answers are missing: questions answered, of how many; "overall" first, then tasks and parts."""
        has = Counter(name for line in self.answers for name in {line.task, line.group, *line.parts})
        has["overall"], whole = len(self.answers), {"overall": self.asked}
        every = whole | dict(self.settings.get("parts", {})) | whole
        return {name: (has[name], asked) for name, asked in every.items() if has[name] < asked}


def read_run(path: Path) -> Run:
    """Reads the files of a run, which may still be going on.

    Open answers are scored by the verdicts that there are on these very answers; of several replies on one the last
    counts.

    Raises:
        ResultsError: it is not there, or no run's file.
    """
    header, lines = read_lines(path, *LINES)
    if header.get("type") != "run":
        raise ResultsError(f"{path}: its first line is not the header of a run")
    if header.get("format") != FORMAT:
        raise ResultsError(f"{path}: it has format {header.get('format')!r}; this version reads {FORMAT}")
    answers, problems = sort(lines)
    answers = tuple({line.question: line for line in answers}.values())  # twice where nothing kept two runs off a file
    (_, times), (judge, said) = _read_beside(path, "times", *TIMES), _read_beside(path, "verdicts", Verdict)
    sent = {line.question: fill_in(judge.get("prompt", ""), line) for line in answers if line.judged}
    verdicts = {line.question: line for line in said if line.sent == sent.get(line.question)}
    return Run(
        settings=header["settings"],
        made_by=header["made_by"],
        devices=tuple(dict.fromkeys((header["device"], *(one.device for one in times if isinstance(one, WatchTime))))),
        answers=tuple(replace(line, correct=verdicts.get(line.question, line).correct) for line in answers),
        problems=problems,
        times=tuple(times),
        paths=(path,),
        verdicts=tuple(verdicts.values()),
        judge={name: judge.get(name) for name in ("model", "prompt")} if verdicts else {},
    )


def _read_beside(path: Path, what: str, *kinds: Any) -> tuple[Header, list[Any]]:
    there = beside(path, what)
    return read_lines(there, *kinds) if there.is_file() else ({}, [])


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Reads runs, with the verdicts of their judge where there are some, and puts shards together.

    Raises:
        ResultsError: no run's file; a shard that is given twice; or runs of one benchmark that differ in more than the
            model and its memory, or were judged by different judges, so that their numbers do not compare.
    """
    others = {beside(path, what) for path in paths for what in ("times", "verdicts")}  # as a shell's *.jsonl gives them
    read = [read_run(path) for path in dict.fromkeys(paths) if path not in others]
    _require_alike(read, lambda run: {name: run.settings[name] for name in _TO_COMPARE})
    _require_alike([run for run in read if run.judge], lambda run: {"judge": run.judge})
    shards: dict[str, list[Run]] = {}
    for run in read:
        shards.setdefault(repr(_shared(run)), []).append(run)
    runs = [_together(parts) for parts in shards.values()]
    return [replace(run, name=name) for run, name in zip(runs, _names(runs), strict=True)]


def _shared(run: Run) -> tuple[Any, ...]:
    settings = {name: value for name, value in run.settings.items() if name not in _OF_A_SHARD}
    return settings, run.settings["shard"][1], run.made_by


def _together(runs: Sequence[Run]) -> Run:
    """A run whose files of shards these are; its settings are those of all shards."""
    count = runs[0].settings["shard"][1]
    by_number: dict[int, Run] = {}
    for run in runs:
        number = run.settings["shard"][0]
        if number in by_number:
            there = by_number[number].paths[0]
            raise ResultsError(
                f"{there} and {run.paths[0]} are both shard {number} of {count} of the same run: give one of them"
            )
        by_number[number] = run
    parts = [by_number[number] for number in sorted(by_number)]
    asked: Counter[str] = sum((Counter(part.settings.get("parts")) for part in parts), Counter())
    sums = {name: sum(part.settings.get(name, 0) for part in parts) for name in ("videos", "questions", "left_out")}
    return Run(
        settings={**_shared(parts[0])[0], **sums, "parts": dict(asked)},
        made_by=parts[0].made_by,
        devices=tuple(dict.fromkeys(device for part in parts for device in part.devices)),
        answers=tuple(line for part in parts for line in part.answers),
        problems=tuple({repr(line): line for part in parts for line in part.problems}.values()),
        times=tuple(line for part in parts for line in part.times),
        paths=tuple(path for part in parts for path in part.paths),
        missing=tuple(f"{number}/{count}" for number in range(1, count + 1) if number not in by_number),
        verdicts=tuple(line for part in parts for line in part.verdicts),
    )


def _require_alike(runs: Sequence[Run], told: Callable[[Run], Header]) -> None:
    """Makes sure that what is told of the runs of one benchmark is the same of all."""
    first: dict[tuple[str, str], Run] = {}
    for run in runs:
        one = first.setdefault((run.settings["benchmark"], run.settings["variant"]), run)
        if apart := list(differences(told(one), told(run))):
            raise ResultsError(
                f"{one.paths[0]} and {run.paths[0]} cannot be compared ({'; '.join(apart)}): report them separately"
            )


def _names(runs: Sequence[Run]) -> list[str]:
    """Policy and cap, a gate and second looks; the model where there are several; and, where runs have all that in
    common, what tells them apart."""
    several = len({run.settings["model"] for run in runs}) > 1
    names = []
    for run in runs:
        model = f"{Path(run.settings['model']).name} " if several else ""
        options = (("gate", run.settings.get("gate")), ("look", run.settings.get("look_again") or None))
        more = "".join(f" {name}={value}" for name, value in options if value is not None)
        names.append(f"{model}{run.settings['policy']} @{run.settings['cap']}{more}")
    places = [(run.settings["benchmark"], run.settings["variant"], name) for run, name in zip(runs, names, strict=True)]
    for place in {place for place in places if places.count(place) > 1}:
        alike = [number for number, each in enumerate(places) if each == place]
        for number, what in zip(alike, _apart([runs[number] for number in alike]), strict=True):
            names[number] += f" ({what})"
    return names


def _apart(runs: Sequence[Run]) -> list[str]:
    """The labels that tell runs of one policy and cap apart: other settings of the stream, else files, else paths."""
    differ = [name for name in _OF_A_STREAM if len({run.settings.get(name) for run in runs}) > 1]
    kinds = (
        [" ".join(f"{name}={run.settings.get(name)}" for name in differ) for run in runs],
        [run.paths[0].stem for run in runs],
        [str(run.paths[0]) for run in runs],
    )
    return next(kind for kind in kinds if len(set(kind)) == len(runs))


def submit(run: Run, path: Path) -> str | None:
    """Writes the answers for the benchmark's own server, where labels are withheld: of a whole run, never of a shard.

    Returns:
        A line for a person; None where the benchmark has no such server, or the labels are there.

    Raises:
        ResultsError: the file cannot be written.
    """
    if all(line.reference is not None for line in run.answers):
        return None
    text = run.benchmark.submission({line.question: line.answer or line.drawn for line in run.answers})
    if text is None:
        return None
    if run.missing:
        what = f"labels are withheld, and shard {', '.join(run.missing)} is not here"
        return f"{what}: `infinipot eval report` of all shards writes the file for the server"
    write_text(path, text)
    part = "" if run.settings["limit"] is None else ", of the first videos alone"
    left = run.asked - len(run.answers)
    short = f", but {left} of the {run.asked} answers {'is' if left == 1 else 'are'} missing" if left else ""
    return f"labels are withheld; the answers for the benchmark's own server are in {path}{part}{short}"


def submission_name(run: Run) -> str:
    """A file's name that tells a run from the others of a report."""
    name = f"{run.settings['benchmark']}-{run.settings['variant']}-{run.name}"
    return f"{file_name(name)}.submission.json"
