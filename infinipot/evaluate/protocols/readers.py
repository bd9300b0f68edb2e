"""How answers are read, slips of the published code included. `rules.toml` names the functions; knows no prompt."""

import re
from collections.abc import Iterator, Sequence

from infinipot.evaluate.records import LETTERS, Question

MARKS = (*",.!?;:'", '"')
FORMS = {"({})": 6, "{}.": 5, "{}:": 4, "{})": 3, "{} ": 2}
"""What a letter stands in, and how much that counts; at the beginning 10, at the end 9, after a phrase 7."""

PHRASES = (
    *("answer is", "best answer is", "correct answer is", "my answer is"),
    *("the answer is", "the best answer is", "the correct answer is"),
    *("best option is", "correct option is", "the best option is", "the correct option is"),
    *("choice is", "correct choice is", "my choice is", "the choice is", "the correct choice is"),
    *("i choose", "i pick", "i select", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
TAIL = 300  # characters at the end of an answer
OPENINGS = (
    *("Final Answer:", "The best answer is", "The correct answer is", "The answer is", "The answer"),
    *("The best option is", "The correct option is", "Best answer:", "Best option:", "Answer:", "Option:"),
)
_ALONE = r"[ \t]*(?:\*\*[ \t]*)?([A-H])(?:[ \t]*\*\*)?[ \t]*"
"""A letter, in bold or not, with blanks round it."""
_OPENING = "|".join([*map(re.escape, OPENINGS), r"\b(?:answer|option)(?:\s+(?:is|would\s+be)|\s*:)"])
_LAST_LINE = re.compile(rf"(?:^|\n){_ALONE}[.)]?[ \t]*$", re.IGNORECASE)
_BEGINNING = re.compile(rf"{_ALONE}(?:[.)]|\r?\n|$)", re.IGNORECASE)
_BEHIND = re.compile(rf"(?:{_OPENING})[\s:*]*([A-H])\b", re.IGNORECASE)
_BOLD = re.compile(r"\*\*\s*([A-H])(?=\s*\*\*|[.)])", re.IGNORECASE)
_FORWARD = ("REC", "SSR", "CRR")  # the tasks of OVO-Bench in which an answer is no letter


def first_capital(question: Question, text: str) -> str | None:
    """The first capital A to D, or as far as the options go: also one inside a word."""
    last = max("D", question.letters[-1])
    found = re.search(f"[A-{last}]", text.replace("Answer", ""))
    return found[0] if found else None


def first_bracketed(question: Question, text: str) -> str | None:
    """The first capital A to E, with the brackets and blanks round it, which may hold no other blank: "( A )" fails."""
    found = re.search(r"[( ]*[A-E][) ]*", text.replace("Answer", ""))
    letter = found[0].strip().strip("()") if found else ""
    return letter if len(letter) == 1 else None


def ranked_of_four(question: Question, text: str) -> str | None:
    """The letter A to D in the form that counts most; of several in that form the last. E and F never.

    As lmms-eval reads MLVU and Video-MME (lmms_eval/tasks/_task_utils/mcq_extract.py).
    """
    answer = f" {_without_marks(text.strip(), MARKS)} "
    found = list(_places(answer, "ABCD"))
    found = found or [(0, answer.rfind(letter), letter) for letter in "ABCD" if letter in answer]
    return max(found)[2] if found else None


def behind_openings(question: Question, text: str, letters: str, openings: Sequence[str] = OPENINGS) -> str | None:
    """The first of the capital letters, also one inside a word, in a text without what often opens an answer."""
    answer = text.strip()
    for opening in openings:
        answer = answer.replace(opening, "")
    return next((letter for letter in answer if letter in letters), None)


def first_form(question: Question, text: str) -> str | None:
    """The letter, in brackets or before a blank or full stop, whose last occurrence comes first; else the same of the
    options' texts.

    Options are looked for in any case, in answers of more than five words. As lmms-eval reads EgoSchema
    (lmms_eval/tasks/egoschema/utils.py, from MMMU).
    """
    answer = f" {_without_marks(text, MARKS[:-1])} "
    letters = question.letters
    forms = [(form.format(letter), letter) for form in ("({})", "{} ", "{}.") for letter in letters]
    if found := [(answer.rfind(form), letter) for form, letter in forms if form in answer]:
        return min(found)[1]
    if len(answer.split()) > 5:
        whole = [
            (f"{letter}. {option}".strip().lower(), letter)
            for letter, option in zip(letters, question.options, strict=True)
        ]
        found = [(answer.lower().rfind(option), letter) for option, letter in whole if option in answer.lower()]
    return min(found)[1] if found else None


def contained(question: Question, text: str) -> str | None:
    """The right answer if it is in the text, else the first of the others that is; for a count, all digits joined."""
    if question.task == "REC":
        return "".join(re.findall(r"\d+", text)) or None
    possible = ("Yes", "No") if question.task in _FORWARD else tuple(question.letters)
    if question.task in _FORWARD and text in ("Y", "N"):
        return "Yes" if text == "Y" else "No"
    if question.answer is not None and question.answer in text:
        return question.answer
    return min((answer for answer in possible if answer in text), key=text.index, default=None)


def first_character(question: Question, text: str) -> str | None:
    """The first character, if it is a letter of the options."""
    return text[0] if text and text[0] in question.letters else None


def whole_text(question: Question, text: str) -> str | None:
    """The answer on one line, for the judge; None where there is nothing to judge."""
    return text.replace("\n", "").strip() or None


def in_forms(question: Question, text: str, at_the_end: Sequence[str], anywhere: Sequence[str]) -> str | None:
    """The letter in the first of the forms that is there, after what a model thought; those at the end go first."""
    answer = text.strip().rpartition("</think>")[2].strip()
    forms = [*((form, answer[-TAIL:]) for form in at_the_end), *((form, answer) for form in anywhere)]
    found = (re.search(form, where, re.IGNORECASE) for form, where in forms)
    return next((match[1].upper() for match in found if match), None)


def standing_alone(question: Question, text: str) -> str | None:
    """A letter, small or capital, that is the last line or stands at the beginning; else the last one after what often
    opens an answer; else the one that is set in bold; else that of the only option whose text is in the answer.
    """
    answer = text.strip()
    found = _LAST_LINE.search(answer) or _BEGINNING.match(answer)
    behind = _BEHIND.findall(answer)
    bold = {letter.upper() for letter in _BOLD.findall(answer)}
    if found or behind:
        return str(found[1] if found else behind[-1]).upper()
    return bold.pop() if len(bold) == 1 else _named(question, text)


def first_of_four(question: Question, text: str) -> str | None:
    """The first A to D, small or capital: also one inside a word."""
    found = re.search("[A-D]", text.upper())
    return found[0] if found else None


def first_number(question: Question, text: str) -> str | None:
    found = re.search(r"-?\d+(?:\.\d+)?", text)
    return found[0] if found else None


def _named(question: Question, text: str) -> str | None:
    named = [
        letter
        for letter, line in zip(LETTERS, question.given.split("\n"), strict=False)
        if f"{letter}." in line and line.partition(f"{letter}.")[2].strip(". \n").lower() in text.lower()
    ]
    return named[0] if len(named) == 1 else None


def _places(answer: str, letters: str) -> Iterator[tuple[int, int, str]]:
    """(how much it counts, where it stands, the letter) of every place that is no mere letter in a word."""
    bare, lower = answer.strip(), answer.lower()
    behind = [at + len(phrase) for phrase in PHRASES if (at := lower.find(phrase)) >= 0]
    for letter in letters:
        for form, rank in FORMS.items():
            if (at := answer.rfind(form.format(letter))) >= 0:
                yield rank, at, letter
        yield from ((7, at, letter) for start in behind if (at := answer.find(letter, start)) >= 0)
        if bare.startswith(letter) and not bare[1:2].isalpha():
            yield 10, 0, letter
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            yield 9, len(answer), letter


def _without_marks(text: str, marks: Sequence[str]) -> str:
    """The text without each of the marks at its ends, in turn and once: "B.," is "B", but "B,." is "B,"."""
    for mark in marks:
        text = text.strip(mark)
    return text
