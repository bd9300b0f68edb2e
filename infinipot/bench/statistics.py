"""Shares of right answers, with 95% intervals from the bootstrap over clips. Knows no cases.

Answers about one clip stand or fall together, so it is clips that are drawn, with all their answers. Memories that are
compared answered the same questions on the same clips: of each draw the difference is taken (a paired comparison).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from infinipot.intervals import interval

DRAWS = 4000
Tally = Mapping[int, tuple[int, int]]  # by the clip's seed: right answers, and answers


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share, or a difference of two, with its interval.

    Attributes:
        value: in 0..1, or -1..1 of a difference.
        low, high: the 95% interval; None where a single clip is all there is to draw from.
        clips, answers: how many it rests on.
    """

    value: float
    low: float | None
    high: float | None
    clips: int
    answers: int


def tally(answers: Iterable[tuple[int, bool]]) -> dict[int, tuple[int, int]]:
    """Counts answers, each given as the clip's seed and whether it is right."""
    counts: dict[int, tuple[int, int]] = {}
    for seed, right in answers:
        before, asked = counts.get(seed, (0, 0))
        counts[seed] = before + right, asked + 1
    return counts


def share(counts: Tally) -> Estimate | None:
    """The share of right answers among all; None where there are none."""
    return _estimate(counts, {seed: (0, asked) for seed, (_, asked) in counts.items()}, least=0.0)


def difference(ours: Tally, theirs: Tally) -> Estimate | None:
    """How much larger our share is than theirs, over the clips that both answered the same number of questions on."""
    both = [seed for seed in ours if seed in theirs and ours[seed][1] == theirs[seed][1]]
    return _estimate({seed: ours[seed] for seed in both}, {seed: theirs[seed] for seed in both}, least=-1.0)


def _estimate(ours: Tally, theirs: Tally, least: float) -> Estimate | None:
    asked = np.array([ours[seed][1] for seed in sorted(ours)], float)
    ahead = np.array([ours[seed][0] - theirs[seed][0] for seed in sorted(ours)], float)
    if not asked.sum():
        return None
    value, clips = float(ahead.sum() / asked.sum()), len(asked)
    drawn = np.random.default_rng(0).integers(clips, size=(DRAWS, clips))
    total = asked[drawn].sum(1)
    means = ahead[drawn].sum(1)[total > 0] / total[total > 0]
    low, high = interval(value, means, float(asked.max() / asked.sum()), least) if clips > 1 else (None, None)
    return Estimate(value, low, high, clips, int(asked.sum()))
