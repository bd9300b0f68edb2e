"""Open answers, judged by a chat model behind an OpenAI-compatible address that the user names.

Verdicts go to a file of their own beside the run's: its first line is the judge and its prompt, then comes one line for
each verdict. So a run can be judged when it is over, and judging can continue after a kill; the run's own file stays as
it is.
"""

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infinipot.errors import JudgeError, ResultsError
from infinipot.evaluate.core.journal import Header, Journal, differences
from infinipot.evaluate.reading import read_run
from infinipot.evaluate.results import Answered, Verdict, beside, fill_in

PROMPT = """\
You grade answers to questions about a video. You do not see the video: compare with the reference answer.

Question: {question}
Reference answer: {reference}
Answer to grade: {answer}

The answer is correct if it says what the reference says, in whatever words, and nothing that contradicts it. The score
says how well they agree, from 0 (not at all) to 5 (fully). Reply with JSON alone, such as
{"correct": "yes", "score": 4} or {"correct": "no", "score": 1}."""

_TRIES = 6
MOST_READINGS = 3
"""Times that an answer is judged, over all calls, where the reply is no verdict."""
MOST_REFUSED = 3
"""Requests that are refused, one after the other from the first on, before the service is said to refuse them all."""
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}  # statuses that may be others a moment later
_OF_ONE_ANSWER = {400, 413, 422}  # statuses that a filter, or a length, gives to one answer and not to another
_LONGEST_WAIT = 60  # seconds that a service may ask for before the next try
_REFUSED = "refused: "  # begins a reply that is none


class _RefusedError(JudgeError):
    """The service refuses what it was sent, and not whoever sends it."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A chat model that grades.

    Attributes:
        url: of the service, up to and with "/v1": "/chat/completions" is added.
        model: its name there.
        key: sent as a bearer token; None: nothing is. It is written nowhere.
        prompt: {question}, {reference} and {answer} in it are filled in.
        timeout: seconds for one reply.
        wait: seconds before the second try; each further one waits twice as long.
    """

    url: str
    model: str
    key: str | None = None
    prompt: str = PROMPT
    timeout: float = 60.0
    wait: float = 1.0

    def header(self) -> Header:
        """The settings that verdicts depend on: the first line of their file. The address has no secrets."""
        parts = urlsplit(self.url)
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        return {"type": "judge", "url": address, "model": self.model, "prompt": self.prompt, "temperature": 0}

    def grade(self, answer: Answered) -> Verdict:
        """The verdict on an answer. Where the service refuses the answer, its reason is the reply, which is no verdict.

        Raises:
            JudgeError: the service refuses the key, the address or the model, asks to wait for long, or is out of reach
                after several tries.
        """
        sent = fill_in(self.prompt, answer)
        try:
            reply = self._reply(sent)
        except _RefusedError as error:
            return Verdict(answer.question, sent, f"{_REFUSED}{error}", None, None)
        return Verdict(answer.question, sent, reply, *read_verdict(reply))

    def _reply(self, sent: str) -> str:
        body = {"model": self.model, "messages": [{"role": "user", "content": sent}]}
        try:
            reply = self._post(self._request(body | {"temperature": 0}))
        except _RefusedError as error:
            if "temperature" not in str(error):
                raise
            reply = self._post(self._request(body))  # some models draw as they like, and refuse to be told
        try:
            return str(reply["choices"][0]["message"]["content"])
        except (LookupError, TypeError) as error:
            raise JudgeError(f"{self.url}: this is not the reply of a chat service: {str(reply)[:200]}") from error

    def _request(self, body: dict[str, Any]) -> urllib.request.Request:
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        if self.key:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")  # it is for this service alone
        return request

    def _post(self, request: urllib.request.Request) -> Any:
        for attempt in range(_TRIES):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                failure = f"status {error.code}: {_beginning(error)}"
                asked = error.headers.get("Retry-After", "")
                if error.code not in _PASSING:
                    kind = _RefusedError if error.code in _OF_ONE_ANSWER else JudgeError
                    raise kind(f"{self.url}: the judge refused the request ({failure})") from error
            except (OSError, ValueError, HTTPException) as error:
                failure, asked = str(error), ""
            pause = float(asked) if asked.isdecimal() else self.wait * 2**attempt
            if pause > _LONGEST_WAIT:
                raise JudgeError(
                    f"{self.url}: the judge asks to wait {pause:.0f} s ({failure}): give the same command again then; "
                    "the verdicts so far are kept"
                )
            if attempt + 1 < _TRIES:
                time.sleep(pause)
        raise JudgeError(f"{self.url}: no reply after {_TRIES} tries ({failure})")


