"""Video-MME (arXiv 2405.21075).

As https://huggingface.co/datasets/lmms-lab/Video-MME has it: the questions as Parquet, of which `pyarrow` is needed
to read (`pip install infinipot[eval]`); the same rows as JSON are taken as well. Videos and subtitles come as zip
files that unpack to `data/` and `subtitle/`; a video without a file in `subtitle/` has none.
"""

from collections.abc import Iterator
from pathlib import Path

from infinipot.errors import BenchmarkError
from infinipot.evaluate.benchmarks.annotations import (
    Entry,
    find_video,
    require,
    without_letters,
)
from infinipot.evaluate.benchmarks.base import Benchmark, Placed
from infinipot.evaluate.benchmarks.rows import row_entries
from infinipot.evaluate.benchmarks.subtitles import read_srt
from infinipot.evaluate.records import Problem, Question, Subtitle

PARQUET = "videomme/test-00000-of-00001.parquet"
COLUMNS = ("videoID", "duration", "task_type", "question_id", "question", "options", "answer")


class VideoMME(Benchmark, name="video-mme"):
    def entries(self, data: Path, variant: str) -> Iterator[Entry | Problem]:
        path = require(data, self.title, "videomme.json", PARQUET)
        yield from row_entries(path, data, COLUMNS, instead=data / "videomme.json")

    def place(self, entry: Entry, data: Path, variant: str) -> Placed:
        video_id = entry.text("videoID")
        folder = require(data, self.title, "data", "video")
        given = entry.texts("options")
        question = Question(
            id=entry.label("question_id"),
            text=entry.text("question"),
            options=without_letters(given),
            answer=entry.letter("answer", given),
            task=entry.text("task_type"),
            group=entry.text("duration"),
            details={"options": "\n".join(given), "subtitles": "yes" if variant == "subtitles" else ""},
        )
        video, label = find_video(folder, video_id, data, endings=(".mp4", ".MP4", ".mkv", ".webm"))
        return Placed(question, video, label, extra={"subtitles": video_id})

    def subtitles(self, data: Path, variant: str, placed: Placed) -> tuple[Subtitle, ...]:
        if variant == "no-subtitles":
            return ()
        folder = require(data, self.title, "subtitle")
        if next(folder.glob("*.srt"), None) is None:
            raise BenchmarkError(f"{self.title}: {folder} holds no .srt file; without, no video would have subtitles")
        path = folder / f"{placed.extra['subtitles']}.srt"
        return read_srt(path) if path.exists() else ()
