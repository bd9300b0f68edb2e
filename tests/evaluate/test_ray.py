"""Ray: two workers answer as one process does, and a killed one loses nothing. Skipped where Ray is not installed."""

import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import GeneratorType, SimpleNamespace
from typing import Any

import pytest

from infinipot import InfinipotError, ModelError
from infinipot.config import LoadConfig
from infinipot.evaluate import Item, Problem
from infinipot.evaluate.engines.base import EvalAnswer, Event, Provenance, WatchTime, made_by
from infinipot.evaluate.reading import read_run
from infinipot.evaluate.run import Progress, evaluate
from support.runs import SETUPS, local, plan

ray = pytest.importorskip("ray")

from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError  # noqa: E402

from infinipot.evaluate.engines import ray as engine_module  # noqa: E402
from infinipot.evaluate.engines.ray import RayEngine, _Worker  # noqa: E402


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
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


def faulty() -> type[_Worker]:
    """A worker that stops behind its first answer of a video with several questions.

    Where the file `hangs` lies beside the video, it hangs; else it is killed, once, when the driver has its answer. A
    class of a function, so that Ray sends it along: workers cannot import this file.
    """

    class Faulty(_Worker):
        def watch(self, item: Item) -> Iterator[Event]:
            died, told = item.video.with_suffix(".died"), item.video.with_suffix(".told")
            for event in super().watch(item):
                yield event
                if len(item.questions) > 1 and item.video.with_name("hangs").exists():
                    time.sleep(600)
                elif len(item.questions) > 1 and not died.exists():
                    died.touch()
                    while not told.exists():
                        time.sleep(0.01)
                    os.kill(os.getpid(), signal.SIGKILL)

    return Faulty


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
def test_two_workers_answer_as_one_process_if_one_is_killed_and_give_up_a_video_over_which_one_hangs(
    folder: Path, alone: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_Worker", faulty())
    monkeypatch.setattr(engine_module, "GRACE", 0.0)
    take = engine_module._Task.take

    def taken(task: Any, event: Event) -> None:
        take(task, event)
        if isinstance(event, EvalAnswer):
            task.left.video.with_suffix(".told").touch()

    monkeypatch.setattr(engine_module._Task, "take", taken)
    asked = plan(folder, "rvs")
    engine = RayEngine(LoadConfig("embedded", device="cpu"), SETUPS["rvs"], workers=2, time_limit=600.0)
    begin, jobs = engine._begin, []
    monkeypatch.setattr(engine, "_begin", lambda worker, item: jobs.append(item) or begin(worker, item))
    try:
        evaluate(asked, SETUPS["rvs"], engine, folder / "killed.jsonl")
        said = engine.report()
        asked.items[0].video.with_name("hangs").touch()

        def out_of_patience(progress: Progress) -> None:
            if (progress.videos, progress.questions) == (1, 2):  # all is there that will ever come
                monkeypatch.setattr(engine, "_time_limit", 0.0)

        done = evaluate(asked, SETUPS["rvs"], engine, folder / "hung.jsonl", on_progress=out_of_patience)
    finally:
        engine.close()
    lines = (folder / "killed.jsonl").read_text().splitlines()
    assert lines[0] == alone[0]
    assert sorted(lines) == sorted(alone)
    first, second = (item for item in jobs[:3] if item.id == asked.items[0].id)  # begun again once,
    assert second.questions == first.questions[1:]  # for what had no answer yet
    assert len(jobs) == 3 + 2
    assert said is not None
    assert "of their time went into" in said
    with capsys.disabled():
        print(f"\nray, one of its workers killed: {said}")
    assert (done.problems, done.questions) == (1, asked.questions)
    (problem,) = read_run(folder / "hung.jsonl").problems
    assert problem.questions == [question.id for question in first.questions[1:]]
    kept = [line for line in (folder / "hung.jsonl").read_text().splitlines() if '"type": "answer"' in line]
    assert sorted(kept) == sorted(
        line
        for line in alone
        if '"type": "answer"' in line and not any(f'"question": "{one}"' in line for one in problem.questions)
    )


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
def test_what_a_worker_meets_when_it_loads_is_the_error_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a worker that imports no model: tests/test_model.py loads what cannot be loaded."""

    class Failing:
        def __init__(self, *_: object) -> None: ...

        def start(self) -> None:
            raise ModelError("no such folder")

    monkeypatch.setattr(engine_module, "_Worker", Failing)
    with pytest.raises(ModelError, match="no such folder") as raised:
        RayEngine(LoadConfig("./nowhere"), SETUPS["rvs"])
    assert type(raised.value) is ModelError, "not Ray's, which is one too"


# What Ray may come to, played in this process


READY = (Provenance({"model": "m", "dtype": "bfloat16"}, "nowhere"), made_by())


class Played:
    """Ray without processes: `loads` are what workers say when they have loaded, an exception being their death."""

    def __init__(
        self, *loads: Any, machines: Sequence[dict[str, float]] = ({"CPU": 8.0},), running: bool = True
    ) -> None:
        self.loads = deque(loads)
        self.machines = machines
        self.running = running
        self.killed: list[Any] = []
        self.watched: list[str] = []
        self.deadly: dict[str, Exception] = {}
        self.hung: set[str] = set()

    def is_initialized(self) -> bool:
        return self.running

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": machine} for machine in self.machines]

    def remote(self, **_: object) -> Any:
        return lambda kind: SimpleNamespace(remote=self.actor)

    def actor(self, *_: object) -> Any:
        watch = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self.watch))
        return SimpleNamespace(start=SimpleNamespace(remote=lambda: iter([self.loads.popleft()])), watch=watch)

    def watch(self, item: Item) -> Iterator[Event]:
        self.watched.append(item.id)
        for question in item.questions:
            if item.id in self.deadly:
                raise self.deadly[item.id]
            yield EvalAnswer(item.id, question.id, question.text, "A", 1.0, 4, 2, 10, 20, 0.5)
        yield WatchTime("nowhere", item.id, {"wall": 1.0}, 1)

    def wait(self, refs: list[Any], num_returns: int, timeout: float | None = None) -> tuple[list[Any], list[Any]]:
        live = [ref for ref in refs if not (isinstance(ref, GeneratorType) and self.hangs(ref))]
        if not live:
            assert timeout is not None, "it would wait for ever"
            time.sleep(timeout)
        return live[-1:], [ref for ref in refs if ref not in live[-1:]]

    def hangs(self, stream: GeneratorType) -> bool:
        """Whether the video is one that hangs behind the first of its answers."""
        frame = stream.gi_frame
        return frame is not None and frame.f_locals["item"].id in self.hung and stream.gi_suspended

    def get(self, ref: Any) -> Any:
        value = next(ref) if isinstance(ref, Iterator) else ref
        if isinstance(value, Exception):
            raise value
        return value

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)


def pool(monkeypatch: pytest.MonkeyPatch, played: Played, **given: Any) -> RayEngine:
    monkeypatch.setattr(engine_module, "ray", played)
    return RayEngine(LoadConfig("m"), SETUPS["rvs"], **given)


def of(event: Event) -> str:
    """The video's id."""
    return event.where if isinstance(event, Problem) else event.item


@pytest.mark.parametrize("death", [ActorDiedError(), ActorUnavailableError("?", None), OutOfMemoryError("too much")])
def test_a_video_that_ends_its_workers_is_given_up_and_the_rest_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, death: Exception
) -> None:
    played, asked = Played(READY, READY, READY), plan(folder, "rvs")
    first, second = asked.items
    played.deadly[first.id] = death
    engine = pool(monkeypatch, played)
    events = list(engine.run(asked.items))
    (trouble,) = [event for event in events if of(event) == first.id]
    why, left = "2 workers died while they watched this video", tuple(one.id for one in first.questions)
    assert trouble == Problem(first.id, why, left)
    assert [event.item for event in events if isinstance(event, EvalAnswer)] == [second.id]
    assert played.watched == [first.id, first.id, second.id]
    assert len(played.killed) == 2  # one that is only out of reach gives its accelerator back too
    assert not played.loads


