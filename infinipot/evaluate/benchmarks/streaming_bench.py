"""StreamingBench (arXiv 2411.03628), its real-time visual understanding.

Questions as https://huggingface.co/datasets/mjuicem/StreamingBench has them (CSV, options as a Python list), or as
`src/data/questions_real.json` of https://github.com/THUNLP-MT/StreamingBench; each is asked at its `time_stamp`. Videos
lie as the zip files unpack, a folder a sample, or renamed by the authors' `scripts/preprocess.sh`.
"""

import ast
import re
from pathlib import Path, PurePosixPath

from infinipot.evaluate.benchmarks.annotations import (
    Entry,
    UnusableError,
    find_video,
    require,
    with_letters,
    without_letters,
)
from infinipot.evaluate.benchmarks.base import Benchmark, Placed
from infinipot.evaluate.records import Question

FOLDERS = ("videos", "real/Real-Time Visual Understanding", "real", "Real-Time Visual Understanding")
_LONGEST_LIST = 20_000


class StreamingBench(Benchmark, name="streaming-bench"):
    def place(self, entry: Entry, data: Path, variant: str) -> Placed:
        sample, identity = _sample(entry)
        given = _options(entry)
        question = Question(
            id=identity,
            text=entry.text("question"),
            options=without_letters(given),
            answer=entry.letter("answer", given),
            task=entry.text("task_type"),
            at=entry.seconds("time_stamp"),
            details={"options": with_letters(given)},
        )
        folder = require(data, self.title, *FOLDERS)
        name = f"{sample}_real" if folder.name == "videos" else f"{sample}/video"
        return Placed(question, *find_video(folder, name, data, endings=(".mp4",)))


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
            raise UnusableError('"options" is no list of texts')
    options = Entry({"options": value}, entry.where).texts("options")
    if len(options) != 4:
        raise UnusableError(f'"options" holds {len(options)} options, not four')
    return options
