"""RVS-Ego and RVS-Movie: open questions asked while the video runs (VStream-QA, arXiv 2406.08085).

As ReKV (arXiv 2503.00540) arranges them, in https://huggingface.co/datasets/Becomebright/RVS: a video with its
conversations, each asked at its `end_time`. `video_path` names the file as it lay on the authors' disk; only its last
name counts. That is what the readers of this file in ReKV's code and its descendants show; the data set itself was not
at hand when this was written.
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from infinipot.evaluate.benchmarks.annotations import Entry
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.records import Question


class RVS(Benchmark, name="rvs"):
    def split(self, row: Entry, variant: str) -> Iterable[Entry]:
        return row.parts("conversations")

    def question(self, entry: Entry, variant: str) -> Question:
        return Question(
            id=f"{entry.label('video_id')}-{entry.source}-{entry.index}",
            text=entry.text("question"),
            options=(),
            answer=entry.text("answer"),
            task=f"RVS-{variant.capitalize()}",
            at=entry.seconds("end_time"),
            judged=True,
        )

    def video(self, entry: Entry, data: Path, variant: str) -> tuple[Path, str]:
        video_id = entry.label("video_id")
        path = PurePosixPath(entry.text("video_path", default=video_id))
        name = re.sub(r"\.(mp4|mkv|avi|webm|npy)$", "", path.name or video_id)
        return self.find(data, name, f"{variant}/videos")
