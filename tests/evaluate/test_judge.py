"""A judge of open answers: what it is sent and says, services that fail, keys that stay where they belong."""

import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NoReturn

import pytest

from infinipot import JudgeError, ResultsError
from infinipot.cli.eval import _finish
from infinipot.evaluate.judge import PROMPT, Judge, Judged, judge_run, read_verdict
from infinipot.evaluate.reading import read_run, read_runs
from infinipot.evaluate.report import report, tables
from infinipot.evaluate.results import beside
from infinipot.evaluate.run import evaluate
from support.runs import SETUPS, Canned, plan

CUT_SHORT, ELSEWHERE = -1, -2


class Service(BaseHTTPRequestHandler):
    """A chat service that fails as told, then says yes to every answer with a lamp in it."""

    failures: list[int] = []  # noqa: RUF012
    mumbles: int = 0
    picky: bool = False
    filtered: str = "no answer has this"
    later: str = ""
    requests: list[dict] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append({"path": self.path, "key": self.headers.get("Authorization"), "body": body})
        failure = self.failures.pop(0) if self.failures else 0
        if failure == CUT_SHORT:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            return
        if failure == ELSEWHERE:
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.connection.getsockname()[1]}/v1/chat/completions")
            self.end_headers()
            return
        if self.picky and "temperature" in body:
            self.send_error(400, "Unsupported parameter: temperature")
            return
        if self.filtered in body["messages"][0]["content"]:
            self.send_error(422, "content filter")
            return
        if failure:
            self.send_response(failure)
            self.send_header("Retry-After", self.later)
            self.end_headers()
            return
        said = body["messages"][0]["content"].partition("Answer to grade:")[2]
        verdict = '{"correct": "yes", "score": 5}' if "lamp" in said else 'Well: {"correct": "no", "score": 1}'
        if Service.mumbles and "lamp" in said:
            Service.mumbles -= 1
            verdict = "I cannot tell."
        reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": verdict}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def do_GET(self) -> None:
        """What a redirection makes of it."""
        self.requests.append({"path": self.path, "key": self.headers.get("Authorization"), "body": None})
        self.send_error(404)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def service() -> Iterator[str]:
    Service.failures, Service.requests, Service.mumbles = [], [], 0
    Service.picky, Service.filtered, Service.later = False, "no answer has this", ""
    server = HTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_run(tmp_path: Path) -> Path:
    asked, output = plan(tmp_path, "rvs"), tmp_path / "rvs.jsonl"
    first = asked.items[0].questions[0].id
    evaluate(asked, SETUPS["rvs"], Canned({first: "A {lamp} is lit"}), output)
    return output


def test_open_answers_stay_unjudged_without_a_judge(open_run: Path) -> None:
    (section,) = report(read_runs([open_run]))
    assert [one.estimates for one in section.runs] == [{}]
    assert not any(row[0].startswith("judge") for row in tables(section)[1].rows)
    assert all(line.correct is None for line in read_run(open_run).answers)


