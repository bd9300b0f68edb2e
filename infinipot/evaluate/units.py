"""Units: questions that have one score together, such as the four of a group or the moments of one row.

A unit lies within one video, so that whoever draws videos draws whole units. Knows no benchmark.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from infinipot.evaluate.records import Scored

UnitScore = Callable[[Sequence[Scored]], float]
"""One score in 0..1 of all the questions of a unit, which are given in their order, each with a score."""


def mean(questions: Sequence[Scored]) -> float:
    """The mean of the questions' scores."""
    return sum(one.correct or 0.0 for one in questions) / len(questions)


def unite(scored: Sequence[Scored], score: UnitScore) -> list[Scored]:
    """The questions that have a score of their own, and for each unit one score, with its first question's partitions.

    A unit that lacks a question, or a score of one, has no score.
    """
    units: dict[str, list[Scored]] = {}
    for one in scored:
        if one.unit is not None:
            units.setdefault(one.unit.id, []).append(one)
    return [
        *(one for one in scored if one.unit is None),
        *(_united(name, questions, score) for name, questions in units.items()),
    ]


def single(scored: Sequence[Scored]) -> list[Scored]:
    """The same questions, each of which has a score of its own."""
    return [replace(one, unit=None) for one in scored]


def _united(name: str, questions: Sequence[Scored], score: UnitScore) -> Scored:
    known = {one.unit.place: one for one in questions if one.unit is not None and one.correct is not None}
    ordered = [known[place] for place in sorted(known)]
    first = questions[0]
    whole = first.unit is not None and len(ordered) == first.unit.size
    return replace(first, question_id=name, correct=score(ordered) if whole else None, unit=None)
