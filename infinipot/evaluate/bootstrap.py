"""How sure an average is, and a difference of two: by resampling whole videos. Knows no file, benchmark or model.

Questions about one video are not independent of each other, so videos are what is drawn, with all their questions (the
cluster bootstrap; Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, chapter 3.8). The average is
whatever the protocol says it is, computed anew on each draw. Draws are seeded: a report says the same every time.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from infinipot.evaluate.records import Scored

Summary = Callable[[Sequence[Scored]], dict[str, float]]
Clusters = Mapping[str, Sequence[Scored]]
"""The scores of each video, by its name."""

DRAWS = 1000


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
        questions, videos: that both have.
    """

    value: float
    low: float | None
    high: float | None
    p: float
    questions: int
    videos: int


def estimate(clusters: Clusters, summary: Summary, draws: int = DRAWS, seed: int = 0) -> dict[str, Estimate]:
    """Each average of `summary` with its interval, by the percentiles of `draws` draws of videos.

    Draws without a question of some task say nothing of that task's average.
    """
    videos = [video for video in clusters.values() if any(one.correct is not None for one in video)]
    values = summary([one for video in videos for one in video])
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for chosen in _choices(len(videos), draws, seed) if len(videos) > 1 else ():
        for name, value in summary([one for index in chosen for one in videos[index]]).items():
            drawn[name].append(value)
    of = Counter(name for video in videos for name in summary(video))
    return {
        name: Estimate(value, *(_interval(drawn[name]) if of[name] > 1 else (None, None)))
        for name, value in values.items()
    }


def difference(
    one: Clusters, other: Clusters, summary: Summary, draws: int = DRAWS, seed: int = 0
) -> Difference | None:
    """How the "overall" average of `other` differs from that of `one`; None where they share no scored question."""
    pairs = list(_paired(one, other).values())
    if not pairs:
        return None

    def overall(chosen: Sequence[Sequence[Scored]]) -> float:
        return summary([scored for video in chosen for scored in video])["overall"]

    def gap(chosen: Sequence[tuple[list[Scored], list[Scored]]]) -> float:
        return overall([second for _, second in chosen]) - overall([first for first, _ in chosen])

    value = gap(pairs)
    drawn = [gap([pairs[index] for index in chosen]) for chosen in _choices(len(pairs), draws, seed)]
    swaps = np.random.default_rng(seed).random((draws, len(pairs))) < 0.5
    as_far = sum(
        abs(gap([pair[::-1] if swap else pair for pair, swap in zip(pairs, row, strict=True)])) >= abs(value) - 1e-12
        for row in swaps
    )
    low, high = _interval(drawn) if len(pairs) > 1 else (None, None)
    questions = sum(len(first) for first, _ in pairs)
    return Difference(value, low, high, (1 + as_far) / (1 + draws), questions, len(pairs))


def _paired(one: Clusters, other: Clusters) -> dict[str, tuple[list[Scored], list[Scored]]]:
    """The scores of the questions that have one in both, by video, in the same order."""
    pairs = {}
    for video in one.keys() & other.keys():
        first = {scored.question_id: scored for scored in one[video] if scored.correct is not None}
        second = {scored.question_id: scored for scored in other[video] if scored.correct is not None}
        if both := [question for question in first if question in second]:
            pairs[video] = ([first[question] for question in both], [second[question] for question in both])
    return dict(sorted(pairs.items()))


def _choices(count: int, draws: int, seed: int) -> np.ndarray:
    """`draws` draws of `count` videos with replacement: `[draws, count]`."""
    return np.random.default_rng(seed).integers(0, count, (draws, count))


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))
