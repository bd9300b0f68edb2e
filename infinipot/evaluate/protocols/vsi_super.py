"""The rules of VSI-SUPER Recall and Count: lmms-eval's tasks (lmms_eval/tasks/vsisuper/, 0.7.3).

A count is scored by its mean relative accuracy, as in VSI-Bench (arXiv 2412.14171): the share of ten thresholds, 0.5 to
0.95, within which it is right. A streaming row has the mean score of its moments. A stream is watched at one frame a
second, which is what the rows' query times count in; the harness leaves the frames to the model.

What differs: the harness asks a streaming row once and expects the model to return a list of counts, which only its
Cambrian-S does; here each moment is asked by itself, with the words of the plain rows, and answers are read as theirs.
Where there is nothing to count yet only 0 is right, as for plain rows; the harness's streaming task takes any number.
"""

import re

from infinipot.evaluate.protocols.base import Rules
from infinipot.evaluate.records import FrameSampling, Question

CHOICE = "{text}\nOptions:\n{given}\nAnswer with the option's letter from the given choices directly."
NUMBER = "These are frames of a video.\n{text}\nPlease answer the question using a single word or phrase."
FRAMES = FrameSampling("fps", fps=1.0)
THRESHOLDS = (*(0.5 + place * ((0.95 - 0.5) / 9) for place in range(9)), 0.95)
"""As numpy's linspace(0.5, 0.95, 10) has them, to the last bit. The harness asks for int((0.95 - 0.5) / 0.05) + 2 of
them, which in floating point is 10."""


def first_of_four(question: Question, text: str) -> str | None:
    """The first A to D, small or capital: also one inside a word."""
    found = re.search("[A-D]", text.upper())
    return found[0] if found else None


def first_number(question: Question, text: str) -> str | None:
    found = re.search(r"-?\d+(?:\.\d+)?", text)
    return found[0] if found else None


def none_counted(question: Question, seed: int) -> str:
    """An answer without a number counts as 0."""
    return "0"


def mean_relative_accuracy(question: Question, answer: str | None) -> float:
    """The share of thresholds t for which a count is off by at most 1 - t of the right one; for 0 only 0 is right."""
    right, counted = float(question.answer or 0), float(answer or 0)
    if not right:
        return float(counted == 0)
    return sum(abs(counted - right) / abs(right) <= 1 - threshold for threshold in THRESHOLDS) / len(THRESHOLDS)


RECALL = Rules(CHOICE, first_of_four, FRAMES, 16, "questions")
COUNT = Rules(NUMBER, first_number, FRAMES, 16, "questions", guess=none_counted, score=mean_relative_accuracy)
