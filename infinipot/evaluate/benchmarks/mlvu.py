"""MLVU, the multiple-choice tasks (arXiv 2406.04264).

Dev: nine annotation files, one a task type, in https://huggingface.co/datasets/MLVU/MVLU; the seven of multiple choice
are read (the sub-scene and summary tasks are free generation). Test: https://huggingface.co/datasets/MLVU/MLVU_Test,
six options; its answers were withheld at first and are in `test-ground-truth/` by now. Where only the questions are
there they are asked unlabelled. An answer is the text of the right candidate.
"""

from collections.abc import Iterator
from pathlib import Path

from infinipot.evaluate.benchmarks.annotations import (
    Entry,
    UnusableError,
    entries_of,
    require_all,
)
from infinipot.evaluate.benchmarks.base import Benchmark, Placed
from infinipot.evaluate.records import LETTERS, Problem, Question

DEV = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")


class MLVU(Benchmark, name="mlvu"):
    def entries(self, data: Path, variant: str) -> Iterator[Entry | Problem]:
        if variant == "test":
            yield from super().entries(data, variant)
            return
        for path in require_all(data, self.title, *([f"json/{task}.json"] for task in DEV)):
            yield from entries_of(path, data, source=path.stem)

    def place(self, entry: Entry, data: Path, variant: str) -> Placed:
        if variant == "dev":
            task = entry.source.partition("_")[2]
            folders = (f"video/{entry.source}", f"video/{task}")
            identity = f"{task}-{entry.index}"
        else:
            task = entry.text("question_type")
            folders = ("video", "MLVU_Test/video")
            identity = entry.label("question_id")
        options = entry.texts("candidates")
        question = Question(identity, entry.text("question"), options, _letter(entry, options, variant), task)
        return Placed(question, *self.find(data, entry.text("video"), *folders))


def _letter(entry: Entry, options: tuple[str, ...], variant: str) -> str | None:
    """The letter of the option that the answer repeats; with two alike the last, as the authors' code has it."""
    if variant == "test" and entry.get("answer") is None:
        return None
    answer = entry.option("answer").strip()
    matching = [index for index, option in enumerate(options) if option.strip() == answer]
    if not matching:
        raise UnusableError(f'"answer" is none of the {len(options)} candidates')
    return LETTERS[matching[-1]]
