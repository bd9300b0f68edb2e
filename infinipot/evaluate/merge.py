"""Runs as a report takes them: their shards together, and only what can be compared side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from infinipot.errors import ResultsError
from infinipot.evaluate.core.journal import differences
from infinipot.evaluate.judge import read_verdicts, verdicts_path
from infinipot.evaluate.results import Run, read_run, times_path

# What may differ between the shards of one run, by how it is put together,
_OF_A_SHARD = ("shard", "videos", "questions", "parts")
# and what must not between runs that are compared.
_TO_COMPARE = ("annotations", "limit", "protocol", "seed", "sampling")


def read_runs(paths: Sequence[Path]) -> list[Run]:
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
    runs = [_together(parts) for parts in shards.values()]
    _require_comparable(runs)
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
            raise ResultsError(f"{there} and {run.paths[0]} are the same run, shard {number} of {count}")
        by_number[number] = run
    parts = [by_number[number] for number in sorted(by_number)]
    asked: Counter[str] = sum((Counter(part.settings.get("parts")) for part in parts), Counter())
    sums = {name: sum(part.settings[name] for part in parts) for name in ("videos", "questions")}
    return Run(
        settings={**_shared(parts[0])[0], **sums, "parts": dict(asked)},
        made_by=parts[0].made_by,
        devices=tuple(dict.fromkeys(device for part in parts for device in part.devices)),
        answers=tuple(line for part in parts for line in part.answers),
        problems=tuple({(line.where, line.what): line for part in parts for line in part.problems}.values()),
        times=tuple(line for part in parts for line in part.times),
        paths=tuple(path for part in parts for path in part.paths),
        missing=tuple(f"{number}/{count}" for number in range(1, count + 1) if number not in by_number),
        mute=sum(part.mute for part in parts),
    )


def _require_comparable(runs: Sequence[Run]) -> None:
    first: dict[tuple[str, str], Run] = {}
    for run in runs:
        one = first.setdefault((run.settings["benchmark"], run.settings["variant"]), run)
        here, there = ({name: each.settings[name] for name in _TO_COMPARE} for each in (run, one))
        if apart := list(differences(there, here)):
            raise ResultsError(
                f"{one.paths[0]} and {run.paths[0]} do not compare ({'; '.join(apart)}): report them apart"
            )


def _names(runs: Sequence[Run]) -> list[str]:
    """Policy and cap, a gate and second looks; with the model where there are several, and the file where that does not
    tell them apart."""
    several = len({run.settings["model"] for run in runs}) > 1
    names = []
    for run in runs:
        model = f"{Path(run.settings['model']).name} " if several else ""
        options = (("gate", run.settings.get("gate")), ("look", run.settings.get("look_again") or None))
        more = "".join(f" {name}={value}" for name, value in options if value is not None)
        names.append(f"{model}{run.settings['policy']} @{run.settings['cap']}{more}")
    places = [(run.settings["benchmark"], run.settings["variant"], name) for run, name in zip(runs, names, strict=True)]
    return [
        name if places.count(place) == 1 else f"{name} ({run.paths[0].stem})"
        for run, name, place in zip(runs, names, places, strict=True)
    ]