@dataclass(frozen=True, slots=True)
class Judged:
    """The result of judging.

    Attributes:
        verdicts: how many this call obtained.
        unparsed: answers of the run that have none yet, since no reply of the judge was a verdict.
    """

    verdicts: int
    unparsed: int


def judge_run(path: Path, judge: Judge, *, workers: int = 4, on_verdict: Callable[[int, int], None] = print) -> Judged:
    """Grades what has no verdict yet, several answers at a time, in their order.

    An answer whose reply was no verdict is judged again when all others are, `MOST_READINGS` times in all; a line is
    written for each reply. An answer that the service refuses, as a filter or a limit of length does, counts as such a
    reply; where the first `MOST_REFUSED` requests are all refused, that is an error. Verdicts on other answers to these
    questions, of a run that was here before, do not count.

    Args:
        path: the run's file.
        judge: who grades.
        workers: requests under way at once.
        on_verdict: called with verdicts had and needed, after each one.

    Raises:
        JudgeError, ResultsError: see `Judge.grade` and `Journal`; or the verdicts there are another judge's.
    """
    answers = [line for line in read_run(path).answers if line.judged and line.reference is not None]
    with Journal(beside(path, "verdicts"), Verdict) as journal, ThreadPoolExecutor(workers) as pool:
        if journal.header and (apart := list(differences(journal.header, judge.header()))):
            there = "; ".join(apart)
            raise ResultsError(f"{journal.path} holds another judge's verdicts ({there}): move it away first")
        journal.begin(judge.header())
        sent = {line.question: fill_in(judge.prompt, line) for line in answers}
        verdicts = [line for line in journal.lines if line.sent == sent.get(line.question)]
        replies = Counter(line.question for line in verdicts)
        known = {line.question for line in verdicts if line.correct is not None}
        before, heard = len(known), any(not line.reply.startswith(_REFUSED) for line in verdicts)
        refused: list[Verdict] = []  # not written before the service has replied to anything
        for reading in range(1, MOST_READINGS + 1):
            left = iter([one for one in answers if one.question not in known and replies[one.question] < reading])
            while together := list(islice(left, workers)):
                for verdict in pool.map(judge.grade, together):
                    heard |= not verdict.reply.startswith(_REFUSED)
                    if not heard:
                        refused.append(verdict)
                        if len(refused) == MOST_REFUSED:
                            raise JudgeError(verdict.reply.removeprefix(_REFUSED))
                        continue
                    journal.append(verdict)
                    replies[verdict.question] += 1
                    if verdict.correct is not None:
                        known.add(verdict.question)
                        on_verdict(len(known), len(answers))
        return Judged(len(known) - before, len(answers) - len(known))


def _beginning(error: urllib.error.HTTPError) -> str:
    """The beginning of a service's reply, as far as it arrives."""
    try:
        return error.read(500).decode(errors="replace").strip()
    except (OSError, HTTPException):
        return "no reason came"


def read_verdict(reply: str) -> tuple[float | None, float | None]:
    """(1 or 0, score) of a judge's reply, after what it thought; None for what it does not say."""
    text = reply.rpartition("</think>")[2]
    correct = re.search(r"""(?<![a-z])(?:correct|pred)["']?\s*:\s*["']?(yes|no|true|false)\b""", text, re.IGNORECASE)
    score = re.search(r"""["']?score["']?\s*:\s*["']?(\d+(?:\.\d+)?)""", text, re.IGNORECASE)
    return (
        float(correct[1].lower() in ("yes", "true")) if correct else None,
        float(score[1]) if score else None,
    )


def key_from(variable: str) -> str | None:
    """The key that an environment variable holds, if it is set."""
    return os.environ.get(variable) or None
