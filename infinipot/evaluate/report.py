"""What runs came to: tables of shares with their intervals, of differences, and of what it took. Prints nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from infinipot.evaluate.bootstrap import DRAWS, Difference, Estimate, difference, estimate
from infinipot.evaluate.journal import Record
from infinipot.evaluate.merge import Whole
from infinipot.evaluate.protocols import find_protocol
from infinipot.evaluate.published import Published, published
from infinipot.evaluate.records import counted
from infinipot.evaluate.results import differences


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts, the first column being the names of its rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took.

    Attributes:
        watching, answering: seconds, over all videos and questions; answering is part of watching.
        answer: seconds of an answer, the median.
        cache: bytes of the KV cache, set aside when a stream opens.
        peak: most bytes on the device at any video; on a CPU, of the process.
        patches: temporal patches that were watched, and alone: those that one watch a question would have cost.
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
class Section:
    """One benchmark: its runs side by side.

    Attributes:
        title: of the benchmark and its variant.
        runs: as given.
        estimates: by run, each average with its interval; empty where nothing is scored.
        against: by run, how it differs from the first; None for the first.
        costs: by run.
        published: rows for the same benchmark, checkpoint and number of frames.
    """

    title: str
    runs: tuple[Whole, ...]
    estimates: tuple[dict[str, Estimate], ...]
    against: tuple[Difference | None, ...]
    costs: tuple[Cost, ...]
    published: tuple[Published, ...]


def report(wholes: Sequence[Whole], draws: int = DRAWS) -> list[Section]:
    """A section for each benchmark, in the order of the runs."""
    by_benchmark: dict[tuple[str, str], list[Whole]] = {}
    for whole in wholes:
        by_benchmark.setdefault((whole.settings["benchmark"], whole.settings["variant"]), []).append(whole)
    return [_section(tuple(runs), draws) for runs in by_benchmark.values()]


def _section(runs: tuple[Whole, ...], draws: int) -> Section:
    first = runs[0]
    settings = first.settings
    scores = [run.scored() for run in runs]
    rows: dict[str, Published] = {}
    if _as_published(first):
        for run in runs:
            frames = settings["sampling"]["frames"]
            for row in published(settings["benchmark"], settings["variant"], run.settings["model"], frames):
                rows[f"{row.where} {row.model} {row.name}"] = row
    return Section(
        title=f"{first.benchmark.title}, {settings['variant']}, protocol {settings['protocol']}",
        runs=runs,
        estimates=tuple(estimate(own, run.average, draws) for run, own in zip(runs, scores, strict=True)),
        against=(None, *(difference(scores[0], own, first.average, draws) for own in scores[1:])),
        costs=tuple(cost(run) for run in runs),
        published=tuple(rows.values()),
    )


def _as_published(run: Whole) -> bool:
    """Whether what it asks, and shows, is what was published: the whole benchmark, and the protocol's own frames."""
    settings = run.settings
    if settings["protocol"] == "lmms-eval" or settings["limit"] is not None:
        return False
    frames = asdict(find_protocol(settings["protocol"]).frames(run.benchmark))
    return not list(differences(json.loads(json.dumps(frames)), settings["sampling"]))


def cost(run: Whole) -> Cost:
    """What a run took; of lines that a kill left twice, the last counts."""
    watched = {line["item"]: line for line in run.times if line["type"] == "watched"}
    answers = {line["question"]: line["seconds"] for line in run.times if line["type"] == "answer"}
    last: dict[str, int] = {}
    for line in run.answers:
        last[line["item"]] = max(last.get(line["item"], 0), line["patches"])
    return Cost(
        watching=sum(line["seconds"]["wall"] for line in watched.values()),
        answering=sum(answers.values()),
        answer=median(answers.values()) if answers else None,
        cache=run.settings["cache_bytes"],
        peak=max((line["peak_bytes"] for line in watched.values()), default=0),
        patches=sum(last.values()),
        alone=sum(line["patches"] for line in run.answers),
    )


def tables(section: Section) -> list[Table]:
    """A section for people."""
    made = [_accuracy(section), _costs(section)]
    return [*made, _differences(section)] if len(section.runs) > 1 else made


