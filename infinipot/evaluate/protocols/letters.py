"""How lmms-eval 0.7.3 finds the letter in an answer, slips included. Knows no prompt, metric or benchmark.

`ranked` is the way of its MLVU and Video-MME (lmms_eval/tasks/_task_utils/mcq_extract.py), `first` that of its
EgoSchema (lmms_eval/tasks/egoschema/utils.py, from MMMU).
"""

from collections.abc import Iterator, Sequence

MARKS = (*",.!?;:'", '"')
FORMS = {"({})": 6, "{}.": 5, "{}:": 4, "{})": 3, "{} ": 2}
"""What a letter stands in, and how much that counts; at the beginning 10, at the end 9, behind a phrase 7."""

PHRASES = (
    *("answer is", "best answer is", "correct answer is", "my answer is"),
    *("the answer is", "the best answer is", "the correct answer is"),
    *("best option is", "correct option is", "the best option is", "the correct option is"),
    *("choice is", "correct choice is", "my choice is", "the choice is", "the correct choice is"),
    *("i choose", "i pick", "i select", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)


def ranked(text: str, letters: str) -> str | None:
    """The letter in the form that counts most; of several in that form the last."""
    answer = f" {_without_marks(text.strip(), MARKS)} "
    found = list(_tp_group(answer, letters))
    found = found or [(0, answer.rfind(letter), letter) for letter in letters if letter in answer]
    return max(found)[2] if found else None


def first(text: str, options: Sequence[str], letters: str) -> str | None:
    """The letter, in brackets or before a blank or full stop, whose last place is the first; else the option so.

    Args:
        text: the answer; options are looked for in it, in any case, if it has more than five words.
        options: with their letters before them.
        letters: theirs.
    """
    answer = f" {_without_marks(text, MARKS[:-1])} "
    forms = [(form.format(letter), letter) for form in ("({})", "{} ", "{}.") for letter in letters]
    if found := [(answer.rfind(form), letter) for form, letter in forms if form in answer]:
        return min(found)[1]
    if len(answer.split()) > 5:
        whole = zip(options, letters, strict=True)
        found = [(answer.lower().rfind(o.lower()), letter) for o, letter in whole if o.lower() in answer.lower()]
    return min(found)[1] if found else None


def behind_openings(text: str, openings: Sequence[str], letters: str) -> str | None:
    """The first of the capital letters, also one inside a word, in a text without what often opens an answer."""
    answer = text.strip()
    for opening in openings:
        answer = answer.replace(opening, "")
    return next((letter for letter in answer if letter in letters), None)


def _tp_group(answer: str, letters: str) -> Iterator[tuple[int, int, str]]:
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
