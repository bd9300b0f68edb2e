"""LongVideoBench (arXiv 2407.15754).

As https://huggingface.co/datasets/longvideobench/LongVideoBench unpacks, and as the authors' loader
(github.com/longvideobench/LongVideoBench, commit 2aa4f91) reads it. The test set's labels are withheld. Task types are
the question categories, groups the four duration groups, named by their longest videos' seconds.
"""

from pathlib import Path

from infinipot.evaluate.benchmarks.annotations import Entry
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.benchmarks.layout import find_file, require
from infinipot.evaluate.benchmarks.subtitles import read_timed_lines
from infinipot.evaluate.records import Question, Subtitle


class LongVideoBench(Benchmark, name="longvideobench"):
    def question(self, entry: Entry, variant: str) -> Question:
        options = entry.texts("candidates")
        return Question(
            id=entry.label("id"),
            text=entry.text("question"),
            options=options,
            answer=entry.choice("correct_choice", options) if variant.startswith("val") else None,
            task=entry.text("question_category"),
            group=entry.label("duration_group"),
            subtitled=variant.endswith("subtitles"),
        )

    def subtitles(self, data: Path, variant: str, video: Path, entry: Entry) -> tuple[Subtitle, ...]:
        if not variant.endswith("subtitles"):
            return ()
        (folder,) = require(data, self.title, ["subtitles"])
        path, _ = find_file(folder, entry.text("subtitle_path"), data, what="the file of subtitles")
        return read_timed_lines(path, entry.seconds("starting_timestamp_for_subtitles"), entry.seconds("duration"))
