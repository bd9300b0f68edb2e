"""Scores of answers that are not simply right or wrong. `rules.toml` names the functions."""

import random
from collections.abc import Mapping, Sequence

from infinipot.evaluate.records import Question, Scored

_QUADRATIC = (0.0, 1 / 16, 4 / 16, 9 / 16, 1.0)
_CHAINS: Mapping[str, tuple[tuple[float, ...], int | None]] = {
    "[1,2,3,4]": (_QUADRATIC, None),
    "[1,[2,3],4]": ((0.0, 1 / 12, 4 / 12, 7 / 12, 1.0), 1),
    "[[1,2],3,4]": ((0.0, 1 / 10, 2 / 10, 5 / 10, 1.0), 0),
}
"""By structure: the score for each number of right answers in a row from the first on; and the place of the first of
two questions neither of which builds on the other. Where that one is wrong and the second right, the row is one
longer."""
_THRESHOLDS = (*(0.5 + place * ((0.95 - 0.5) / 9) for place in range(9)), 0.95)
"""As numpy's linspace(0.5, 0.95, 10) has them, to the last bit. lmms-eval asks for int((0.95 - 0.5) / 0.05) + 2 of
them, which in floating point is 10."""


def drawn(question: Question, seed: int) -> str:
    """One of the letters, the same for a seed and question wherever and in whatever order they are asked."""
    return random.Random(f"{seed}:{question.id}").choice(question.letters)


def group_of_four(questions: Sequence[Scored]) -> float:
    """The score of a group of Video-MME-v2.

    Of type relevance it is the square of the share that is right. Of type logic it is that of the chain: the right
    answers from the first on until one is wrong.
    """
    right = [one.correct == 1 for one in questions]
    kind = "" if questions[0].unit is None else questions[0].unit.kind
    if kind not in _CHAINS:
        return _QUADRATIC[sum(right)]
    scores, fork = _CHAINS[kind]
    chain = right.index(False) if False in right else len(right)
    return scores[chain + (chain == fork and right[chain + 1])]


def mean_relative_accuracy(question: Question, answer: str | None) -> float:
    """The share of ten thresholds t, 0.5 to 0.95, for which a count is off by at most 1 - t of the right one.

    For 0 only 0 is right, and an answer without a number counts as 0. As in VSI-Bench (arXiv 2412.14171).
    """
    right, counted = float(question.answer or 0), float(answer or 0)
    if not right:
        return float(counted == 0)
    return sum(abs(counted - right) / abs(right) <= 1 - threshold for threshold in _THRESHOLDS) / len(_THRESHOLDS)
