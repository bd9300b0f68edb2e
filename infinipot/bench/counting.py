"""Answers counted by memory: what the rows of all sections are made of."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from infinipot.bench import statistics
from infinipot.bench.case import CELLS, Holder
from infinipot.bench.statistics import Estimate, tally
from infinipot.bench.variants import DEFAULT
from infinipot.bench.watch import Answer, Record

Row = dict[str, Any]
EVERYWHERE = "all"  # backgrounds that the world makes, together
FULL_CACHE = Holder("full")


class Answers:
    """The answers of some records, to be counted by memory."""

    def __init__(
        self, records: Iterable[Record], counts: Callable[[Record, Answer], bool] = lambda record, answer: True
    ):
        self.of: dict[Holder, list[tuple[int, bool]]] = defaultdict(list)
        self.chances: list[float] = []
        self.caps: dict[Holder, int] = {}
        self.kept: dict[Holder, int] = {}
        self.bytes: dict[Holder, int | None] = {}
        for record in records:
            counted = [answer for answer in record.answers if counts(record, answer)]
            self.of[record.case.holder] += [(record.case.scene.seed, answer.correct) for answer in counted]
            self.chances += [answer.chance for answer in counted]
            self.caps[record.case.holder] = record.cap
            self.bytes[record.case.holder] = record.stats.get("bytes")
            kept = record.case.holder.kept or record.case.scene.patches * CELLS
            self.kept[record.case.holder] = kept * record.cells // CELLS

    def row(self, holder: Holder, **named: Any) -> Row | None:
        """How a memory did, and how it compares with the default policy in as many tokens and with the full cache."""
        counts = tally(self.of.get(holder, ()))
        right = statistics.share(counts)
        if right is None:
            return None
        default = Holder(DEFAULT, holder.kept, holder.block)
        return {
            **named,
            "policy": holder.policy,
            "kept": self.kept[holder],
            "cap": self.caps[holder],
            "bytes": self.bytes[holder],
            "right": right,
            "chance": sum(self.chances) / len(self.chances),
            "against_default": self.against(holder, default),
            "against_full": self.against(holder, FULL_CACHE),
        }

    def against(self, holder: Holder, other: Holder) -> Estimate | None:
        """The paired difference of two memories; None of one with itself."""
        if holder == other:
            return None
        return statistics.difference(tally(self.of.get(holder, ())), tally(self.of.get(other, ())))


def by_background(records: list[Record]) -> Iterator[tuple[str, list[Record]]]:
    """The records of each kind of background, and those of all kinds that the world makes."""
    kinds = dict.fromkeys(record.case.scene.kind for record in records)
    for kind in kinds:
        yield kind, [record for record in records if record.case.scene.kind == kind]
    if len(made := [kind for kind in kinds if kind != "footage"]) > 1:
        yield EVERYWHERE, [record for record in records if record.case.scene.kind in made]
