"""LongVideoBench (arXiv 2407.15754).

As https://huggingface.co/datasets/longvideobench/LongVideoBench unpacks, and as the authors' loader
(github.com/longvideobench/LongVideoBench, commit 2aa4f91) reads it. The test set's labels are withheld. Task types are
the question categories, groups the four duration groups, named by their longest videos' seconds.
"""

from pathlib import Path

from infinipot.evaluate.benchmarks.annotations import Entry, UnusableError
from infinipot.evaluate.benchmarks.base import Benchmark, Placed
from infinipot.evaluate.benchmarks.subtitles import read_timed_lines
from infinipot.evaluate.records import Question, Subtitle


class LongVideoBench(Benchmark, name="longvideobench"):
    def place(self, entry: Entry, data: Path, variant: str) -> Placed:
        options = entry.texts("candidates")
        interleaved = variant.endswith("subtitles")
        question = Question(
            id=entry.label("id"),
            text=entry.text("question"),
            options=options,
            answer=entry.choice("correct_choice", options) if variant.startswith("val") else None,
            task=entry.text("question_category"),
            group=entry.label("duration_group"),
            details={"subtitles": "yes" if interleaved else ""},
        )
        video, label = self.find(data, entry.text("video_path"), "videos")
        extra = {}
        if interleaved:
            extra = {
                "subtitles": entry.text("subtitle_path"),
                "offset": repr(entry.seconds("starting_timestamp_for_subtitles")),
                "duration": repr(entry.seconds("duration")),
            }
        return Placed(question, video, label, extra=extra)

    def subtitles(self, data: Path, variant: str, placed: Placed) -> tuple[Subtitle, ...]:
        if not placed.extra:
            return ()
        try:
            path, _ = self.find(data, placed.extra["subtitles"], "subtitles")
        except UnusableError as error:
            raise UnusableError(str(error).replace("the video", "the file of subtitles", 1)) from None
        return read_timed_lines(path, float(placed.extra["offset"]), float(placed.extra["duration"]))
