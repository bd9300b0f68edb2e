"""OVO-S-Bench (arXiv 2606.03890): spatial questions at their moment, with the times of the evidence they rest on.

As https://huggingface.co/datasets/InternLM/OVO-S-Bench has it: the questions as Parquet, which `pyarrow` reads (`pip
install pyarrow`, the extra `eval`); the same rows as JSON are taken as well. A row is a question at each of its query
times. With one query time, each of the row's answers is right; the authors' `inference.py` (commit cd4768e) takes the
first alone. With several, each has its own answer, and the last answer serves all times that are left over, as in that
file.

Beside the benchmark's own partitions questions are reported by the age of their evidence: from the end of the last
evidence that began before the question to the question. Options that are pictures (task 4.3) cannot be put to a stream
as text: each such question is left out, with a line.
"""

import re
from collections.abc import Iterable
from typing import Any

from infinipot.evaluate.benchmarks.annotations import Entry, UnusableError, parse_seconds, shown
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.records import LETTERS, Question

LEVELS = (1, 2, 3, 4)
AGES: tuple[tuple[float, str], ...] = (
    (0, "evidence on show"),
    (10, "evidence up to 10 s old"),
    (60, "evidence up to 1 min old"),
    (300, "evidence up to 5 min old"),
    (float("inf"), "evidence over 5 min old"),
)
"""The longest age of each band in seconds, and its name."""


class OVOSBench(Benchmark, name="ovo-s-bench"):
    def split(self, row: Entry, variant: str) -> Iterable[Entry]:
        """A row at each of its query times, with the answers that are right then."""
        if variant not in ("all", f"level-{_level(row)}"):
            return
        times, answers = row.some("query_times"), row.some("answers")
        for place, at in enumerate(times):
            right = answers if len(times) == 1 else [answers[min(place, len(answers) - 1)]]
            yield row.at("query_times", place, query_time=at, right=right, place=place)

    def question(self, entry: Entry, variant: str) -> Question:
        options, at = _options(entry), entry.seconds("query_time")
        first, *others = (Entry({"answers": answer}).letter("answers", options) for answer in entry.some("right"))
        return Question(
            id=f"{entry.label('id')}_q{entry.whole('place')}",
            text=entry.text("question"),
            options=options,
            answer=first,
            task=entry.label("task_subcategory"),
            at=at,
            group=f"level {_level(entry)}",
            also=tuple(dict.fromkeys(one for one in others if one != first)),
            parts=_age(entry, at),
        )


def _level(entry: Entry) -> int:
    level = entry.whole("level")
    if level not in LEVELS:
        raise UnusableError(f'"level" is {shown(level)}, not 1, 2, 3 or 4')
    return level


def _options(entry: Entry) -> tuple[str, ...]:
    """The options by their letters, which are A, B and so on."""
    given = entry.get("options")
    pairs = list(given.items()) if isinstance(given, dict) else _pairs(given)
    found = dict(pairs)
    if len(found) != len(pairs) or "".join(sorted(found)) != LETTERS[: len(found)]:
        raise UnusableError('"options" are not labelled A, B and so on')
    options = Entry({"options": [found[letter] for letter in sorted(found)]}).texts("options")
    if any(re.match("data:image/", option, re.IGNORECASE) for option in options):
        raise UnusableError('"options" are pictures, which cannot be put to a stream as text')
    return options


def _pairs(given: Any) -> list[tuple[str, Any]]:
    pairs = []
    for pair in given if isinstance(given, list | tuple) else [None]:
        pair = (pair.get("key"), pair.get("value")) if isinstance(pair, dict) else pair
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise UnusableError('"options" is neither an object of texts by letter nor a list of such pairs')
        pairs.append((pair[0], pair[1]))
    return pairs


def _age(entry: Entry, at: float) -> tuple[str, ...]:
    """The band of the evidence's age; none where no evidence began before the question."""
    given = entry.get("evidence_times")
    if given is None:
        return ()
    if not isinstance(given, list | tuple) or any(not isinstance(one, list | tuple) or len(one) != 2 for one in given):
        raise UnusableError('"evidence_times" is not a list of pairs of times')
    spans = [tuple(parse_seconds(time, '"evidence_times"') for time in one) for one in given]
    begun = [end for start, end in spans if start <= at]
    if not begun:
        return ()
    age = max(0.0, at - max(begun))
    return (next(name for longest, name in AGES if age <= longest),)
