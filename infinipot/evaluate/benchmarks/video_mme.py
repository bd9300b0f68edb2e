"""Video-MME (arXiv 2405.21075).

As https://huggingface.co/datasets/lmms-lab/Video-MME has it: the questions as Parquet, of which `pyarrow` is needed
to read (`pip install infinipot[eval]`); the same rows as JSON are taken as well. Videos and subtitles come as zip
files that unpack to `data/` and `subtitle/`; a video without a file in `subtitle/` has none.
"""

from pathlib import Path

from infinipot.evaluate.benchmarks.annotations import (
    Entry,
    require,
    without_letters,
)
from infinipot.evaluate.benchmarks.base import Benchmark, Placed
from infinipot.evaluate.benchmarks.subtitles import read_srt, subtitles_in
from infinipot.evaluate.records import Question, Subtitle


class VideoMME(Benchmark, name="video-mme"):
    def place(self, entry: Entry, data: Path, variant: str) -> Placed:
        video_id = entry.text("videoID")
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
        video, label = self.find(data, video_id, "data", "video", endings=(".mp4", ".MP4", ".mkv", ".webm"))
        return Placed(question, video, label, extra={"subtitles": video_id})

    def subtitles(self, data: Path, variant: str, placed: Placed) -> tuple[Subtitle, ...]:
        if variant == "no-subtitles":
            return ()
        folder = require(data, self.title, "subtitle")
        return subtitles_in(folder, placed.extra["subtitles"], ".srt", read_srt, self.title)
