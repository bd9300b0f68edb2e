"""A pool of Ray actors, each with its own model; videos are their tasks. Needs the extra `ray`.

The driver alone writes results. Answers reach it one by one, as each comes, so a worker that dies loses nothing that
was answered: its video goes to another worker, which watches it again for the questions that are left.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

import infinipot
from infinipot import InfinipotError
from infinipot.config import LoadConfig
from infinipot.evaluate.core.journal import differences
from infinipot.evaluate.engines.base import Engine, EvalAnswer, Event, Provenance, RunConfig, WatchTime, made_by
from infinipot.evaluate.engines.local import LocalEngine
from infinipot.evaluate.records import Item, Problem

MOST_DEATHS = 2
"""Workers that may die over one video; after that it counts as one that cannot be watched."""
MOST_FALSE_STARTS = 3
"""Workers in a row that may die while they load the model; after that none takes the place of one that does."""
GRACE = 30.0
"""Seconds beyond the time limit in which a worker may give a video up by itself, before it is ended."""


class _Worker:
    """The actor. It loads in `start`, since Ray hides errors of an actor's `__init__`."""

    def __init__(self, loading: LoadConfig, setup: RunConfig, time_limit: float | None) -> None:
        self._loading, self._setup, self._time_limit = loading, setup, time_limit

    def start(self) -> tuple[Provenance, dict[str, str]]:
        self._watcher = LocalEngine(infinipot.load(**asdict(self._loading)), self._setup, self._time_limit)
        return self._watcher.origin(), made_by()

    def watch(self, item: Item) -> Iterator[Event]:
        yield from self._watcher.watch(item)


@dataclass(slots=True, eq=False)
class _Task:
    """A video that a worker is at.

    Attributes:
        left: the video, with the questions that are not dealt with yet.
        worker: the worker that watches it.
        begun: when it was given to the worker.
    """

    left: Item
    worker: Any
    begun: float = field(default_factory=time.monotonic)

    def take(self, event: Event) -> None:
        """Records the questions that are done."""
        if isinstance(event, WatchTime):
            return
        done = [event.question] if isinstance(event, EvalAnswer) else event.questions
        self.left = replace(self.left, questions=tuple(one for one in self.left.questions if one.id not in done))

    def give_up(self, what: str) -> Iterator[Event]:
        """Yields a problem that says why the questions left are not asked, if there are any."""
        if self.left.questions:
            yield Problem(self.left.id, what, tuple(question.id for question in self.left.questions))


