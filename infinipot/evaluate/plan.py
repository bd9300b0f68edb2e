"""The plan of a run: the part of a benchmark to ask, and a hash of it. Knows no model and no result file."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinipot.evaluate.benchmarks import Benchmark
from infinipot.evaluate.records import Item, Problem, Question


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The videos and questions of a run.

    Attributes:
        benchmark, variant: what was read.
        items: of this shard, in the order of the annotations.
        problems: annotations that cannot be used; of several shards the first has them all.
        shard: this one and how many there are, from 1.
        limit: how many videos are taken, from the first on; None: all.
        fingerprint: of all that was read: two runs of the same one ask the same.
    """

    benchmark: Benchmark
    variant: str
    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    shard: tuple[int, int]
    limit: int | None
    fingerprint: str

    @property
    def asked(self) -> dict[str, Question]:
        """The questions by their ids."""
        return {question.id: question for item in self.items for question in item.questions}

    @property
    def digests(self) -> dict[str, str]:
        """Twelve digits for each question, by its id, that stand for all it is asked with: its video, options, moment
        and subtitles too."""
        digests = {}
        for item in self.items:
            shown = f"{item.id!r} {item.subtitles!r}"
            for one in item.questions:
                digests[one.id] = hashlib.sha256(f"{one!r} {shown}".encode()).hexdigest()[:12]
        return digests

    @property
    def questions(self) -> int:
        return sum(len(item.questions) for item in self.items)

    @property
    def left_out(self) -> int:
        """How many annotations the run lacks, because they cannot be used; none under a limit, which asks for a part
        alone and whose run may go on whatever changes behind it."""
        return len(self.problems) if self.limit is None else 0

    @property
    def parts(self) -> dict[str, int]:
        """How many questions each task, group and further part has, by the names that a table gives them."""
        asked = self.asked.values()
        groups = Counter(question.group for question in asked if question.group is not None)
        parts = Counter(part for question in asked for part in question.parts)
        return {**Counter(question.task for question in asked), **groups, **parts}


def read_plan(
    benchmark: Benchmark,
    data: Path,
    variant: str | None = None,
    shard: tuple[int, int] = (1, 1),
    limit: int | None = None,
) -> RunPlan:
    """Reads a benchmark's annotations.

    A shard takes every n-th video, so that shards are alike in length, and the same ones every time. An annotation that
    cannot be used has no video, so the first shard tells of it, and no other.

    Raises:
        BenchmarkError: the data do not lie as the benchmark lays them out.
    """
    variant = benchmark.variants[0] if variant is None else variant
    read = list(benchmark.read(data, variant))
    items = [one for one in read if isinstance(one, Item)][:limit]
    number, count = shard
    problems = tuple(one for one in read if isinstance(one, Problem) and number == 1)
    mine = tuple(items[number - 1 :: count])
    return RunPlan(benchmark, variant, mine, problems, shard, limit, _fingerprint(items))


def _fingerprint(items: Sequence[Item]) -> str:
    """A hash of all that a run asks, wherever the data lie. Runs that were begun go on only while it stays the same."""
    digest = hashlib.sha256()
    for item in items:
        shown: Any = (item.id, item.id, item.questions, item.subtitles)
        digest.update(repr(shown).encode())
    return digest.hexdigest()
