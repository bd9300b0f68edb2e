"""Runs cases in several processes, those of one clip together, so that it is drawn once."""

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch

import infinipot
from infinipot.config import LoadConfig
from infinipot.embedded.scenery import Footage
from infinipot.errors import InfinipotError
from infinipot.evaluate.needle import memories
from infinipot.evaluate.needle.case import Case, Scene
from infinipot.evaluate.needle.memories import Outcome

T = TypeVar("T")
Loaded = tuple[infinipot.Model, Footage | None]
MOST_TOGETHER = 16  # memories that watch one clip side by side: what is lost when a run is killed


def groups(cases: Iterable[Case], first_seed: int) -> list[list[Case]]:
    """The cases, each once, in groups of one scene: the first clip of every section first, so that a run that is
    stopped has some of everything.

    Memories of one size are together: what they hold is the same until one of them evicts, and is run over once.
    """
    by_scene: dict[Scene, list[Case]] = {}
    for case in dict.fromkeys(cases):
        by_scene.setdefault(case.scene, []).append(case)
    ordered = sorted(by_scene.values(), key=lambda together: (together[0].scene.seed - first_seed) % 100)
    by_size = (sorted(together, key=lambda case: case.holder.room) for together in ordered)
    return [
        together[start : start + MOST_TOGETHER]
        for together in by_size
        for start in range(0, len(together), MOST_TOGETHER)
    ]


def run(
    loading: LoadConfig, together: Sequence[Sequence[Case]], footage: str | None, processes: int
) -> Generator[list[Outcome], None, None]:
    """Runs groups of cases and yields their outcomes, a group as soon as it is finished.

    One thread a process: the model is small, and answers do not depend on how many there are.

    Args:
        loading: what the model is loaded with.
        footage: path of a video file, for scenes on it.
        processes: how many at once; with one, everything runs in this process. They share an accelerator.

    Raises:
        ModelError, VideoError: the model or the video cannot be loaded.
        InfinipotError: a process died.
    """
    processes = min(processes, len(together))
    if processes <= 1:
        loaded = _load(loading, footage)
        yield from (_run(loaded, cases) for cases in together)
        return
    with _pool(processes) as pool:
        for done in as_completed([pool.submit(_run_loaded, cases, loading, footage) for cases in together]):
            yield done.result()


def alone(measure: Callable[..., T], *given: Any) -> T:
    """Runs a function in a fresh process, and returns its result.

    Raises:
        InfinipotError: the process died.
    """
    with _pool(1) as pool:
        return pool.submit(measure, *given).result()


def quieten() -> None:
    """Turns off the progress bars and messages of the libraries that load models, in this process."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes in which nothing ran before. They end with the block; with an error, whatever they are at."""
    others = {*multiprocessing.active_children()}
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin)
    try:
        yield pool
        pool.shutdown()
    except BrokenProcessPool as error:
        raise InfinipotError(
            "a process of the benchmark died, perhaps for lack of memory: run it again with fewer --jobs to continue"
        ) from error
    finally:
        for process in {*multiprocessing.active_children()} - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits, which ends this one
    quieten()
    torch.set_num_threads(1)


def _load(loading: LoadConfig, footage: str | None) -> Loaded:
    torch.set_num_threads(1)
    loaded = infinipot.load(loading.model, dtype=loading.dtype, device=loading.device)
    return loaded, Footage(footage, size=memories.frame_size(loaded)) if footage else None


_load_once = cache(_load)


def _run_loaded(cases: Sequence[Case], *given: Any) -> list[Outcome]:
    """In a process of the pool, which loads what is given with its first cases."""
    return _run(_load_once(*given), cases)


def _run(loaded: Loaded, cases: Sequence[Case]) -> list[Outcome]:
    model, footage = loaded
    return memories.run(model, cases, footage)
