"""The report on runs: tables of accuracies with their intervals, differences, and costs. Prints nothing."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from infinipot.evaluate.core.estimates import Difference, Estimate
from infinipot.evaluate.core.journal import differences
from infinipot.evaluate.core.statistics import DRAWS, difference, estimate
from infinipot.evaluate.core.tables import Table, note_on_chance, notes_on, percent
from infinipot.evaluate.engines.base import WatchTime
from infinipot.evaluate.protocols import find_protocol
from infinipot.evaluate.published import Published, published
from infinipot.evaluate.reading import Run
from infinipot.evaluate.records import counted
from infinipot.evaluate.results import AnswerTime


@dataclass(frozen=True, slots=True)
class Spent:
    """The time and memory that a run took.

    Attributes:
        watching, answering: seconds, over all videos and questions; answering is part of watching.
        answer: seconds that an answer took, the median; None where there is none.
        cache: bytes of the KV cache, set aside when a stream opens.
        peak: most bytes on the device at any video; on a CPU, of the process.
        patches, alone: temporal patches that were watched, and those that one watch per question would have taken.
    """

    watching: float
    answering: float
    answer: float | None
    cache: int
    peak: int
    patches: int
    alone: int

    @property
    def saved(self) -> float:
        """The share of patches that watching once a video saved."""
        return 1 - self.patches / self.alone if self.alone else 0.0


@dataclass(frozen=True, slots=True)
class Compared:
    """A run, and what it came to.

    Attributes:
        run: as given.
        estimates: each average with its interval; empty where nothing is scored.
        against: how it differs from the first run; None for that one.
        spent: what it took.
    """

    run: Run
    estimates: dict[str, Estimate]
    against: Difference | None
    spent: Spent


@dataclass(frozen=True, slots=True)
class Section:
    """One benchmark, by its title and variant: its runs side by side, and `published` rows for the same benchmark
    and checkpoint, and for the same number of frames where it is stated.
    """

    title: str
    runs: tuple[Compared, ...]
    published: tuple[Published, ...]


def report(runs: Sequence[Run], draws: int = DRAWS) -> list[Section]:
    """A section for each benchmark, in the order of the runs."""
    by_benchmark: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_benchmark.setdefault((run.settings["benchmark"], run.settings["variant"]), []).append(run)
    return [_section(runs, draws) for runs in by_benchmark.values()]


def _section(runs: Sequence[Run], draws: int) -> Section:
    first = runs[0]
    settings, scores = first.settings, first.scored()
    rows: dict[str, Published] = {}
    for run in filter(_as_published, runs):
        for row in published(settings["benchmark"], settings["variant"], run.settings["model"]):
            if row.may_be_of(settings["sampling"]["frames"]):
                rows[f"{row.where} {row.model} {row.name}"] = row
    compared = []
    for run in runs:
        own = run.scored()
        against = None if run is first else difference(scores, own, first.average, draws)
        compared.append(Compared(run, estimate(own, run.average, draws), against, cost(run)))
    title = f"{first.benchmark.title}, {settings['variant']}, protocol {settings['protocol']}"
    return Section(title, tuple(compared), tuple(rows.values()))


def _as_published(run: Run) -> bool:
    """Whether what it asks, and shows, is what was published: the whole benchmark, and the protocol's own frames."""
    settings = run.settings
    partial = settings["limit"] is not None or run.missing or run.left_out or run.lacking()
    if settings["protocol"] == "lmms-eval" or partial:
        return False
    frames = asdict(find_protocol(settings["protocol"]).frames(run.benchmark))
    return not list(differences(json.loads(json.dumps(frames)), settings["sampling"]))


def cost(run: Run) -> Spent:
    """The time and memory of a run; of lines that a kill left twice, the last counts."""
    watched = {line.item: line for line in run.times if isinstance(line, WatchTime)}
    answers = {line.question: line.seconds for line in run.times if isinstance(line, AnswerTime)}
    last: dict[str, int] = {}
    for line in run.answers:
        last[line.item] = max(last.get(line.item, 0), line.patches)
    return Spent(
        watching=sum(line.seconds["wall"] for line in watched.values()),
        answering=sum(answers.values()),
        answer=median(answers.values()) if answers else None,
        cache=run.settings["cache_bytes"],
        peak=max((line.peak_bytes for line in watched.values()), default=0),
        patches=sum(last.values()),
        alone=sum(line.patches for line in run.answers),
    )


def tables(section: Section) -> list[Table]:
    """A section for people."""
    made = [_accuracy(section), _costs(section)]
    return [*made, _differences(section)] if len(section.runs) > 1 else made


def _accuracy(section: Section) -> Table:
    lacking = [one.run.lacking() for one in section.runs]
    known: list[Mapping[str, object]] = [*(one.estimates for one in section.runs), *lacking]
    rows = []
    for name in dict.fromkeys(name for one in known for name in one):
        own = [share(one.estimates, lacks, name) for one, lacks in zip(section.runs, lacking, strict=True)]
        theirs = [f"{row.values[name]:.1f}" if name in row.values else "" for row in section.published]
        rows.append((name, *own, *theirs))
    columns = ("%", *(one.run.name for one in section.runs), *(row.name for row in section.published))
    estimates = (each for one in section.runs for each in one.estimates.values())
    notes = ["In brackets: 95% interval, by drawing videos.", *notes_on(estimates, "video")]
    if any(lacking):
        notes.append("Questions without an answer count nowhere: averages are over those that have one.")
    notes += [
        f"{one.run.name}: {counted(one.run.left_out, 'annotation')} could not be used and "
        f"{'counts' if one.run.left_out == 1 else 'count'} nowhere."
        for one in section.runs
        if one.run.left_out
    ]
    notes += dict.fromkeys(f"{row.name}: {row.source}, not measured here" for row in section.published)
    return Table(section.title, columns, tuple(rows), tuple(notes))


