"""The rules of Video-MME-v2: the authors' script, and lmms-eval's task.

- github.com/MME-Benchmarks/Video-MME-v2, evaluation/test_video_mme_v2.py (commit 013b6c9): without reasoning; of
  subtitles all words at once, ahead of the question. There the first sentence and the question are two texts of one
  turn, which chat templates such as Qwen's put together with nothing in between: so they stand here. 64 frames: the
  script's stand at i/65 of the video for i = 1 to 64, here they go from the first picture to the last. At most 64
  tokens are generated, as in lmms-eval, not 4096.
- lmms_eval/tasks/videomme_v2/ (0.7.3): the same words, without the first sentence; its own reading, of forms in which a
  letter stands for itself. Other versions of it (commit 1862875) read much as the script does.

A group of four is scored as both have it. An unparsed answer is wrong, as in lmms-eval; the script scores it -1, which
its chains of type logic then take for right.
"""

import re
from collections.abc import Mapping, Sequence

from infinipot.evaluate.protocols.base import Rules
from infinipot.evaluate.protocols.letters import behind_openings
from infinipot.evaluate.records import LETTERS, FrameSampling, Item, Question, Scored

INSTRUCTION = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, D, E, F, G, or H) of the correct option."
)
PREFIXES = (
    *("Final Answer:", "The best answer is", "The correct answer is", "The answer is", "The answer"),
    *("The best option is", "The correct option is", "Best answer:", "Best option:", "Answer:", "Option:"),
)
SINGLY = "each question for itself"

_QUADRATIC = (0.0, 1 / 16, 4 / 16, 9 / 16, 1.0)
CHAINS: Mapping[str, tuple[tuple[float, ...], int | None]] = {
    "[1,2,3,4]": (_QUADRATIC, None),
    "[1,[2,3],4]": ((0.0, 1 / 12, 4 / 12, 7 / 12, 1.0), 1),
    "[[1,2],3,4]": ((0.0, 1 / 10, 2 / 10, 5 / 10, 1.0), 0),
}
"""By structure: the score of so many right answers from the first on; and the place of the first of two questions
neither of which builds on the other: where the chain breaks there, the second one can go on with it by one."""


def group_score(questions: Sequence[Scored]) -> float:
    """The score of a group of four.

    Of type relevance it is the square of the share that is right. Of type logic it is that of the chain: the right
    answers from the first on until one is wrong.
    """
    right = [one.correct == 1 for one in questions]
    kind = "" if questions[0].unit is None else questions[0].unit.kind
    if kind not in CHAINS:
        return _QUADRATIC[sum(right)]
    scores, fork = CHAINS[kind]
    chain = right.index(False) if False in right else len(right)
    return scores[chain + (chain == fork and right[chain + 1])]


def official(item: Item, question: Question, frame_times: Sequence[float]) -> str:
    words = ""
    if question.details["subtitles"]:
        words = f" This video's subtitles are listed below:\n{_words(item)}\n"
    return f"These are the frames of a video.{words}{_asked(question)}"


def lmms_eval(item: Item, question: Question, frame_times: Sequence[float]) -> str:
    words = _words(item) if question.details["subtitles"] else ""
    return (f"This video's subtitles are listed below:\n{words}\n\n" if words else "") + _asked(question)


def _asked(question: Question) -> str:
    return f"Question: {question.text}\n{question.details['options']}\n{INSTRUCTION}"


def _words(item: Item) -> str:
    return " ".join(word.text for word in item.subtitles)


def first_of_eight(question: Question, text: str) -> str | None:
    """The first capital A to H behind what often opens an answer; also one inside a word."""
    return behind_openings(text, PREFIXES, "ABCDEFGH")


def standing_alone(question: Question, text: str) -> str | None:
    """A letter, small or capital, that is the last line or stands at the beginning; else the last one behind what often
    opens an answer; else the one that is set in bold; else that of the only option whose text is in the answer.
    """
    answer = text.strip()
    found = _LAST_LINE.search(answer) or _BEGINNING.match(answer)
    behind = _BEHIND.findall(answer)
    bold = {letter.upper() for letter in _BOLD.findall(answer)}
    if found or behind:
        return str(found[1] if found else behind[-1]).upper()
    return bold.pop() if len(bold) == 1 else _named(question, text)


def _named(question: Question, text: str) -> str | None:
    named = [
        letter
        for letter, line in zip(LETTERS, question.details["options"].split("\n"), strict=False)
        if f"{letter}." in line and line.partition(f"{letter}.")[2].strip(". \n").lower() in text.lower()
    ]
    return named[0] if len(named) == 1 else None


_ALONE = r"[ \t]*(?:\*\*[ \t]*)?([A-H])(?:[ \t]*\*\*)?[ \t]*"
"""A letter, in bold or not, with blanks round it."""
_OPENING = "|".join([*map(re.escape, PREFIXES), r"\b(?:answer|option)(?:\s+(?:is|would\s+be)|\s*:)"])
_LAST_LINE = re.compile(rf"(?:^|\n){_ALONE}[.)]?[ \t]*$", re.IGNORECASE)
_BEGINNING = re.compile(rf"{_ALONE}(?:[.)]|\r?\n|$)", re.IGNORECASE)
_BEHIND = re.compile(rf"(?:{_OPENING})[\s:*]*([A-H])\b", re.IGNORECASE)
_BOLD = re.compile(r"\*\*\s*([A-H])(?=\s*\*\*|[.)])", re.IGNORECASE)


OFFICIAL = Rules(
    official, first_of_eight, FrameSampling("uniform", frames=64), 64, "questions", unit=group_score, singly=SINGLY
)
LMMS_EVAL = Rules(
    lmms_eval, standing_alone, FrameSampling("uniform", frames=32), 64, "questions", unit=group_score, singly=SINGLY
)
