"""The 95% interval of an average of many draws (the bootstrap), also where all draws say the same.

Where all answers are right, every draw says so too, and the bootstrap's interval would have no width. Of n videos that
are all right the exact binomial interval begins at 0.025^(1/n) (Clopper and Pearson, *The Use of Confidence or Fiducial
Limits Illustrated in the Case of the Binomial*, 1934), and that is what is said. In an average that gives video v the
weight w(v), 1/n is the largest of the weights, which is never too narrow: with p(v) the chance that a video is right,
sum w(v) p(v) >= prod p(v)^w(v) >= (prod p(v))^max w(v), and the product is at least 0.025 for all that the data allow.
"""

from typing import NamedTuple

import numpy as np

TAIL = 0.025


class Interval(NamedTuple):
    """An interval, and what it rests on.

    Attributes:
        low, high: its ends; None for fewer than two draws that have an average.
        unseen: where all draws say the same, the share of all videos that may be otherwise; None: it is of the draws.
            How far such videos are off the data cannot tell, so the ends take each for the worst that there is.
    """

    low: float | None = None
    high: float | None = None
    unseen: float | None = None


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
