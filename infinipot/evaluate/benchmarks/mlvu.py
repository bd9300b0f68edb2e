"""MLVU, the multiple-choice tasks (arXiv 2406.04264).

Dev: nine annotation files, one a task type, in https://huggingface.co/datasets/MLVU/MVLU; the seven of multiple choice
are read (the sub-scene and summary tasks are free generation). Test: https://huggingface.co/datasets/MLVU/MLVU_Test,
six options; its answers were withheld at first and are in `test-ground-truth/` by now. Where only the questions are
there they are asked unlabelled. An answer is the text of the right candidate.
"""

from pathlib import Path

from infinipot.evaluate.benchmarks.annotations import Entry, UnusableError
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.records import LETTERS, Question


class MLVU(Benchmark, name="mlvu"):
    def question(self, entry: Entry, variant: str) -> Question:
        if variant == "dev":
            task = _task(entry)
            identity = f"{task}-{entry.index}"
        else:
            task = entry.text("question_type")
            identity = entry.label("question_id")
        options = entry.texts("candidates")
        return Question(identity, entry.text("question"), options, _letter(entry, options, variant), task)

    def video(self, entry: Entry, data: Path, variant: str) -> tuple[Path, str]:
        of_task = (f"video/{entry.source}", f"video/{_task(entry)}")
        return self.find(data, entry.text("video"), *(of_task if variant == "dev" else self.video_folders))


def _task(entry: Entry) -> str:
    """The task of a file of annotations: "plotQA" of "1_plotQA.json"."""
    return entry.source.partition("_")[2]


def _letter(entry: Entry, options: tuple[str, ...], variant: str) -> str | None:
    """The letter of the option that the answer repeats; with two alike the last, as the authors' code has it."""
    if variant == "test" and entry.get("answer") is None:
        return None
    answer = entry.option("answer").strip()
    matching = [index for index, option in enumerate(options) if option.strip() == answer]
    if not matching:
        raise UnusableError(f'"answer" is none of the {len(options)} candidates')
    return LETTERS[matching[-1]]