class RayEngine(Engine):
    """Watches in a pool of workers.

    Args:
        loading, setup: of the model and its streams, in every worker.
        address: of a cluster, such as "auto" on one of its machines; by default one is started on this machine.
            Not "ray://...": that client does not pass on answers as they come.
        workers: how many.
        gpus: how many each gets, a fraction of one or whole ones; with more than one, its layers are spread over them.
        time_limit: seconds for a video; None: as long as it takes. A worker that does not even say that it gives up
            is ended `GRACE` seconds later, and another takes its place.

    Attributes:
        ready: workers that have loaded the model.

    Raises:
        InfinipotError: the cluster cannot be reached or is too small, or the workers do not agree in versions or in
            what their answers depend on.
        ModelError, CapError: what a worker met when it loaded the model.
    """

    def __init__(
        self,
        loading: LoadConfig,
        setup: RunConfig,
        *,
        address: str | None = None,
        workers: int = 1,
        gpus: float = 0.0,
        time_limit: float | None = None,
    ) -> None:
        begun = time.perf_counter()
        self._arguments = (loading, setup, time_limit)
        self._time_limit = time_limit
        self._workers = workers
        self.ready: list[Any] = []
        self._origin: Provenance | None = None
        self._starting: dict[Any, Any] = {}
        self._deaths: dict[str, int] = {}
        self._false_starts = 0
        self._busy = self._wall = 0.0
        self._owns = not ray.is_initialized()
        if self._owns:
            _connect(address, workers)
        try:
            _require_room(workers, gpus)
            self._kind: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Worker)
            for _ in range(workers):
                self._hire()
            while not self.ready:
                (first, *_), _ = ray.wait(list(self._starting), num_returns=1)
                self._welcome(first)
        except BaseException:
            self.close()
            raise
        self._started_in = time.perf_counter() - begun

    def origin(self) -> Provenance:
        assert self._origin is not None, "a worker is ready when the engine is"
        return self._origin

    def run(self, items: Sequence[Item]) -> Iterator[Event]:
        begun = time.perf_counter()
        waiting, idle = deque(items), list(self.ready)
        tasks: dict[Any, _Task] = {}
        while waiting or tasks:
            while waiting and idle:
                worker, item = idle.pop(), waiting.popleft()
                tasks[self._begin(worker, item)] = _Task(item, worker)
            found, _ = ray.wait([*tasks, *self._starting], num_returns=1, timeout=self._patience(tasks.values()))
            if not found:
                yield from self._give_up(tasks)
                continue
            ready: Any = found[0]
            if ready in self._starting:
                idle.extend(self._welcome(ready))
                continue
            task = tasks[ready]
            try:
                event: Event = ray.get(next(ready))
            except StopIteration:
                idle.append(tasks.pop(ready).worker)
                continue
            except RayTaskError as error:
                raise error.cause from None
            except RayError:  # the worker is gone, or its machine, or Ray ended it for the memory that it took
                self._replace(tasks.pop(ready).worker)
                yield from self._again(task, waiting)
                continue
            task.take(event)
            self._busy += event.seconds["wall"] if isinstance(event, WatchTime) else 0.0
            self._wall = time.perf_counter() - begun
            yield event

    def report(self) -> str | None:
        if not self._wall:
            return None
        lost = 1 - self._busy / (self._workers * self._wall)
        return (
            f"{self._workers} workers, the first ready after {self._started_in:.1f} s, did {self._busy:.1f} s of "
            f"watching in {self._wall:.1f} s: {lost:.1%} of their time went into loading, waiting and passing on"
        )

    def close(self) -> None:
        for actor in [*self.ready, *self._starting.values()]:
            ray.kill(actor)
        if self._owns:
            ray.shutdown()

    def _begin(self, worker: Any, item: Item) -> Any:
        """Gives a worker a video; returns the stream of what comes of it."""
        return worker.watch.options(num_returns="streaming").remote(item)

    def _hire(self) -> None:
        """Starts a worker, which joins the pool when it has loaded the model."""
        actor = self._kind.remote(*self._arguments)
        self._starting[actor.start.remote()] = actor

    def _welcome(self, started: Any) -> list[Any]:
        """Takes a worker that has loaded the model into the pool; another is hired for one that died over it."""
        actor = self._starting.pop(started)
        try:
            origin, theirs = ray.get(started)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            ray.kill(actor)
            self._false_starts += 1
            if self._false_starts < MOST_FALSE_STARTS:
                self._hire()
            if self.ready or self._starting:
                return []
            why = str(error).strip().rpartition("\n")[2].strip()
            raise InfinipotError(f"a Ray worker died while it loaded the model ({why})") from error
        if theirs != (ours := made_by()):
            raise InfinipotError(
                f"a Ray worker has other versions ({theirs}) than this process ({ours}): install the same ones"
            )
        if apart := list(differences((self._origin or origin).settings, origin.settings)):
            raise InfinipotError(
                f"the Ray workers would answer differently ({'; '.join(apart)}): give --dtype and --memory"
            )
        self._origin = self._origin or origin
        self._false_starts = 0
        self.ready.append(actor)
        return [actor]

    def _replace(self, worker: Any) -> None:
        """Takes a worker out of the pool, and off its machine if it is there still; another is hired."""
        self.ready.remove(worker)
        ray.kill(worker)
        self._hire()

    def _patience(self, tasks: Iterable[_Task]) -> float | None:
        """Seconds until the first of the tasks is overdue; None: it never is."""
        if self._time_limit is None:
            return None
        left = [task.begun + self._time_limit + GRACE - time.monotonic() for task in tasks]
        return max(0.0, min(left)) if left else None

    def _give_up(self, tasks: dict[Any, _Task]) -> Iterator[Event]:
        """Ends the workers whose task is overdue, and what is left of it with them."""
        for stream, task in [(stream, task) for stream, task in tasks.items() if self._patience([task]) == 0]:
            del tasks[stream]
            self._replace(task.worker)
            yield from task.give_up(f"given up: its worker hung beyond the {self._time_limit:g} s of --time-limit")

    def _again(self, task: _Task, waiting: deque[Item]) -> Iterator[Event]:
        """Hands the work of a dead worker to the next one, unless its video has killed enough of them."""
        left = task.left
        if not left.questions:
            return
        self._deaths[left.id] = self._deaths.get(left.id, 0) + 1
        if self._deaths[left.id] < MOST_DEATHS:
            waiting.appendleft(left)
        else:
            yield from task.give_up(f"{MOST_DEATHS} workers died while they watched this video")


def _connect(address: str | None, workers: int) -> None:
    if address is not None and address.startswith("ray://"):
        raise InfinipotError(
            f"Ray at {address}: a Ray client does not pass on answers as they come; start infinipot on a machine of "
            'the cluster, with "auto" for the address'
        )
    local: dict[str, Any] = {"num_cpus": max(workers, os.cpu_count() or 1), "include_dashboard": False}
    try:
        ray.init(
            address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else local)
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise InfinipotError(f"Ray at {address or 'this machine'} cannot be reached: {error}") from error


def _require_room(workers: int, gpus: float) -> None:
    """Ray would wait without end for what a cluster does not have: a worker's share has to be on one machine."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_room(machine, gpus) for machine in machines)
    if room < workers:
        has = " and ".join(f"{sum(machine.get(kind, 0.0) for machine in machines):g} {kind}" for kind in ("CPU", "GPU"))
        raise InfinipotError(
            f"{workers} workers of 1 CPU and {gpus:g} GPU each are more than the {room} that fit: Ray has {has} "
            f"on {len(machines)} machines"
        )


def _room(machine: Mapping[str, float], gpus: float) -> int:
    """The number of workers that fit a machine; a worker's fraction of a GPU is of a single one."""
    cpus = int(machine.get("CPU", 0.0))
    if not gpus:
        return cpus
    there = int(machine.get("GPU", 0.0))
    return min(cpus, there * int(1 / gpus) if gpus < 1 else int(there / gpus))
