"""How often a 95% interval from few videos or clips holds the true value: the table in docs/guides/evaluation.md.

python perf/interval_coverage.py

Each row draws many sets of videos with 20 questions each, of which a video gets a share right that varies from video to
video, and takes the interval of their average as reports do. Sets whose videos are all alike are left out, since tables
say so of them instead. No model runs.
"""

import numpy as np

from infinipot.evaluate.core.estimates import interval

VIDEOS = (6, 8, 12, 16, 20, 24, 48, 96)
SHARES = ((0.95, 0.05), (0.9, 0.1), (0.6, 0.2), (0.35, 0.15))  # mean of what videos get right, and its deviation
QUESTIONS, SETS, DRAWS = 20, 2000, 1000


def covered(videos: int, mean: float, deviation: float, sets: int = SETS) -> float:
    """The share of sets whose interval holds the mean."""
    chance = np.random.default_rng(0)
    concentration = mean * (1 - mean) / deviation**2 - 1
    held = []
    for _ in range(sets):
        shares = chance.beta(mean * concentration, (1 - mean) * concentration, videos)
        right = chance.binomial(QUESTIONS, shares) / QUESTIONS
        drawn = right[chance.integers(0, videos, (DRAWS, videos))].mean(1)
        found = interval(right.mean(), drawn, 1 / videos, 0.0)
        if found.unseen is None and found.low is not None and found.high is not None:
            held.append(found.low <= mean <= found.high)
    return sum(held) / len(held)


def main() -> None:
    print("videos" + "".join(f"{f'{mean:.0%} ± {deviation:.0%}':>12}" for mean, deviation in SHARES))
    for videos in VIDEOS:
        print(f"{videos:6}" + "".join(f"{covered(videos, *of):12.0%}" for of in SHARES))


if __name__ == "__main__":
    main()
