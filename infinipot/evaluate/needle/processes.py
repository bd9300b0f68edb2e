"""Runs cases in several processes, those of one clip together, so that it is drawn once."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

import infinipot
from infinipot.embedded.scenery import Footage
from infinipot.errors import InfinipotError
from infinipot.evaluate.needle import memories
from infinipot.evaluate.needle.case import Case, Scene
from infinipot.evaluate.needle.memories import Outcome

T = TypeVar("T")
MOST_TOGETHER = 16  # memories that watch one clip side by side: what is lost when a run is killed
_IDLE: dict[str, Any] = {}  # a worker's model and footage


def groups(cases: Iterable[Case], first_seed: int) -> list[list[Case]]:
    """The cases, each once, in groups of one scene: the first clip of every section first, so that a run that is
    stopped has some of everything."""
    by_scene: dict[Scene, list[Case]] = {}
    for case in dict.fromkeys(cases):
        by_scene.setdefault(case.scene, []).append(case)
    ordered = sorted(by_scene.values(), key=lambda together: (together[0].scene.seed - first_seed) % 100)
    return [
        together[start : start + MOST_TOGETHER]
        for together in ordered
        for start in range(0, len(together), MOST_TOGETHER)
    ]


def run(
    model: str, together: Sequence[Sequence[Case]], footage: str | None, processes: int, device: str = "auto"
) -> Iterator[list[Outcome]]:
    """Runs groups of cases and yields their outcomes, a group as soon as it is finished.

    One thread a process: the model is small, and answers do not depend on how many there are.

    Args:
        model: name or folder.
        footage: path of a video file, for scenes on it.
        processes: how many at once; with one, everything runs in this process. They share an accelerator.
        device: what the model computes on.

    Raises:
        ModelError, VideoError: the model or the video cannot be loaded.
    """
    processes = min(processes, len(together))
    if processes <= 1:
        _prepare(model, footage, device)
        yield from map(_run, together)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _start, (model, footage, device)) as pool:
        yield from pool.imap_unordered(_run, together)


def alone(measure: Callable[..., T], *given: Any) -> T:
    """What a function returns in a process of its own, in which nothing ran before.

    Raises:
        InfinipotError: the process died.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare_alone) as pool:
        try:
            return pool.submit(measure, *given).result()
        except BrokenProcessPool as error:
            raise InfinipotError(f"the process that was to measure {given} died") from error


def _start(model: str, footage: str | None, device: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits, which ends this one
    quieten()
    try:
        _prepare(model, footage, device)
    except Exception as error:  # a process that ends here would be started again and again
        _IDLE["error"] = error


def quieten() -> None:
    """Turns off the progress bars and messages of the libraries that load models, in this process."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _prepare_alone() -> None:
    quieten()
    torch.set_num_threads(1)


def _prepare(model: str, footage: str | None, device: str) -> None:
    torch.set_num_threads(1)
    loaded = infinipot.load(model, device=device)
    _IDLE.update(model=loaded, footage=Footage(footage, size=memories.frame_size(loaded)) if footage else None)


def _run(cases: Sequence[Case]) -> list[Outcome]:
    if "error" in _IDLE:
        raise _IDLE["error"]
    return memories.run(_IDLE["model"], cases, _IDLE["footage"])
