"""How answers are scored, and scores averaged. Knows no prompt, file or model."""

from collections.abc import Mapping, Sequence

from infinipot.evaluate.records import Question, Scored


def score(question: Question, answer: str | None) -> float | None:
    """1 for a right answer, 0 for a wrong or unparsed one; None without a label, or where a judge is needed.

    Args:
        answer: as the protocol read it.
    """
    if question.answer is None or question.judged:
        return None
    return float(answer == question.answer)


def over_questions(scored: Sequence[Scored]) -> dict[str, float]:
    """The mean over all questions as "overall"; then over those of each task, then of each group.

    Scores lie in 0..1. Questions without a score count nowhere; where no question has one, the result is empty.
    """
    known = [one.correct for one in scored if one.correct is not None]
    if not known:
        return {}
    return _summary(_mean(known), _by_task(scored), _by_group(scored))


def over_tasks(scored: Sequence[Scored]) -> dict[str, float]:
    """As `over_questions`, but "overall" is the unweighted mean of the tasks' means."""
    tasks = _by_task(scored)
    if not tasks:
        return {}
    return _summary(_mean(list(tasks.values())), tasks, _by_group(scored))


def over_groups(scored: Sequence[Scored]) -> dict[str, float]:
    """As `over_tasks`, but a group's is the unweighted mean of its tasks' means, and "overall" that of the groups'."""
    groups = {one.group or one.task for one in scored if one.correct is not None}
    within = {name: _by_task([one for one in scored if (one.group or one.task) == name]) for name in sorted(groups)}
    means = {name: _mean(list(tasks.values())) for name, tasks in within.items()}
    return _summary(_mean(list(means.values())), _by_task(scored), means) if means else {}


def _summary(overall: float, tasks: Mapping[str, float], groups: Mapping[str, float]) -> dict[str, float]:
    """All in one, "overall" first: no task or group can take its place, whatever annotations call it."""
    return {"overall": overall, **tasks, **groups} | {"overall": overall}


def _by_task(scored: Sequence[Scored]) -> dict[str, float]:
    return _means([(one.task, one.correct) for one in scored if one.correct is not None])


def _by_group(scored: Sequence[Scored]) -> dict[str, float]:
    return _means([(one.group, one.correct) for one in scored if one.correct is not None and one.group is not None])


def _means(pairs: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The mean of each name's scores, in the order in which the names first come."""
    scores: dict[str, list[float]] = {}
    for name, correct in pairs:
        scores.setdefault(name, []).append(correct)
    return {name: _mean(values) for name, values in scores.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
