"""Whether an answer is the one that is waited for: yes, no, or unclear. Knows no streams."""

import json
import re
from typing import Any

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_ANSWERS = {"yes": True, "no": False}


def asked(question: str, when: str | dict[str, Any], *, instruct: bool) -> str:
    """The question as it is put.

    Args:
        question: as it was given.
        when: what is waited for.
        instruct: whether the model is told in which form to answer: all but the small ones that know their questions.
    """
    if not instruct:
        return question
    if isinstance(when, dict):
        return f"{question}\nAnswer with one JSON value that fits this schema: {json.dumps(when)}"
    if when.casefold() in _ANSWERS:
        return f"{question}\nAnswer with one word: yes or no."
    return f"{question}\nAnswer with as few words as possible."


def verdict(answer: str, when: str | dict[str, Any]) -> bool | None:
    """Whether an answer is what is waited for; None where it says neither."""
    if isinstance(when, dict):
        return _fits(answer, when)
    words, wanted = _words(answer), _words(when)
    if not words:
        return None
    if wanted and wanted[0] in _ANSWERS and len(wanted) == 1:
        answer_word = _ANSWERS.get(words[0])
        return None if answer_word is None else answer_word is _ANSWERS[wanted[0]]
    return words == wanted


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _fits(answer: str, schema: dict[str, Any]) -> bool | None:
    """Whether the first JSON value in an answer fits a schema; None where there is none."""
    from jsonschema import Draft202012Validator

    decoder = json.JSONDecoder()
    for found in re.finditer(r'[\[{"\d\-tfn]', answer):
        try:
            value, _ = decoder.raw_decode(answer, found.start())
        except (ValueError, RecursionError):
            continue
        return bool(Draft202012Validator(schema).is_valid(value))
    return None
