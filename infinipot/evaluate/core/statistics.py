"""Averages of scores and how sure they are: by resampling whole videos. Knows no file, benchmark or model.

Questions about one video stand or fall together, so videos are what is drawn, with all their questions (the cluster
bootstrap; Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, chapter 3.8). The average is computed
anew on each draw, from sums of scores by video, task and group: a thousand draws cost little more than one. Draws are
seeded: a report says the same every time. Questions that have one score together, a unit, lie within one video, so that
whoever draws videos draws whole units.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from infinipot.evaluate.core.estimates import Difference, Estimate, Interval, interval
from infinipot.evaluate.records import Scored, UnitScore, mean

Key = tuple[str, ...]
"""What a question counts in: a level ("all", "task", "group", "part", or "within" for a task of a group) and names."""
Clusters = Mapping[str, Sequence[Scored]]
"""The scores of each video, by its name."""

DRAWS = 1000
_AT_ONCE = 1 << 20
"""Draws times videos that are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Scores of sets of questions, summed up by what they count in.

    Attributes:
        keys: what they count in, in the order in which it first comes; ("all",) is the first.
        points, counts: sums of scores in 0..1, and of questions that have one, `[..., keys]`.
    """

    keys: tuple[Key, ...]
    points: np.ndarray
    counts: np.ndarray

    def taken(self, weights: np.ndarray) -> "Sums":
        """The sums over sets `[sets, keys]`, each taken `weights` times, `[..., sets]`: `[..., keys]`."""
        weights = weights.astype(float)
        return Sums(self.keys, weights @ self.points, weights @ self.counts)


def sum_up(sets: Sequence[Sequence[Scored]]) -> Sums:
    """The sums of each set, `[sets, keys]`; questions without a score count nowhere."""
    known = [(row, one, one.correct) for row, scored in enumerate(sets) for one in scored if one.correct is not None]
    keys = tuple(dict.fromkeys(key for _, one, _ in known for key in _keys(one)))
    column = {key: index for index, key in enumerate(keys)}
    points, counts = np.zeros((2, len(sets), len(keys)))
    for row, one, correct in known:
        own = [column[key] for key in _keys(one)]
        points[row, own] += correct
        counts[row, own] += 1
    return Sums(keys, points, counts)


def _keys(one: Scored) -> list[Key]:
    group = [] if one.group is None else [one.group]
    within = ("within", one.group or one.task, one.task, *group)
    return [
        ("all",),
        ("task", one.task),
        *(("group", name) for name in group),
        within,
        *(("part", part) for part in one.parts),
    ]


@dataclass(frozen=True, slots=True)
class Average:
    """A way to average scores: "overall", then the averages of each task, of each group and of each further part.

    Called with scores in 0..1, it returns the averages by name, "overall" first; none where nothing has a score.
    Questions of one unit count as one, with the unit's score.

    Attributes:
        over: what "overall" is the unweighted mean of: all "questions", the "tasks'" means over their questions, or the
            "groups'" averages. A group's average is the mean over its questions, but with "groups" that of its tasks'
            means, a task without a group being one of its own.
        unit: what makes one score of a unit's questions.
        means: further averages by name: each the unweighted mean of the averages of certain groups, and not there where
            one of those is not.
        singly: the name under which the mean over all questions, each for itself, is reported beside; None: it is not.
    """

    over: Literal["questions", "tasks", "groups"]
    unit: UnitScore = mean
    means: Mapping[str, Sequence[str]] = field(default_factory=dict)
    singly: str | None = None

    def __call__(self, scored: Sequence[Scored]) -> dict[str, float]:
        return {name: one.value for name, one in estimate({"": scored}, self, draws=1).items()}

    def of(self, sums: Sums) -> dict[str, np.ndarray]:
        """The averages of each set, `[...]` by name; NaN where a set has no question of that name.

        "overall" comes first: no task or group can take its place, whatever annotations call it.
        """
        shares = dict(zip(sums.keys, np.moveaxis(_ratio(sums.points, sums.counts), -1, 0), strict=True))
        tasks, groups, parts = (
            {key[1]: share for key, share in shares.items() if key[0] == level} for level in ("task", "group", "part")
        )
        if self.over == "groups":
            within = [key for key in shares if key[0] == "within"]
            names = sorted({key[1] for key in within})
            groups = {name: _mean_of([shares[key] for key in within if key[1] == name]) for name in names}
        whole = {"questions": {"": shares["all",]}, "tasks": tasks, "groups": groups}[self.over]
        overall = _mean_of(list(whole.values()))
        means = {
            name: np.stack([groups[one] for one in wanted]).mean(0)
            for name, wanted in self.means.items()
            if groups.keys() >= set(wanted)
        }
        return {"overall": overall, **means, **tasks, **groups, **parts} | {"overall": overall}

    def asked(self, sums: Sums) -> dict[str, int]:
        """The number of questions behind each average."""
        totals = dict(zip(sums.keys, map(int, sums.counts.sum(0)), strict=True))
        named = {key[1]: total for key, total in totals.items() if key[0] in ("task", "group", "part")}
        means = {name: sum(named.get(one, 0) for one in wanted) for name, wanted in self.means.items()}
        return {**means, **named, "overall": totals["all",]}

    def counting(self, sums: Sums) -> dict[str, int]:
        """How many sets have a question that each average is of; one of `means` may be of sets none of which has a
        question of each of its groups."""
        own = {name: ~np.isnan(value) for name, value in self.of(sums).items()}
        means = {name: np.any([own[one] for one in wanted], 0) for name, wanted in self.means.items() if name in own}
        return {name: int(its.sum()) for name, its in (own | means).items()}


over_questions, over_tasks, over_groups = Average("questions"), Average("tasks"), Average("groups")


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


def _united(name: str, questions: Sequence[Scored], score: UnitScore) -> Scored:
    known = {one.unit.place: one for one in questions if one.unit is not None and one.correct is not None}
    ordered = [known[place] for place in sorted(known)]
    first = questions[0]
    whole = first.unit is not None and len(ordered) == first.unit.size
    return replace(first, question_id=name, correct=score(ordered) if whole else None, unit=None)


def estimate(clusters: Clusters, average: Average, draws: int = DRAWS, seed: int = 0) -> dict[str, Estimate]:
    """Each average with its interval, by the percentiles of `draws` draws of videos.

    Draws without a question of some task say nothing of that task's average.
    """
    united = [unite(video, average.unit) for video in clusters.values()]
    sums = sum_up([video for video in united if any(one.correct is not None for one in video)])
    if not sums.keys:
        return {}
    heaviest, asked = _heaviest(sums, average), average.asked(sums)
    counting, values = average.counting(sums), average.of(sums.taken(np.ones(len(sums.counts))))
    drawn = _over_draws(lambda weights: average.of(sums.taken(weights)), len(sums.counts), draws, seed)
    found = {}
    for name, value in values.items():
        videos = counting[name]
        ends = interval(float(value), drawn[name], heaviest[name], 0.0) if videos > 1 else Interval()
        found[name] = Estimate(float(value), *ends, videos, asked[name])
    if average.singly is not None:
        alone = {video: [replace(one, unit=None) for one in scored] for video, scored in clusters.items()}
        found[average.singly] = estimate(alone, over_questions, draws, seed)["overall"]
    return found


def difference(
    one: Clusters, other: Clusters, average: Average, draws: int = DRAWS, seed: int = 0
) -> Difference | None:
    """How the "overall" average of `other` differs from that of `one`; None where they share no scored question."""
    one, other = ({video: unite(own, average.unit) for video, own in side.items()} for side in (one, other))
    pairs = list(_paired(one, other).values())
    if not pairs:
        return None
    videos, none = len(pairs), np.zeros(len(pairs))
    both = sum_up([pair[side] for side in (0, 1) for pair in pairs])

    def gaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The second side less the first. The first takes each video of `one` `first` times and each of `other`
        `second` times, the second side the other way round."""
        sides = (np.concatenate(weights, -1) for weights in ((first, second), (second, first)))
        before, now = (average.of(both.taken(weights))["overall"] for weights in sides)
        return np.asarray(now - before)

    value = float(gaps(np.ones(videos), none))
    drawn = _over_draws(lambda weights: {"": gaps(weights, np.zeros_like(weights))}, videos, draws, seed)[""]
    chance = np.random.default_rng(seed)
    as_far = 0
    for rows in _chunks(videos, draws):
        swapped = chance.random((rows, videos)) < 0.5
        as_far += int((abs(gaps(~swapped, swapped)) >= abs(value) - 1e-12).sum())
    first = Sums(both.keys, both.points[:videos], both.counts[:videos])
    ends = interval(value, drawn, _heaviest(first, average)["overall"], -1.0) if videos > 1 else Interval()
    return Difference(value, *ends, videos, average.asked(first)["overall"], (1 + as_far) / (1 + draws))


