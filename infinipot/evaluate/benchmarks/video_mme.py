"""Video-MME (arXiv 2405.21075).

As https://huggingface.co/datasets/lmms-lab/Video-MME has it: the questions as Parquet, which `pyarrow` reads (`pip
install pyarrow`, the extra `eval`); the same rows as JSON are taken as well. Videos and subtitles come as zip
files that unpack to `data/` and `subtitle/`; a video without a file in `subtitle/` has none.
"""

from pathlib import Path

from infinipot.evaluate.benchmarks.annotations import Entry, with_letters, without_letters
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.benchmarks.layout import require
from infinipot.evaluate.benchmarks.subtitles import read_of, read_srt
from infinipot.evaluate.records import Question, Subtitle


class VideoMME(Benchmark, name="video-mme"):
    def question(self, entry: Entry, variant: str) -> Question:
        given = entry.texts("options")
        return Question(
            id=entry.label("question_id"),
            text=entry.text("question"),
            options=without_letters(given),
            answer=entry.letter("answer", given),
            task=entry.text("task_type"),
            group=entry.text("duration"),
            given=with_letters(given),
            subtitled=variant == "subtitles",
        )

    def subtitles(self, data: Path, variant: str, video: Path, entry: Entry) -> tuple[Subtitle, ...]:
        if variant == "no-subtitles":
            return ()
        (folder,) = require(data, self.title, ["subtitle"])
        return read_of(video, folder, ".srt", read_srt, self.title)
