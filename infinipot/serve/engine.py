"""The server's use of the library besides steps: questions whose answers fit, CPU threads, and waiting for devices."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import torch

from infinipot import Answer, Task
from infinipot.errors import CapError
from infinipot.model import Model
from infinipot.stream import Stream

T = TypeVar("T")


def begin_ask(
    stream: Stream, question: str, options: Mapping[str, Any], on_text: Callable[[str], None]
) -> Task[Answer]:
    """Begins a question to a stream, as a task that `Model.step` continues.

    Args:
        stream: that is asked.
        question, options: see `Stream.ask`. An answer that may be longer than there is room for is as long as there is.
        on_text: called with each piece of the answer.

    Raises:
        CapError: the question does not fit the share of the memory that is reserved for it.
        QuestionError: it cannot be asked.
    """
    wanted = options.get("max_new_tokens")
    how = {name: options[name] for name in ("remember", "look_again", "look_pixels") if name in options}
    try:
        limit = stream.answer_limit(question, max_new_tokens=wanted, **how)
    except CapError:
        if wanted is None:
            raise
        limit = stream.answer_limit(question, **how)
    return stream.begin_ask(question, **{**options, "max_new_tokens": limit, "on_text": on_text})


def run_in(threads: int | None) -> None:
    """Sets how many CPU threads do the work of this thread: by default, one fewer than there are cores.

    Threads wait for each other at each operation, and where one of them shares its core with requests and decoding, for
    a turn of the scheduler each time: see perf/serve_threads.py.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or max(1, min(torch.get_num_threads(), cores - 1)))


def reach(model: Model) -> None:
    """Waits until the devices that a model lies on have done all that was asked of them.

    Raises:
        RuntimeError: this process can no longer use one of them.
    """
    for device in accelerators(model):
        torch.accelerator.synchronize(device)


def accelerators(model: Model) -> tuple[torch.device, ...]:
    """The devices that a model lies on, the CPU left out: what they are asked to do goes on after a call returns."""
    devices = {model.device, *(shape.device for shape in model.adapter.layer_shapes())}
    return tuple(device for device in devices if device.type not in ("cpu", "meta"))


def timed(devices: Sequence[torch.device], work: Callable[[], T]) -> tuple[T, float]:
    """What some work returns, and the seconds that it took.

    On a CPU those are this thread's, whatever else has the machine meanwhile. On other devices they last until what was
    launched is done, so that steps are of the length that they are meant to have, and a question that comes next does
    not wait behind a queue of them.

    Args:
        devices: see `accelerators`.
    """
    start, busy = time.perf_counter(), time.thread_time()
    result = work()
    if not devices:
        return result, time.thread_time() - busy
    with suppress(RuntimeError):  # what is the matter with a device is the error of whatever needs its results
        for device in devices:
            torch.accelerator.synchronize(device)
    return result, time.perf_counter() - start
