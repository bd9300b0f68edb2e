"""What tests of runs share: questions about rendered clips, engines that answer at once, and a run to be killed."""

import os
import signal
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import infinipot
from infinipot import Model
from infinipot.config import StreamConfig
from infinipot.evaluate import FrameSampling, Item, find_benchmark
from infinipot.evaluate.engines.base import Engine, EvalAnswer, Event, Provenance, RunConfig, WatchTime
from infinipot.evaluate.engines.local import LocalEngine
from infinipot.evaluate.plan import RunPlan, read_plan
from infinipot.evaluate.run import Progress, evaluate
from support.benchmark_layouts import mlvu, rvs

_PIXELS = (4096, 4096)
SETUPS = {
    "mlvu": RunConfig(
        "mlvu", "paper", FrameSampling("uniform", 6, pixels=_PIXELS), config=StreamConfig(memory=768, reserve=500)
    ),
    "rvs": RunConfig(
        "rvs", "official", FrameSampling("fps", fps=2.0, pixels=_PIXELS), config=StreamConfig(memory=768, reserve=400)
    ),
}


def plan(folder: Path, name: str = "mlvu", **parts: Any) -> RunPlan:
    """A miniature to be asked."""
    data = folder / name
    if not data.is_dir():
        {"mlvu": mlvu, "rvs": rvs}[name](data)
    return read_plan(find_benchmark(name), data, **parts)


class Canned(Engine):
    """An engine that watches nothing: it says one letter for every question, by the question's id."""

    def __init__(self, said: dict[str, str] | None = None) -> None:
        self.said = said or {}
        self.asked: list[str] = []

    def origin(self) -> Provenance:
        return Provenance({"model": "canned", "policy": "none", "cap": 1, "cache_bytes": 1}, "nowhere")

    def run(self, items: Sequence[Item]) -> Iterator[Event]:
        for item in items:
            for question in item.questions:
                self.asked.append(question.id)
                text = self.said.get(question.id, "A")
                yield EvalAnswer(item.id, question.id, f"{question.text}?", text, 1.0, 4, 2, 10, 20, 0.5)
            yield WatchTime("nowhere", item.id, {"wall": 1.0}, 1 << 20)


@cache
def model() -> Model:
    """The embedded model; a process loads it once."""
    return infinipot.load("embedded", device="cpu")


def local(name: str = "mlvu") -> LocalEngine:
    """The embedded model, in this process."""
    return LocalEngine(model(), SETUPS[name])


def run_and_die(folder: Path, name: str, output: Path, at: int) -> NoReturn:
    """In a process that was forked: runs a miniature, and is killed as soon as `at` questions are answered."""

    def fatal(progress: Progress) -> None:
        if progress.questions == at:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        signal.alarm(120)  # rather than to hang
        evaluate(plan(folder, name), SETUPS[name], local(name), output, on_progress=fatal)
    finally:
        os._exit(0)
