"""How sure an average is, and a difference of two: by resampling whole videos. Knows no file, benchmark or model.

Questions about one video are not independent of each other, so videos are what is drawn, with all their questions (the
cluster bootstrap; Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, chapter 3.8). The average is
whatever the protocol says it is, computed anew on each draw. Draws are seeded: a report says the same every time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from infinipot.evaluate.metrics import Average, Sums, over_questions, sum_up
from infinipot.evaluate.records import Scored
from infinipot.evaluate.units import single, unite
from infinipot.intervals import interval

Clusters = Mapping[str, Sequence[Scored]]
"""The scores of each video, by its name."""

DRAWS = 1000
_AT_ONCE = 1 << 20
"""Draws times videos that are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share in 0..1 and its 95% interval; None where a single video is all there is to draw from."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """The second run's average less the first one's, on the questions that both have a score for.

    Attributes:
        value, low, high: in shares, -1..1, with the 95% interval.
        p: how often chance alone would give at least this difference, from swapping the two runs' scores video by
            video (a randomization test; Noreen, *Computer-Intensive Methods for Testing Hypotheses*, 1989).
        questions, videos: that both have; a unit counts as one question.
    """

    value: float
    low: float | None
    high: float | None
    p: float
    questions: int
    videos: int


def estimate(clusters: Clusters, average: Average, draws: int = DRAWS, seed: int = 0) -> dict[str, Estimate]:
    """Each average with its interval, by the percentiles of `draws` draws of videos.

    Draws without a question of some task say nothing of that task's average.
    """
    united = [unite(video, average.unit) for video in clusters.values()]
    sums = sum_up([video for video in united if any(one.correct is not None for one in video)])
    if not sums.cells:
        return {}
    values = {name: float(value) for name, value in average.of(_total(sums)).items()}
    drawn = _over_draws(lambda weights: average.of(_weighted(sums, weights)), len(sums.counts), draws, seed)
    videos = {name: int((~np.isnan(own)).sum()) for name, own in average.of(sums).items()}
    heaviest = _heaviest(sums, average)
    estimates = {
        name: Estimate(value, *interval(value, drawn[name], heaviest[name], 0.0))
        if videos[name] > 1
        else Estimate(value, None, None)
        for name, value in values.items()
    }
    if average.singly is not None:
        alone = {video: single(scored) for video, scored in clusters.items()}
        estimates[average.singly] = estimate(alone, over_questions, draws, seed)["overall"]
    return estimates


def difference(
    one: Clusters, other: Clusters, average: Average, draws: int = DRAWS, seed: int = 0
) -> Difference | None:
    """How the "overall" average of `other` differs from that of `one`; None where they share no scored question."""
    one, other = ({video: unite(own, average.unit) for video, own in side.items()} for side in (one, other))
    pairs = list(_paired(one, other).values())
    if not pairs:
        return None
    both = sum_up([video for side in (0, 1) for video in (pair[side] for pair in pairs)])
    first, second = (Sums(both.cells, *half) for half in _halves(both, len(pairs)))
    change = Sums(both.cells, second.points - first.points, second.counts - first.counts)

    def gaps(one: Sums, other: Sums) -> np.ndarray:
        return np.asarray(average.of(other)["overall"] - average.of(one)["overall"])

    def swapped(rows: np.ndarray) -> np.ndarray:
        moved = _weighted(change, rows)
        return gaps(_plus(_total(first), moved), _plus(_total(second), moved, -1))

    value = float(gaps(_total(first), _total(second)))
    drawn = _over_draws(
        lambda weights: {"": gaps(_weighted(first, weights), _weighted(second, weights))}, len(pairs), draws, seed
    )[""]
    chance = np.random.default_rng(seed)
    as_far = sum(
        int((abs(swapped(chance.random((rows, len(pairs))) < 0.5)) >= abs(value) - 1e-12).sum())
        for rows in _chunks(len(pairs), draws)
    )
    heaviest = _heaviest(first, average)["overall"]
    low, high = interval(value, drawn, heaviest, -1.0) if len(pairs) > 1 else (None, None)
    return Difference(value, low, high, (1 + as_far) / (1 + draws), int(first.counts.sum()), len(pairs))


def _paired(one: Clusters, other: Clusters) -> dict[str, tuple[list[Scored], list[Scored]]]:
    """The scores of the questions that have one in both, by video, in the same order."""
    pairs = {}
    for video in one.keys() & other.keys():
        first = {scored.question_id: scored for scored in one[video] if scored.correct is not None}
        second = {scored.question_id: scored for scored in other[video] if scored.correct is not None}
        if both := [question for question in first if question in second]:
            pairs[video] = ([first[question] for question in both], [second[question] for question in both])
    return dict(sorted(pairs.items()))


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
    """How many draws to make at a time."""
    most = max(1, _AT_ONCE // videos)
    for begin in range(0, draws, most):
        yield min(most, draws - begin)


def _weighted(sums: Sums, weights: np.ndarray) -> Sums:
    """Sums over videos `[videos, cells]` taken `weights` times, `[rows, videos]`: `[rows, cells]`."""
    weights = weights.astype(float)
    return Sums(sums.cells, weights @ sums.points, weights @ sums.counts)


def _total(sums: Sums) -> Sums:
    return Sums(sums.cells, sums.points.sum(0), sums.counts.sum(0))


def _plus(one: Sums, other: Sums, sign: int = 1) -> Sums:
    return Sums(one.cells, one.points + sign * other.points, one.counts + sign * other.counts)


def _halves(sums: Sums, middle: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield sums.points[:middle], sums.counts[:middle]
    yield sums.points[middle:], sums.counts[middle:]


def _heaviest(sums: Sums, average: Average) -> dict[str, float]:
    """The largest weight that one video has in each average: what it takes away if it alone is wrong."""
    counts = np.broadcast_to(sums.counts.sum(0), sums.counts.shape)
    without = average.of(Sums(sums.cells, counts - sums.counts, counts))
    return {name: float(1 - own.min()) for name, own in without.items()}
