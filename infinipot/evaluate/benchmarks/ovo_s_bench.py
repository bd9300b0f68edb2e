"""OVO-S-Bench (arXiv 2606.03890): spatial questions at their moment, with the times of the evidence they rest on.

As https://huggingface.co/datasets/InternLM/OVO-S-Bench has it: the questions as Parquet, which `pyarrow` reads (`pip
install infinipot[eval]`); the same rows as JSON are taken as well. A row is a question at each of its query times. With
one query time each of the row's answers is right. With several an answer belongs to each, the last one to all that are
left over, as the authors' `inference.py` (commit cd4768e) has it; with one query time that file takes the first alone.

Beside the benchmark's own partitions questions are reported by the age of their evidence: from the end of the last
evidence that began before the question to the question. Options that are pictures (task 4.3) cannot be put to a stream
as text: each such question is left out, with a line.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from infinipot.evaluate.benchmarks.annotations import (
    Entry,
    UnusableError,
    entries_of,
    find_video,
    parse_seconds,
    require,
    shown,
)
from infinipot.evaluate.benchmarks.base import Benchmark, Placed
from infinipot.evaluate.records import LETTERS, Problem, Question

LEVELS = (1, 2, 3, 4)
AGES: tuple[tuple[float, str], ...] = (
    (0, "evidence on show"),
    (10, "evidence up to 10 s old"),
    (60, "evidence up to 1 min old"),
    (300, "evidence up to 5 min old"),
    (float("inf"), "evidence over 5 min old"),
)
"""The longest age of each band in seconds, and its name."""
COLUMNS = (
    *("id", "video_path", "level", "task_subcategory", "question", "options"),
    *("query_times", "evidence_times", "answers"),
)


class OVOSBench(Benchmark, name="ovo-s-bench"):
    def entries(self, data: Path, variant: str) -> Iterator[Entry | Problem]:
        path = require(data, self.title, "ovo_s_bench.json", "ovo_s_bench.parquet")
        for entry in entries_of(path, data, columns=COLUMNS):
            try:
                if isinstance(entry, Problem):
                    yield entry
                elif variant in ("all", f"level-{_level(entry)}"):
                    yield from _moments(entry)
            except UnusableError as error:
                yield Problem(entry.where, str(error))

    def place(self, entry: Entry, data: Path, variant: str) -> Placed:
        options = _options(entry)
        at = entry.seconds("query_time")
        right = [_label(answer, options) for answer in _list(entry, "right")]
        question = Question(
            id=f"{entry.label('id')}_q{entry.whole('place')}",
            text=entry.text("question"),
            options=options,
            answer=right[0],
            task=entry.label("task_subcategory"),
            at=at,
            group=f"level {_level(entry)}",
            also=tuple(dict.fromkeys(one for one in right if one != right[0])),
            parts=_age(entry, at),
        )
        return Placed(question, *find_video(require(data, self.title, "videos"), entry.text("video_path"), data))


def _moments(entry: Entry) -> Iterator[Entry]:
    """A row at each of its query times, with the answers that are right then."""
    times, answers = _list(entry, "query_times"), _list(entry, "answers")
    for place, at in enumerate(times):
        right = answers if len(times) == 1 else [answers[min(place, len(answers) - 1)]]
        fields = entry.value | {"query_time": at, "right": right, "place": place}
        yield replace(entry, value=fields, where=f'{entry.where} "query_times"[{place}]')


def _list(entry: Entry, name: str) -> list[Any]:
    value = entry.get(name)
    if not isinstance(value, list | tuple) or not value:
        raise UnusableError(f'has no list "{name}" that holds something')
    return list(value)


def _level(entry: Entry) -> int:
    level = entry.whole("level")
    if level not in LEVELS:
        raise UnusableError(f'"level" is {shown(level)}, none of 1 to 4')
    return level


def _options(entry: Entry) -> tuple[str, ...]:
    """The options by their letters, which are A, B and so on."""
    given = entry.get("options")
    pairs = list(given.items()) if isinstance(given, dict) else _pairs(given)
    found = dict(pairs)
    if len(found) != len(pairs) or "".join(sorted(found)) != LETTERS[: len(found)]:
        raise UnusableError('"options" are not labelled A, B and so on')
    options = Entry({"options": [found[letter] for letter in sorted(found)]}, entry.where).texts("options")
    if any(re.match("data:image/", option, re.IGNORECASE) for option in options):
        raise UnusableError('"options" are pictures, which cannot be put to a stream as text')
    return options


def _pairs(given: Any) -> list[tuple[str, Any]]:
    pairs = []
    for pair in given if isinstance(given, list | tuple) else [None]:
        pair = (pair.get("key"), pair.get("value")) if isinstance(pair, dict) else pair
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise UnusableError('"options" are no texts by letter')
        pairs.append((pair[0], pair[1]))
    return pairs


def _label(answer: Any, options: tuple[str, ...]) -> str:
    return Entry({"answers": answer}, "").letter("answers", options)


def _age(entry: Entry, at: float) -> tuple[str, ...]:
    """The band of the evidence's age; none where no evidence began before the question."""
    given = entry.get("evidence_times")
    if given is None:
        return ()
    if not isinstance(given, list | tuple) or any(not isinstance(one, list | tuple) or len(one) != 2 for one in given):
        raise UnusableError('"evidence_times" is no list of pairs of times')
    spans = [tuple(parse_seconds(time, '"evidence_times"') for time in one) for one in given]
    begun = [end for start, end in spans if start <= at]
    if not begun:
        return ()
    age = max(0.0, at - max(begun))
    return (next(name for longest, name in AGES if age <= longest),)
