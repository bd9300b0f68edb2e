"""Averages with their 95% intervals, from those of many draws (the bootstrap), also where all draws say the same.

Where all answers are right, every draw says so too, and the bootstrap's interval would have no width. Of n videos that
are all right the exact binomial interval begins at 0.025^(1/n) (Clopper and Pearson, *The Use of Confidence or Fiducial
Limits Illustrated in the Case of the Binomial*, 1934), and that is what is said. In an average that gives video v the
weight w(v), the largest weight takes the place of 1/n. The interval is then never too narrow: with p(v) the chance that
a video is right,
sum w(v) p(v) >= prod p(v)^w(v) >= (prod p(v))^max w(v), and the product is at least 0.025 for all that the data allow.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

TAIL = 0.025


class Interval(NamedTuple):
    """An interval, and what it rests on.

    Attributes:
        low, high: its ends; None for fewer than two draws that have an average.
        unseen: None where the interval is that of the draws. Where all draws are alike, the share of all videos that
            may still differ. The data do not say how far such videos are off, so the ends assume the worst of each.
    """

    low: float | None = None
    high: float | None = None
    unseen: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share in 0..1 and its 95% interval, which is None where a single video is all there is to draw from.

    Attributes:
        unseen: where no video differs from another, the share of all videos that may; see `Interval`.
        videos, questions: how many with a score it rests on; a unit counts as one question.
    """

    value: float
    low: float | None
    high: float | None
    unseen: float | None
    videos: int
    questions: int

    @property
    def covered(self) -> float:
        """How often an interval from so many videos can hold the true value at the most.

        A draw's average lies between the lowest video's and the highest one's. With q the chance that a video is above
        the true value, and 1 - q that it is below, all n are on one side with q^n + (1 - q)^n >= 2^(1 - n); no draw
        reaches it then.
        """
        return 1 - 2.0 ** (1 - self.videos)


@dataclass(frozen=True, slots=True)
class Difference(Estimate):
    """One average less another, in -1..1, on the questions that both have a score for.

    Attributes:
        p: how often chance alone would give at least this difference, from swapping the two sides' scores video by
            video (a randomization test; Noreen, *Computer-Intensive Methods for Testing Hypotheses*, 1989).
    """

    p: float


def interval(value: float, drawn: np.ndarray, heaviest: float, least: float) -> Interval:
    """The percentiles of the draws; where all say the same, what the largest weight leaves open.

    Args:
        value: the average itself, of scores between `least` and 1.
        drawn: `[draws]`, the average of each draw; NaN where a draw has none.
        heaviest: the largest weight of one video in the average, 0..1.
        least: the lowest score there is: 0 of a share, -1 of a difference of two.
    """
    known = drawn[~np.isnan(drawn)]
    if len(known) < 2:
        return Interval()
    low, high = (float(np.quantile(known, tail)) for tail in (TAIL, 1 - TAIL))
    if high - low > 1e-12:
        return Interval(low, high)
    unseen = 1 - TAIL**heaviest
    return Interval(value - unseen * (value - least), value + unseen * (1 - value), unseen)
