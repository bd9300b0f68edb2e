"""OVO-Bench (arXiv 2501.05510): backward tracing, real-time perception, forward responding.

Annotations as in https://github.com/JoeLeelyf/OVO-Bench, videos as in
https://huggingface.co/datasets/JoeLeelyf/OVO-Bench.
Its own code cuts a clip for every question (`chunked_videos/`); here the source video is watched once, and each
question asked at its `realtime`. A forward annotation is one question for each of its moments in `test_info`: how
often an action was done by then (REC), whether a step is going on (SSR), whether one can answer yet (CRR).
"""

from collections.abc import Iterable

from infinipot.evaluate.benchmarks.annotations import Entry, UnusableError, shown
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.records import Question

MODES = {
    **dict.fromkeys(("EPM", "ASI", "HLD"), "backward"),
    **dict.fromkeys(("OCR", "ACR", "ATR", "STU", "FPD", "OJR"), "real-time"),
    **dict.fromkeys(("REC", "SSR", "CRR"), "forward"),
}
"""The mode of each task."""


class OVOBench(Benchmark, name="ovo-bench"):
    def split(self, row: Entry, variant: str) -> Iterable[Entry]:
        mode = MODES[row.one_of("task", tuple(MODES))]
        if variant not in ("all", mode):
            return []
        return row.parts("test_info") if mode == "forward" else [row]

    def question(self, entry: Entry, variant: str) -> Question:
        task = entry.one_of("task", tuple(MODES))
        identity = entry.label("id")
        options: tuple[str, ...] = ()
        if MODES[task] == "forward":
            identity = f"{identity}_{entry.index}"
            text, answer = _forward(task, entry)
        else:
            text, options = entry.text("question"), entry.texts("options")
            answer = entry.choice("gt", options)
        return Question(identity, text, options, answer, task, at=entry.seconds("realtime"), group=MODES[task])


def _forward(task: str, entry: Entry) -> tuple[str, str]:
    """The question and the right answer at one moment of a forward annotation."""
    if task == "REC":
        count = entry.whole("count")
        if not 0 <= count < 10**6:
            raise UnusableError(f'"count" is {shown(count)}, not a number of times')
        return f"How many times did they {entry.text('activity')}?", str(count)
    right = entry.whole("type")
    if right not in (0, 1):
        raise UnusableError(f'"type" is {shown(right)}, neither 0 nor 1')
    return entry.text("step" if task == "SSR" else "question"), ("No", "Yes")[right]
