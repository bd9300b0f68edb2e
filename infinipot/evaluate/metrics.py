"""How scores are averaged. Knows no prompt, file or model.

An average is taken of sums of scores by task and group, so that one of many sets of questions at once costs little more
than one of a single set: the bootstrap draws a thousand.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from infinipot.evaluate.records import Scored
from infinipot.evaluate.units import UnitScore, mean, single, unite

Name = TypeVar("Name", str, tuple[str, str, str | None])


@dataclass(frozen=True, slots=True)
class Sums:
    """Scores of sets of questions, summed up by cell.

    Attributes:
        cells: the (task, group, further parts) of each cell, in the order in which they first come.
        points: sums of scores in 0..1, `[..., cells]`.
        counts: of questions that have a score, `[..., cells]`.
    """

    cells: tuple[tuple[str, str | None, tuple[str, ...]], ...]
    points: np.ndarray
    counts: np.ndarray

    def means(self, names: Sequence[Name], of_cell: Sequence[Collection[Name | None]]) -> np.ndarray:
        """The mean over the questions of each name's cells, `[..., names]`; NaN where there are none.

        Args:
            of_cell: the names of each cell; None is no name.
        """
        part = np.array([[name in own for name in names] for own in of_cell], float).reshape(len(of_cell), len(names))
        return _ratio(self.points @ part, self.counts @ part)


def sum_up(sets: Sequence[Sequence[Scored]]) -> Sums:
    """The sums of each set, `[sets, cells]`; questions without a score count nowhere."""
    known = [(row, one, one.correct) for row, scored in enumerate(sets) for one in scored if one.correct is not None]
    cells = dict.fromkeys((one.task, one.group, one.parts) for _, one, _ in known)
    column = {cell: index for index, cell in enumerate(cells)}
    points, counts = np.zeros((2, len(sets), len(cells)))
    for row, one, correct in known:
        points[row, column[one.task, one.group, one.parts]] += correct
        counts[row, column[one.task, one.group, one.parts]] += 1
    return Sums(tuple(cells), points, counts)


@dataclass(frozen=True, slots=True)
class Average:
    """A way to average scores: "overall", then the means over the questions of each task, group and further part.

    Called with scores in 0..1, it returns the averages by name, "overall" first; none where nothing has a score.
    Questions of one unit count as one, with the unit's score.

    Attributes:
        overall: of sums `[..., cells]`, the headline `[...]`.
        groups: the groups' averages by name; None: means over their questions.
        unit: what makes one score of a unit's questions.
        means: further averages by name: each the unweighted mean of the averages of certain groups, and not there where
            one of those is not.
        singly: the name under which the mean over all questions, each for itself, is reported beside; None: it is not.
    """

    overall: Callable[[Sums], np.ndarray]
    groups: Callable[[Sums], dict[str, np.ndarray]] | None = None
    unit: UnitScore = mean
    means: Mapping[str, Sequence[str]] = field(default_factory=dict)
    singly: str | None = None

    def __call__(self, scored: Sequence[Scored]) -> dict[str, float]:
        sums = sum_up([unite(scored, self.unit)])
        if not sums.cells:
            return {}
        values = {name: float(value) for name, (value,) in self.of(sums).items()}
        return values if self.singly is None else values | {self.singly: over_questions(single(scored))["overall"]}

    def of(self, sums: Sums) -> dict[str, np.ndarray]:
        """The averages of each set, `[...]` by name; NaN where a set has no question of that name.

        "overall" comes first: no task or group can take its place, whatever annotations call it.
        """
        overall = self.overall(sums)
        groups = _by_group(sums) if self.groups is None else self.groups(sums)
        means = {
            name: np.stack([groups[one] for one in wanted]).mean(0)
            for name, wanted in self.means.items()
            if groups.keys() >= set(wanted)
        }
        parts = _named(sums, [parts for _, _, parts in sums.cells])
        return {"overall": overall, **means, **_by_task(sums), **groups, **parts} | {"overall": overall}


def _all_questions(sums: Sums) -> np.ndarray:
    return _ratio(sums.points.sum(-1), sums.counts.sum(-1))


def _all_tasks(sums: Sums) -> np.ndarray:
    return _mean_of(list(_by_task(sums).values()))


def _all_groups(sums: Sums) -> np.ndarray:
    return _mean_of(list(_tasks_within_groups(sums).values()))


def _by_task(sums: Sums) -> dict[str, np.ndarray]:
    return _named(sums, [(task,) for task, _, _ in sums.cells])


def _by_group(sums: Sums) -> dict[str, np.ndarray]:
    return _named(sums, [(group,) for _, group, _ in sums.cells])


def _tasks_within_groups(sums: Sums) -> dict[str, np.ndarray]:
    """The unweighted mean of the means of a group's tasks; a task without a group is one of its own."""
    tasks = _named(sums, [((group or task, task, group),) for task, group, _ in sums.cells])
    return {
        name: _mean_of([own for (group, *_), own in tasks.items() if group == name])
        for name in sorted({group for group, *_ in tasks})
    }


def _named(sums: Sums, of_cell: Sequence[Sequence[Name | None]]) -> dict[Name, np.ndarray]:
    names = list(dict.fromkeys(name for own in of_cell for name in own if name is not None))
    return dict(zip(names, np.moveaxis(sums.means(names, of_cell), -1, 0), strict=True))


def _mean_of(means: Sequence[np.ndarray]) -> np.ndarray:
    """Their unweighted mean, leaving out those that are NaN; NaN where all are."""
    stacked = np.stack(means)
    known = ~np.isnan(stacked)
    return _ratio(np.where(known, stacked, 0.0).sum(0), known.sum(0))


def _ratio(points: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(points, counts, out=np.full(np.shape(points), np.nan), where=counts > 0)


over_questions = Average(_all_questions)
"""The mean over all questions."""
over_tasks = Average(_all_tasks)
"""The unweighted mean of the tasks' means."""
over_groups = Average(_all_groups, _tasks_within_groups)
"""The unweighted mean of the groups', each of which is the unweighted mean of its tasks' means."""

AVERAGES = {"questions": over_questions, "tasks": over_tasks, "groups": over_groups}