@pytest.mark.parametrize("limit", [0.01, None])
def test_a_worker_that_hangs_is_ended_and_replaced_where_there_is_a_time_limit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limit: float | None
) -> None:
    monkeypatch.setattr(engine_module, "GRACE", 0.01)
    played, asked = Played(READY, READY, READY), plan(folder, "rvs")
    first, second = asked.items
    played.hung.add(first.id)
    engine = pool(monkeypatch, played, time_limit=limit)
    if limit is None:
        with pytest.raises(AssertionError, match="for ever"):
            list(engine.run(asked.items))
        return
    events = list(engine.run(asked.items))
    *answers, trouble = [event for event in events if of(event) == first.id]
    assert isinstance(trouble, Problem)
    assert [isinstance(each, EvalAnswer) and each.question for each in answers] == [
        first.questions[0].id
    ]  # what came before it hung is kept
    assert trouble.questions == tuple(one.id for one in first.questions[1:])
    assert "0.01 s of --time-limit" in trouble.what
    assert [event.question for event in events if of(event) == second.id and isinstance(event, EvalAnswer)] == [
        question.id for question in second.questions
    ]
    assert (played.watched, len(played.killed)) == ([first.id, second.id], 1)


@pytest.mark.parametrize(
    "loads", [(ActorDiedError(), READY, READY), (READY, ActorDiedError(), ActorDiedError(), READY)]
)
def test_a_worker_that_dies_while_it_loads_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, loads: tuple[Any, ...]
) -> None:
    asked, played = plan(folder, "rvs"), Played(*loads)
    engine = pool(monkeypatch, played, workers=2)
    events = list(engine.run(asked.items))
    assert sum(isinstance(event, EvalAnswer) for event in events) == asked.questions
    assert len(played.killed) == len(loads) - 2
    assert (len(engine.ready), len(played.loads)) == (2, 0)


