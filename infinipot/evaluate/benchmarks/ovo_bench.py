"""OVO-Bench (arXiv 2501.05510): backward tracing, real-time perception, forward responding.

Annotations as in https://github.com/JoeLeelyf/OVO-Bench, videos as in
https://huggingface.co/datasets/JoeLeelyf/OVO-Bench.
Its own code cuts a clip for every question (`chunked_videos/`); here the source video is watched once, and each
question asked at its `realtime`. A forward annotation is one question for each of its moments in `test_info`: how
often an action was done by then (REC), whether a step is going on (SSR), whether one can answer yet (CRR).
"""

from collections.abc import Iterator
from pathlib import Path

from infinipot.evaluate.benchmarks.annotations import Entry, UnusableError, shown
from infinipot.evaluate.benchmarks.base import Benchmark, Placed
from infinipot.evaluate.records import Problem, Question

MODES = {
    "backward": ("EPM", "ASI", "HLD"),
    "real-time": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "forward": ("REC", "SSR", "CRR"),
}


class OVOBench(Benchmark, name="ovo-bench"):
    def entries(self, data: Path, variant: str) -> Iterator[Entry | Problem]:
        for entry in super().entries(data, variant):
            try:
                if isinstance(entry, Problem):
                    yield entry
                elif variant in ("all", mode := _mode(entry)):
                    yield from entry.parts("test_info") if mode == "forward" else [entry]
            except UnusableError as error:
                yield Problem(entry.where, str(error))

    def place(self, entry: Entry, data: Path, variant: str) -> Placed:
        task, mode = entry.text("task"), _mode(entry)
        identity = entry.label("id")
        options: tuple[str, ...] = ()
        if mode == "forward":
            identity = f"{identity}_{entry.index}"
            text, answer = _forward(task, entry)
        else:
            text, options = entry.text("question"), entry.texts("options")
            answer = entry.choice("gt", options)
        question = Question(identity, text, options, answer, task, at=entry.seconds("realtime"), group=mode)
        return Placed(question, *self.find(data, entry.text("video"), "src_videos"))


def _mode(entry: Entry) -> str:
    task = entry.text("task")
    for mode, tasks in MODES.items():
        if task in tasks:
            return mode
    raise UnusableError(f'"task" is {shown(task)}, none of the twelve')


def _forward(task: str, entry: Entry) -> tuple[str, str]:
    """What is asked at one moment of a forward annotation, and what is right then."""
    if task == "REC":
        count = entry.whole("count")
        if not 0 <= count < 10**6:
            raise UnusableError('"count" is no number of times')
        return f"How many times did they {entry.text('activity')}?", str(count)
    right = entry.whole("type")
    if right not in (0, 1):
        raise UnusableError('"type" is neither 0 nor 1')
    return entry.text("step" if task == "SSR" else "question"), ("No", "Yes")[right]
