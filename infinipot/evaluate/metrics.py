"""How scores are averaged. Knows no prompt, file or model.

An average is taken of sums of scores by task and group, so that one of many sets of questions at once costs little more
than one of a single set: the bootstrap draws a thousand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from infinipot.evaluate.records import Scored


@dataclass(frozen=True, slots=True)
class Sums:
    """Scores of sets of questions, summed up by cell.

    Attributes:
        cells: the (task, group) of each cell, in the order in which they first come.
        points: sums of scores in 0..1, `[..., cells]`.
        counts: of questions that have a score, `[..., cells]`.
    """

    cells: tuple[tuple[str, str | None], ...]
    points: np.ndarray
    counts: np.ndarray

    def means(self, names: Sequence[str], of_cell: Sequence[str | None]) -> np.ndarray:
        """The mean over the questions of each name's cells, `[..., names]`; NaN where there are none.

        Args:
            of_cell: the name of each cell; None: it is no name's.
        """
        part = np.array([[own == name for name in names] for own in of_cell], float).reshape(len(of_cell), len(names))
        return _ratio(self.points @ part, self.counts @ part)


def sum_up(sets: Sequence[Sequence[Scored]]) -> Sums:
    """The sums of each set, `[sets, cells]`; questions without a score count nowhere."""
    known = [(row, one, one.correct) for row, scored in enumerate(sets) for one in scored if one.correct is not None]
    cells = dict.fromkeys((one.task, one.group) for _, one, _ in known)
    column = {cell: index for index, cell in enumerate(cells)}
    points, counts = np.zeros((2, len(sets), len(cells)))
    for row, one, correct in known:
        points[row, column[one.task, one.group]] += correct
        counts[row, column[one.task, one.group]] += 1
    return Sums(tuple(cells), points, counts)


@dataclass(frozen=True, slots=True)
class Average:
    """A way to average scores: "overall", then the means over the questions of each task and of each group.

    Called with scores in 0..1, it returns the averages by name, "overall" first; none where nothing has a score.

    Attributes:
        overall: of sums `[..., cells]`, the headline `[...]`.
        groups: the groups' averages by name; None: means over their questions.
    """

    overall: Callable[[Sums], np.ndarray]
    groups: Callable[[Sums], dict[str, np.ndarray]] | None = None

    def __call__(self, scored: Sequence[Scored]) -> dict[str, float]:
        sums = sum_up([scored])
        return {name: float(value) for name, (value,) in self.of(sums).items()} if sums.cells else {}

    def of(self, sums: Sums) -> dict[str, np.ndarray]:
        """The averages of each set, `[...]` by name; NaN where a set has no question of that name.

        "overall" comes first: no task or group can take its place, whatever annotations call it.
        """
        overall = self.overall(sums)
        groups = _by_group(sums) if self.groups is None else self.groups(sums)
        return {"overall": overall, **_by_task(sums), **groups} | {"overall": overall}


def _all_questions(sums: Sums) -> np.ndarray:
    return _ratio(sums.points.sum(-1), sums.counts.sum(-1))


def _all_tasks(sums: Sums) -> np.ndarray:
    return _mean_of(list(_by_task(sums).values()))


def _all_groups(sums: Sums) -> np.ndarray:
    return _mean_of(list(_tasks_within_groups(sums).values()))


def _by_task(sums: Sums) -> dict[str, np.ndarray]:
    return _named(sums, [task for task, _ in sums.cells])


def _by_group(sums: Sums) -> dict[str, np.ndarray]:
    return _named(sums, [group for _, group in sums.cells])


def _tasks_within_groups(sums: Sums) -> dict[str, np.ndarray]:
    """The unweighted mean of the means of a group's tasks; a task without a group is one of its own."""
    cells = _ratio(sums.points, sums.counts)
    groups = [group or task for task, group in sums.cells]
    return {
        name: _mean_of([cells[..., index] for index, own in enumerate(groups) if own == name])
        for name in sorted(set(groups))
    }


def _named(sums: Sums, of_cell: Sequence[str | None]) -> dict[str, np.ndarray]:
    names = list(dict.fromkeys(name for name in of_cell if name is not None))
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