def share(estimates: Mapping[str, Estimate], lacking: Mapping[str, tuple[int, int]], name: str) -> str:
    """An average with its interval, and how many of its questions were answered where not all were."""
    cells = [percent(estimates[name])] if name in estimates else []
    return ", ".join([*cells, *("{} of {} answered".format(*lacking[each]) for each in [name] if each in lacking)])


def _costs(section: Section) -> Table:
    cells: dict[str, Callable[[Run, Spent], str]] = {
        "model": lambda run, _: Path(run.settings["model"]).name,
        "computed on": lambda run, _: ", ".join(run.devices),
        "questions answered": lambda run, _: f"{len(run.answers)} of {run.asked}",
        "unparsed": lambda run, _: str(sum(line.answer is None and not line.judged for line in run.answers)),
        "not judged or without a label": lambda run, _: str(sum(line.correct is None for line in run.answers)),
        "judge's score, mean": lambda run, _: "" if run.grade is None else f"{run.grade:.2f}",
        "problems": lambda run, _: str(len(run.problems)),
        "cap, tokens": lambda run, _: f"{run.settings['cap']:,}",
        "KV cache, MiB": lambda _, spent: f"{spent.cache / 2**20:.1f}",
        "peak memory, MiB": lambda _, spent: f"{spent.peak / 2**20:.0f}",
        "watching, hours": lambda _, spent: f"{spent.watching / 3600:.3f}",
        "an answer, seconds": lambda _, spent: "" if spent.answer is None else f"{spent.answer:.3f}",
        "temporal patches watched": lambda _, spent: f"{spent.patches:,}",
        "one watch a question would take": lambda _, spent: f"{spent.alone:,}",
        "saved": lambda _, spent: f"{spent.saved:.0%}",
    }
    rows = [(name, *(cell(one.run, one.spent) for one in section.runs)) for name, cell in cells.items()]
    notes = []
    for run in (one.run for one in section.runs):
        if run.missing:
            notes.append(f"{run.name}: shard {', '.join(run.missing)} is missing")
        if beside := max((line.beside for line in run.times if isinstance(line, WatchTime)), default=0):
            shared = f"{counted(beside, 'other run')}: hours and peak memory are those of all together"
            notes.append(f"{run.name} watched side by side with {shared}")
        if lacking := run.asked - len(run.answers):
            notes.append(f"{run.name}: no answer to {lacking} of {counted(run.asked, 'question')}")
        if run.mute:
            notes.append(
                f"{run.name}: {counted(run.mute, 'answer')} without a verdict, as no reply of the judge was one"
            )
    told = tuple(row for row in rows if any(row[1:]))
    return Table("What it took", ("", *(one.run.name for one in section.runs)), told, tuple(notes))


def _differences(section: Section) -> Table:
    rows = []
    for one in section.runs[1:]:
        cells, gap = ("no question in common", "", ""), one.against
        if gap:
            cells = (percent(gap, signed=True), f"{gap.p:.3f}", f"{gap.questions} in {gap.videos}")
        rows.append((one.run.name, *cells))
    first = section.runs[0].run
    notes = ["p: how often swapping the two runs' answers, video by video, gives as large a difference."]
    for run in (one.run for one in section.runs[1:]):
        if apart := [name for name in first.made_by | run.made_by if first.made_by.get(name) != run.made_by.get(name)]:
            what = f"{run.name} was not made with the {' and '.join(apart)} that {first.name} was made with"
            notes.append(f"{what}: the difference may come from that.")
    against = [one.against for one in section.runs[1:]]
    notes += [*note_on_chance(against), *notes_on(against, "video")]
    return Table(
        f"Against {first.name}, on the questions that both have",
        ("", "points", "p", "questions in videos"),
        tuple(rows),
        tuple(notes),
    )


def as_json(section: Section) -> dict[str, Any]:
    """A section for programs."""
    published = [asdict(row) for row in section.published]
    return {"title": section.title, "runs": list(map(_run_as_json, section.runs)), "published": published}


def _run_as_json(one: Compared) -> dict[str, Any]:
    run = one.run
    return {
        "name": run.name,
        "files": [str(path) for path in run.paths],
        "settings": run.settings,
        "made_by": run.made_by,
        "devices": run.devices,
        "answered": len(run.answers),
        "asked": run.asked,
        "left_out": run.left_out,
        "without_all_answers": {name: {"answered": has, "asked": of} for name, (has, of) in run.lacking().items()},
        "missing_shards": run.missing,
        "judge": {**run.judge, "score": run.grade} if run.judge else None,
        "problems": [asdict(line) for line in run.problems],
        "estimates": {name: asdict(each) for name, each in one.estimates.items()},
        "against_the_first": None if one.against is None else asdict(one.against),
        "cost": {**asdict(one.spent), "saved": one.spent.saved},
    }