def _accuracy(section: Section) -> Table:
    lacking = [run.lacking() for run in section.runs]
    known: list[Mapping[str, object]] = [*section.estimates, *lacking]
    names = list(dict.fromkeys(name for one in known for name in one))
    rows = []
    for name in names:
        own = [
            _share(estimates.get(name), lacks.get(name))
            for estimates, lacks in zip(section.estimates, lacking, strict=True)
        ]
        theirs = [f"{row.values[name]:.1f}" if name in row.values else "" for row in section.published]
        rows.append((name, *own, *theirs))
    columns = ("%", *(run.name for run in section.runs), *(row.name for row in section.published))
    sources = tuple(
        dict.fromkeys(f"{row.name}: {row.where}, {row.model}, not measured here" for row in section.published)
    )
    notes = ["In brackets: 95% interval, by drawing videos."]
    if any(lacking):
        notes.append("Questions without an answer count nowhere: averages are over those that have one.")
    return Table(section.title, columns, tuple(rows), (*notes, *sources))


def _costs(section: Section) -> Table:
    def row(name: str, values: Sequence[str]) -> tuple[str, ...]:
        return (name, *values)

    runs, costs = section.runs, section.costs
    answered = [run.answers for run in runs]
    rows = (
        row("model", [Path(run.settings["model"]).name for run in runs]),
        row("computed on", [", ".join(run.devices) for run in runs]),
        row("questions answered", [f"{len(run.answers)} of {run.asked}" for run in runs]),
        row("unparsed", [str(sum(_unparsed(line) for line in answers)) for answers in answered]),
        row("not judged or without a label", [str(sum(a["correct"] is None for a in answers)) for answers in answered]),
        row("problems", [str(len(run.problems)) for run in runs]),
        row("cap, tokens", [f"{run.settings['cap']:,}" for run in runs]),
        row("KV cache, MiB", [f"{one.cache / 2**20:.1f}" for one in costs]),
        row("peak memory, MiB", [f"{one.peak / 2**20:.0f}" for one in costs]),
        row("watching, hours", [f"{one.watching / 3600:.3f}" for one in costs]),
        row("an answer, seconds", ["" if one.answer is None else f"{one.answer:.3f}" for one in costs]),
        row("temporal patches watched", [f"{one.patches:,}" for one in costs]),
        row("one watch a question would take", [f"{one.alone:,}" for one in costs]),
        row("saved", [f"{one.saved:.0%}" for one in costs]),
    )
    missing = tuple(f"{run.name}: shard {', '.join(run.missing)} is missing" for run in runs if run.missing)
    short = tuple(
        f"{run.name}: no answer to {run.asked - len(run.answers)} of {counted(run.asked, 'question')}"
        for run in runs
        if len(run.answers) < run.asked
    )
    mute = tuple(
        f"{run.name}: what the judge replied on {counted(count, 'answer')} is no verdict"
        for run in runs
        if (count := sum("judge_score" in line and line["correct"] is None for line in run.answers))
    )
    return Table("What it took", ("", *(run.name for run in runs)), rows, missing + short + mute)


def _differences(section: Section) -> Table:
    rows = []
    for run, gap in zip(section.runs[1:], section.against[1:], strict=True):
        if gap is None:
            rows.append((run.name, "no question in common", "", ""))
            continue
        interval = "" if gap.low is None or gap.high is None else f" [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
        rows.append((run.name, f"{100 * gap.value:+.1f}{interval}", f"{gap.p:.3f}", f"{gap.questions} in {gap.videos}"))
    return Table(
        f"Against {section.runs[0].name}, on the questions that both have",
        ("", "points", "p", "questions in videos"),
        tuple(rows),
        ("p: how often swapping the two runs' answers, video by video, gives as large a difference.",),
    )


def _unparsed(line: Record) -> bool:
    return line["answer"] is None and not line["judged"]


def _share(one: Estimate | None, lacks: tuple[int, int] | None) -> str:
    answered = "" if lacks is None else f"{lacks[0]} of {lacks[1]} answered"
    if one is None:
        return answered
    interval = "" if one.low is None or one.high is None else f" [{100 * one.low:.1f}, {100 * one.high:.1f}]"
    return f"{100 * one.value:.1f}{interval}{answered and f', {answered}'}"


def as_json(section: Section) -> dict[str, Any]:
    """A section for programs."""
    runs = [
        {
            "name": run.name,
            "files": [str(path) for path in run.paths],
            "settings": run.settings,
            "made_by": run.made_by,
            "devices": run.devices,
            "answered": len(run.answers),
            "asked": run.asked,
            "without_all_answers": {name: {"answered": has, "asked": of} for name, (has, of) in run.lacking().items()},
            "missing_shards": run.missing,
            "problems": run.problems,
            "estimates": {name: asdict(one) for name, one in estimates.items()},
            "against_the_first": None if gap is None else asdict(gap),
            "cost": {**asdict(spent), "saved": spent.saved},
        }
        for run, estimates, gap, spent in zip(
            section.runs, section.estimates, section.against, section.costs, strict=True
        )
    ]
    return {"title": section.title, "runs": runs, "published": [asdict(row) for row in section.published]}