def clustered(answers: Iterable[tuple[int, bool]]) -> Clusters:
    """Answers, each given as its clip's seed and whether it is right, as scores by clip.

    Where two runs asked different numbers of questions about a clip, they have none of them in common.
    """
    rights: dict[int, list[bool]] = {}
    for seed, right in answers:
        rights.setdefault(seed, []).append(right)
    return {
        f"{seed:08}": [Scored(f"{place} of {len(its)}", "", None, float(right)) for place, right in enumerate(its)]
        for seed, its in sorted(rights.items())
    }


def _paired(one: Clusters, other: Clusters) -> dict[str, tuple[list[Scored], list[Scored]]]:
    """The scores of the questions that have one in both, by video, in the same order."""
    pairs = {}
    for video in sorted(one.keys() & other.keys()):
        first = {scored.question_id: scored for scored in one[video] if scored.correct is not None}
        second = {scored.question_id: scored for scored in other[video] if scored.correct is not None}
        if both := [question for question in first if question in second]:
            pairs[video] = ([first[question] for question in both], [second[question] for question in both])
    return pairs


def _over_draws(
    averages: Callable[[np.ndarray], dict[str, np.ndarray]], videos: int, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """The averages of `draws` draws of videos with replacement, `[draws]` by name.

    Args:
        averages: of how often each video was drawn, `[rows, videos]`.
    """
    choice = np.random.default_rng(seed)
    parts = []
    for rows in _chunks(videos, draws):
        chosen = choice.integers(0, videos, (rows, videos)) + videos * np.arange(rows)[:, None]
        weights = np.bincount(chosen.ravel(), minlength=rows * videos).reshape(rows, videos)
        parts.append(averages(weights))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _chunks(videos: int, draws: int) -> Iterator[int]:
    """The number of draws to make at a time."""
    most = max(1, _AT_ONCE // videos)
    for begin in range(0, draws, most):
        yield min(most, draws - begin)


def _heaviest(sums: Sums, average: Average) -> dict[str, float]:
    """The largest weight that one video has in each average: what it takes away if it alone is wrong."""
    counts = np.broadcast_to(sums.counts.sum(0), sums.counts.shape)
    without = average.of(Sums(sums.keys, counts - sums.counts, counts))
    return {name: float(1 - own.min()) for name, own in without.items()}


def _mean_of(means: Sequence[np.ndarray]) -> np.ndarray:
    """Their unweighted mean, leaving out those that are NaN; NaN where all are."""
    stacked = np.stack(means)
    known = ~np.isnan(stacked)
    return _ratio(np.where(known, stacked, 0.0).sum(0), known.sum(0))


def _ratio(points: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(points, counts, out=np.full(np.shape(points), np.nan), where=counts > 0)
