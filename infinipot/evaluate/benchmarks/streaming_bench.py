"""StreamingBench (arXiv 2411.03628), its real-time visual understanding.

Questions as https://huggingface.co/datasets/mjuicem/StreamingBench has them (CSV, options as a Python list), or as
`src/data/questions_real.json` of https://github.com/THUNLP-MT/StreamingBench; each is asked at its `time_stamp`. Videos
lie as the zip files unpack, a folder a sample, or renamed by the authors' `scripts/preprocess.sh`.
"""

import ast
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from infinipot.evaluate.benchmarks.annotations import Entry, UnusableError, without_letters
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.benchmarks.layout import find_file, require
from infinipot.evaluate.records import LETTERS, Question

_LONGEST_LIST = 20_000


class StreamingBench(Benchmark, name="streaming-bench"):
    def split(self, row: Entry, variant: str) -> Iterable[Entry]:
        return row.parts("questions") if row.source == "questions_real" else [row]

    def question(self, entry: Entry, variant: str) -> Question:
        given = _options(entry)
        return Question(
            id=_sample(entry)[1],
            text=entry.text("question"),
            options=without_letters(given),
            answer=entry.letter("answer", given),
            task=entry.text("task_type"),
            at=entry.seconds("time_stamp"),
            given=_with_letters(given),
        )

    def video(self, entry: Entry, data: Path, variant: str) -> tuple[Path, str]:
        sample, _ = _sample(entry)
        (folder,) = require(data, self.title, self.video_folders)
        name = f"{sample}_real" if folder.name == "videos" else f"{sample}/video"
        return find_file(folder, name, data, endings=self.video_endings)


def _sample(entry: Entry) -> tuple[str, str]:
    """The name of the video's folder, and the question's id."""
    if entry.get("question_id") is not None:
        identity = entry.label("question_id")
        found = re.search(r"(sample_\d+)_\d+$", identity)
        if not found:
            raise UnusableError('"question_id" names no sample, as in "…_sample_12_3"')
        return found[1], identity
    found = re.fullmatch(r"(sample_\d+)_real", PurePosixPath(entry.text("video_path")).stem)
    if not found:
        raise UnusableError('"video_path" names no sample, as in "./videos/sample_12_real.mp4"')
    return found[1], f"{found[1]}-{entry.source}-{entry.index}"


def _options(entry: Entry) -> tuple[str, ...]:
    """Four options: a list, or the text of one."""
    value = entry.get("options")
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip()) if len(value) <= _LONGEST_LIST else None
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            value = None
        if value is None:
            raise UnusableError('"options" is not a list of texts')
    options = Entry({"options": value}).texts("options")
    if len(options) != 4:
        raise UnusableError(f'"options" holds {len(options)} options, not four')
    return options


def _with_letters(options: Sequence[str]) -> str:
    """Options with "A. ", "B. ", … before them, each on a line; as they are, if the first brings its own."""
    if options[0].startswith("A."):
        return "\n".join(options)
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
