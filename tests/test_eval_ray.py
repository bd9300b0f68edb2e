"""Ray: two workers answer as one process does, and a killed one loses nothing. Skipped where Ray is not installed."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import SETUPS, local, plan

from infinipot import ModelError
from infinipot.evaluate import Item, Question
from infinipot.evaluate.results import read_run
from infinipot.evaluate.run import evaluate
from infinipot.evaluate.watch import Event, Loading

ray = pytest.importorskip("ray")

from infinipot.evaluate.engines import ray as engine_module  # noqa: E402
from infinipot.evaluate.engines.ray import RayEngine, _Worker  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[str]:
    """The lines of one process."""
    evaluate(plan(folder, "rvs"), SETUPS["rvs"], local("rvs"), folder / "alone.jsonl")
    return (folder / "alone.jsonl").read_text().splitlines()


def mortal() -> type[_Worker]:
    """A worker that is killed in the middle of a video with several questions, behind its first answer, once.

    A class of a function, so that Ray sends it along: workers cannot import this file.
    """

    class Mortal(_Worker):
        def watch(self, item: Item, questions: tuple[Question, ...]) -> Iterator[Event]:
            died = item.video.with_suffix(".died")
            for event in super().watch(item, questions):
                yield event
                if len(item.questions) > 1 and not died.exists():
                    died.touch()
                    time.sleep(0.5)  # the answer is out
                    os.kill(os.getpid(), signal.SIGKILL)

    return Mortal


def test_two_workers_answer_as_one_process_even_if_one_is_killed(
    folder: Path, alone: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_Worker", mortal())
    engine = RayEngine(Loading("embedded", device="cpu"), SETUPS["rvs"], workers=2)
    begin, jobs = engine._begin, []
    monkeypatch.setattr(engine, "_begin", lambda seat, job: jobs.append(job) or begin(seat, job))
    try:
        asked, output = plan(folder, "rvs"), folder / "killed.jsonl"
        evaluate(asked, SETUPS["rvs"], engine, output)
        said = engine.report()
    finally:
        engine.close()
    lines = output.read_text().splitlines()
    assert lines[0] == alone[0]
    assert sorted(lines) == sorted(alone)
    first, second = (job for job in jobs if job.item.id == asked.items[0].id)  # begun again once,
    assert second.questions == first.questions[1:]  # for what had no answer yet
    assert len(jobs) == 3
    assert "of their time went into" in said
    with capsys.disabled():
        print(f"\nray, one of its workers killed: {said}")


def test_what_a_worker_meets_when_it_loads_is_the_error_here() -> None:
    with pytest.raises(ModelError, match="no such folder"):
        RayEngine(Loading("./nowhere"), SETUPS["rvs"])


def test_a_video_that_kills_its_workers_is_given_up_and_the_rest_goes_on(
    folder: Path, alone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = RayEngine(Loading("embedded", device="cpu"), SETUPS["rvs"], workers=1)
    (first, *_) = plan(folder, "rvs").items
    begin = engine._begin

    def deadly(seat, job):  # type: ignore[no-untyped-def]
        if job.item.id == first.id:
            os.kill(seat.pid, signal.SIGKILL)
        return begin(seat, job)

    engine._begin = deadly  # type: ignore[method-assign]
    try:
        output = folder / "deadly.jsonl"
        evaluate(plan(folder, "rvs"), SETUPS["rvs"], engine, output)
    finally:
        engine.close()
    run = read_run(output)
    (problem,) = run.problems
    assert problem["questions"] == [question.id for question in first.questions]
    assert "workers died" in problem["what"]
    assert len(run.answers) == 1