def test_a_run_that_is_over_says_how_many_answers_have_no_verdict_yet(
    open_run: Path, service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _finish([open_run], None, as_json_lines=False)
    assert "4 open answers not judged: infinipot eval judge" in capsys.readouterr().err
    judge_run(open_run, Judge(service, "m"))
    _finish([open_run], None, as_json_lines=False)
    said = capsys.readouterr()
    assert "not judged:" not in said.err
    assert "judge's score, mean" in said.out


def test_verdicts_are_recorded_with_judge_and_prompt_and_a_failing_service_is_tried_again(
    open_run: Path, service: str
) -> None:
    before = open_run.read_bytes()
    Service.failures = [503, 429, CUT_SHORT]
    judge = Judge(service, "a-model", key="secret", wait=0.01)
    assert judge_run(open_run, judge, workers=1) == Judged(4, 0)
    assert open_run.read_bytes() == before
    header, *verdicts = [json.loads(line) for line in beside(open_run, "verdicts").read_text().splitlines()]
    assert (header["model"], header["prompt"]) == ("a-model", PROMPT)
    assert "secret" not in beside(open_run, "verdicts").read_text()
    assert {request["key"] for request in Service.requests} == {"Bearer secret"}
    assert Service.requests[0]["path"] == "/v1/chat/completions"
    assert [verdict["correct"] for verdict in verdicts] == [1.0, 0.0, 0.0, 0.0]
    assert "A {lamp} is lit" in verdicts[0]["sent"]
    (section,) = report(read_runs([open_run]))
    assert section.runs[0].estimates["overall"].value == 0.25
    assert ("judge's score, mean", "2.00") in tables(section)[1].rows  # of 5 and three times 1
    assert judge_run(open_run, judge) == Judged(0, 0)
    with pytest.raises(ResultsError, match="another judge's verdicts"):
        judge_run(open_run, Judge(service, "other"))


def test_runs_that_different_judges_scored_are_not_compared(open_run: Path, service: str) -> None:
    other = open_run.with_name("other.jsonl")
    other.write_bytes(open_run.read_bytes().replace(b'"policy": "none"', b'"policy": "other"'))
    judge_run(open_run, Judge(service, "m"))
    assert len(read_runs([open_run, other])) == 2  # one of them is not judged yet
    judge_run(other, Judge(service, "n"))
    with pytest.raises(ResultsError, match=r'rvs.jsonl and .*other.jsonl cannot be compared \(judge.model: "m" there'):
        read_runs([open_run, other])
    judgements = beside(other, "verdicts")
    judgements.write_bytes(judgements.read_bytes().replace(b'"model": "n"', b'"model": "m"').replace(b"/v1", b"/v2"))
    (section,) = report(read_runs([open_run, other]), draws=10)
    against = section.runs[1].against
    assert against is not None
    assert against.value == 0  # the same judge, at whatever address


@pytest.mark.parametrize(("mumbles", "unparsed"), [(1, 0), (2, 0), (3, 1), (9, 1)])
def test_a_reply_that_is_no_verdict_is_asked_for_again_three_times_in_all(
    open_run: Path, service: str, mumbles: int, unparsed: int
) -> None:
    Service.mumbles = mumbles
    judge = Judge(service, "m", wait=0.01)
    assert judge_run(open_run, judge, workers=2) == Judged(4 - unparsed, unparsed)
    asked = 4 + min(mumbles, 2)
    assert len(Service.requests) == asked
    assert len(beside(open_run, "verdicts").read_text().splitlines()) == 1 + asked
    (section,) = report(read_runs([open_run]))
    assert section.runs[0].estimates["overall"].value == (0 if unparsed else 0.25)
    notes = [note for table in tables(section) for note in table.notes]
    assert any("1 answer without a verdict, as no reply" in note for note in notes) == bool(unparsed)
    assert judge_run(open_run, judge) == Judged(0, unparsed)
    assert len(Service.requests) == asked


def test_what_had_no_verdict_in_an_earlier_call_is_asked_for_again(open_run: Path, service: str) -> None:
    judge = Judge(service, "m", wait=0.01)
    assert judge_run(open_run, judge) == Judged(4, 0)
    lines = beside(open_run, "verdicts").read_text().splitlines(keepends=True)
    mute = json.dumps({**json.loads(lines[1]), "reply": "?", "correct": None, "score": None}) + "\n"
    beside(open_run, "verdicts").write_text("".join([lines[0], mute, *lines[2:]]))
    assert judge_run(open_run, judge) == Judged(1, 0)
    assert len(Service.requests) == 5


def test_verdicts_on_the_answers_of_a_run_that_was_here_before_do_not_count(open_run: Path, service: str) -> None:
    judge = Judge(service, "m", wait=0.01)
    assert judge_run(open_run, judge) == Judged(4, 0)
    open_run.unlink()
    asked = plan(open_run.parent, "rvs")
    first, second, *_ = (question.id for item in asked.items for question in item.questions)
    evaluate(asked, SETUPS["rvs"], Canned({second: "A lamp is lit"}), open_run)
    scores = {line.question: line.correct for line in read_run(open_run).answers}
    assert (scores[first], scores[second]) == (None, None)  # two answers are others than before
    assert judge_run(open_run, judge) == Judged(2, 0)
    scores = {line.question: line.correct for line in read_run(open_run).answers}
    assert (scores[first], scores[second]) == (0.0, 1.0)


def test_a_judge_that_refuses_ends_it_and_what_was_judged_stays(open_run: Path, service: str) -> None:
    judge = Judge(service, "m", wait=0.01)
    Service.failures = [401]
    with pytest.raises(JudgeError, match="refused"):
        judge_run(open_run, judge, workers=1)
    assert judge_run(open_run, judge, workers=3) == Judged(4, 0)


def test_an_answer_that_the_judge_refuses_has_no_verdict_and_all_others_have_one(open_run: Path, service: str) -> None:
    Service.filtered = "{lamp}"
    judge = Judge(service, "m", wait=0.01)
    assert judge_run(open_run, judge, workers=2) == Judged(3, 1)
    assert "refused: " in beside(open_run, "verdicts").read_text()
    assert len(Service.requests) <= 3 + 4  # not written before the service had replied to anything
    assert judge_run(open_run, judge).unparsed == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_judge_that_refuses_every_answer_ends_it_and_nothing_counts_as_read(
    open_run: Path, service: str, workers: int
) -> None:
    Service.filtered = ""
    with pytest.raises(JudgeError, match=r"the judge refused the request \(status 422"):
        judge_run(open_run, Judge(service, "m", wait=0.01), workers=workers)
    assert len(beside(open_run, "verdicts").read_text().splitlines()) == 1
    Service.filtered = "no answer has this"
    assert judge_run(open_run, Judge(service, "m", wait=0.01)) == Judged(4, 0)


def test_a_judge_that_takes_no_temperature_is_given_none(open_run: Path, service: str) -> None:
    Service.picky = True
    assert judge_run(open_run, Judge(service, "m", wait=0.01), workers=1) == Judged(4, 0)


def test_a_service_that_asks_to_wait_for_long_is_an_error_that_says_so(open_run: Path, service: str) -> None:
    Service.failures, Service.later = [429], "86400"
    with pytest.raises(JudgeError, match=r"asks to wait 86400 s \(status 429"):
        judge_run(open_run, Judge(service, "m", wait=0.01), workers=1)


def test_a_service_that_fails_and_does_not_get_to_saying_why_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stalled(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise TimeoutError

    def failing(request: urllib.request.Request, timeout: float) -> NoReturn:
        raise urllib.error.HTTPError(request.full_url, 504, "", Message(), Stalled())

    monkeypatch.setattr(urllib.request, "urlopen", failing)
    with pytest.raises(JudgeError, match=r"no reply after 6 tries \(status 504: no reason came\)"):
        Judge("http://x", "m", wait=0)._post(urllib.request.Request("http://x"))


def test_the_key_goes_to_no_other_service_than_the_one_it_is_for(open_run: Path, service: str) -> None:
    Service.failures = [ELSEWHERE]
    with pytest.raises(JudgeError, match="refused"):
        judge_run(open_run, Judge(service, "m", key="secret"), workers=1)
    assert [request["key"] for request in Service.requests] == ["Bearer secret", None]


def test_a_judge_that_is_not_there_is_an_error_after_some_tries(open_run: Path) -> None:
    with pytest.raises(JudgeError, match="no reply after 6 tries"):
        judge_run(open_run, Judge("http://127.0.0.1:9", "m", wait=0.001), workers=1)


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ('{"correct": "yes", "score": 4}', (1.0, 4.0)),
        ("{'pred': 'no', 'score': 2.5}", (0.0, 2.5)),
        ('```json\n{"correct": true}\n```', (1.0, None)),
        ("I cannot tell.", (None, None)),
        ('{"incorrect": true}', (None, None)),
        ('{"correct": "not at all"}', (None, None)),
        ('{"is_correct": "no"}', (0.0, None)),
        ('<think>So {"correct": "yes", "score": 4}? No.</think>\n{"correct": "no", "score": 1}', (0.0, 1.0)),
    ],
)
def test_verdicts_are_read_from_what_judges_write(reply: str, read: tuple[float | None, float | None]) -> None:
    assert read_verdict(reply) == read
