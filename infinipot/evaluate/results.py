"""The files of a run: journals of answers, and beside them of times, so that a run may be killed and go on later.

The first line is the header: everything that the answers depend on. Then comes a line for each answer, and one for each
thing that could not be used. All of it is a function of the settings: nothing in the file tells how long anything took,
and a run that was killed and resumed leaves the same bytes as one that was not. Times are in a second file beside it,
`NAME.times.jsonl`, and what a judge said of open answers in a third, `NAME.verdicts.jsonl`. Knows nothing of models or
videos; `reading` reads what is here.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from infinipot.evaluate.core.journal import Header, Journal, differences, plain, require_same, rewrite
from infinipot.evaluate.engines.base import WatchTime
from infinipot.evaluate.records import Problem

FORMAT = 1

_OF_WHAT_IS_THERE = ("annotations", "videos", "questions", "left_out", "parts")
"""Settings that change when a video that was missing has been added."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with the answer that it got; see `records.Question` and `engines.base.EvalAnswer`.

    Attributes:
        item, video: the video's id, twice.
        question, task, group, parts, unit, at, asked, reference, judged: of the question, `asked` being its text alone;
            `unit` as its fields.
        prompt, text, seen_until, frames, patches, tokens, full_tokens: what came of it.
        answer: what the protocol read in the text; None: nothing.
        drawn: what the protocol drew by lot in its place; None: it was read, or counts for nothing.
        digest: what stands for all that the question was asked with, see `plan.RunPlan`; "" in files of older versions.
        correct: the score in 0..1; None: not judged, or the label is withheld.
    """

    type: ClassVar[str] = "answer"

    item: str
    video: str
    question: str
    task: str
    group: str | None
    at: float | None
    prompt: str
    text: str
    answer: str | None
    reference: str | None
    judged: bool
    correct: float | None
    asked: str
    seen_until: float
    frames: int
    patches: int
    tokens: int
    full_tokens: int
    parts: Sequence[str] = ()
    unit: dict[str, Any] | None = None
    drawn: str | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class AnswerTime:
    """Seconds that an answer took."""

    type: ClassVar[str] = "answer"

    question: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's reply on an answer: a line after its header.

    Attributes:
        question: its id.
        sent, reply: what went to the judge, and what came back.
        correct: 1.0 or 0.0; None where the reply is no verdict.
        score: 0 to 5, where it says one.
    """

    type: ClassVar[str] = "verdict"

    question: str
    sent: str
    reply: str
    correct: float | None
    score: float | None


def fill_in(prompt: str, answer: Answered) -> str:
    """The judge's prompt for an answer, with {question}, {reference} and {answer} filled in."""
    filled = {"question": answer.asked, "reference": answer.reference, "answer": answer.text}
    return re.sub(r"\{(question|reference|answer)\}", lambda found: str(filled[found[1]]), prompt)


LINES: Any = (Answered, Problem)
TIMES: Any = (AnswerTime, WatchTime)


class Results(AbstractContextManager["Results"]):
    """The two files of a run, open for writing.

    Args:
        path: the run's file, which ends in .jsonl.
        settings: everything that answers depend on, as JSON.
        device: what it computes on. A run may go on on another one: the times say what was done where.
        made_by: versions, which have to be the same when a run goes on.

    Attributes:
        known: ids of the questions that have an answer, or could not be asked.
        problems: how many lines tell of what could not be used.

    Raises:
        ResultsError: see `Journal`; or the file is of a run with other settings, which the message names.
    """

    def __init__(self, path: Path, settings: Header, device: str, made_by: Mapping[str, str]) -> None:
        with ExitStack() as opened:
            self._journal = opened.enter_context(Journal(path, *LINES))
            if not self._journal.header:  # times that are here are those of a run whose file was taken away
                beside(path, "times").unlink(missing_ok=True)
            self._journal.begin(header(settings, device, made_by))
            self._times = opened.enter_context(Journal(beside(path, "times"), *TIMES))
            self._opened = opened.pop_all()
        answers, problems = sort(self._journal.lines)
        self._told = {(line.where, line.what) for line in problems}
        self.problems = len(problems)
        self.known = {line.question for line in answers} | {one for line in problems for one in line.questions}

    def answer(self, line: Answered, seconds: float) -> None:
        """Writes an answer, and beside it what it took."""
        self._journal.append(line)
        self.known.add(line.question)
        self._times.append(AnswerTime(line.question, seconds))

    def watched(self, line: WatchTime) -> None:
        """Writes what watching a video took."""
        self._times.append(line)

    def problem(self, line: Problem) -> bool:
        """Writes what could not be used, once; False: it was known before."""
        if (line.where, line.what) in self._told and self.known.issuperset(line.questions):
            return False
        self._journal.append(line)
        self._told.add((line.where, line.what))
        self.problems += 1
        self.known.update(line.questions)
        return True

    def close(self) -> None:
        self._opened.close()

    def __exit__(self, *error: object) -> None:
        self.close()


def header(settings: Header, device: str, made_by: Mapping[str, str]) -> Header:
    """The first line of a run's file."""
    return {"type": "run", "format": FORMAT, "settings": settings, "made_by": dict(made_by), "device": device}


def check_output(path: Path, known: Header, made_by: Mapping[str, str], retry: bool = False) -> None:
    """Refuses an existing file that a run could not continue, as far as the `known` settings tell.

    Args:
        path: the run's file; if it does not exist, nothing is refused.
        known: the settings that can be told while no model is loaded.
        made_by: versions.
        retry: whether what depends on which videos are there may change.

    Raises:
        ResultsError: see `Journal` and `require_same`.
    """
    if not path.is_file():
        return
    with Journal(path, *LINES) as journal:
        if old := journal.header:
            known = _lasting(known) if retry else plain(known)
            there = old.get("settings", {})
            old = old | {"settings": {name: there[name] for name in known if name in there}}
            require_same(path, old, header(known, "", made_by))


def forget_problems(path: Path, settings: Header) -> None:
    """Takes the lines of problems out of a run's file, so that what they are about is tried again.

    The header is then that of `settings` in what depends on which videos are there. A file of a run that differs in
    more is left as it is.
    """
    with Journal(path, *LINES) as journal:
        old = journal.header
        if not old or list(differences(_lasting(old["settings"]), _lasting(settings))):
            return
        now = old | {"settings": old["settings"] | {name: settings[name] for name in _OF_WHAT_IS_THERE}}
        answers, problems = sort(journal.lines)
        if problems or now != old:
            rewrite(path, now, answers)


def beside(path: Path, what: str) -> Path:
    """The path of the "times" of a run, or of the "verdicts" on it."""
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.{what}.jsonl")


def sort(lines: list[Any]) -> tuple[tuple[Answered, ...], tuple[Problem, ...]]:
    """The lines of answers, and those of problems."""
    answers = tuple(line for line in lines if isinstance(line, Answered))
    return answers, tuple(line for line in lines if isinstance(line, Problem))


def _lasting(settings: Header) -> Header:
    """The settings as JSON has them, without those that depend on which videos are there."""
    return plain({name: value for name, value in settings.items() if name not in _OF_WHAT_IS_THERE})