def test_workers_that_die_in_a_row_while_they_load_are_replaced_no_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plan(folder, "rvs")
    deaths = [OutOfMemoryError("too much")] * 2 + [ActorDiedError()] * 2
    with pytest.raises(InfinipotError, match="died while it loaded the model"):
        pool(monkeypatch, Played(*deaths, READY), workers=2)
    engine = pool(monkeypatch, Played(READY, *deaths, READY), workers=2)
    events = list(engine.run(asked.items))
    assert sum(isinstance(event, EvalAnswer) for event in events) == asked.questions  # by the one that is left


def test_workers_that_would_not_answer_alike_are_refused(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    other = (Provenance({"model": "m", "dtype": "float16"}, "elsewhere"), made_by())
    engine = pool(monkeypatch, Played(other, READY), workers=2)
    with pytest.raises(InfinipotError, match='dtype: "bfloat16" there, "float16" now'):
        list(engine.run(plan(folder, "rvs").items))
    with pytest.raises(InfinipotError, match="other versions"):
        pool(monkeypatch, Played((READY[0], {"torch": "0"})))


@pytest.mark.parametrize(
    ("machines", "gpus", "fit"),
    [
        ([{"CPU": 4.0}], 0, 4),
        ([{"CPU": 64.0, "GPU": 4.0}, {"CPU": 2.0, "GPU": 4.0}], 1, 6),
        ([{"CPU": 8.0, "GPU": 1.0}] * 4, 2, 0),
        ([{"CPU": 8.0, "GPU": 3.0}], 2, 1),
        ([{"CPU": 16.0, "GPU": 2.0}], 0.3, 6),
    ],
)
def test_workers_that_no_machine_has_room_for_are_refused_in_place_of_waiting_for_ever(
    machines: list[dict[str, float]], gpus: float, fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fit:
        pool(monkeypatch, Played(*[READY] * fit, machines=machines), workers=fit, gpus=gpus)
    with pytest.raises(InfinipotError, match=f"more than the {fit} that fit"):
        pool(monkeypatch, Played(machines=machines), workers=fit + 1, gpus=gpus)


def test_a_ray_client_is_refused_since_it_does_not_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InfinipotError, match="on a machine of the cluster"):
        pool(monkeypatch, Played(running=False), address="ray://head:10001")
