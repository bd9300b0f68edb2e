"""Videos of the embedded model's world as encoded files, and the questions about them, as a data set on disk."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from infinipot.embedded.world import Clip

SECONDS, FPS = 30, 2
SEEDS = (10_001, 10_002)


def write(folder: Path) -> list[dict[str, str]]:
    """Writes a video for each seed and `questions.jsonl`; the questions about a video do not stand together.

    Returns:
        The rows of the file: video, question, answer.
    """
    about = [_asked(folder / f"{seed}.mp4", Clip(seed, SECONDS, FPS, events=4)) for seed in SEEDS]
    rows = [row for together in zip(*about, strict=False) for row in together]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _asked(path: Path, clip: Clip) -> list[dict[str, str]]:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width = stream.height = 64
        stream.bit_rate, stream.pix_fmt = 4_000_000, "yuv420p"
        for index, frame in enumerate(clip):
            picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    questions = clip.questions(SECONDS - 1 / FPS, np.random.default_rng(0), plain=True)
    return [{"video": str(path), "question": question.text, "answer": question.answer} for question in questions]
