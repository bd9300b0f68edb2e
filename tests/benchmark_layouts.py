"""Miniatures of the benchmarks' real layouts, with real encoded videos of a second or two."""

import json
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from video_files import encode


@cache
def _video(seconds: int, shade: int) -> bytes:
    """An mp4 of 4 pictures a second, 64 x 48, that grow brighter from `shade` on."""
    pictures = [np.full((48, 64, 3), (shade + 6 * index) % 256, np.uint8) for index in range(4 * seconds)]
    with NamedTemporaryFile(suffix=".mp4") as file:
        encode(file.name, pictures, rate=4)
        return Path(file.name).read_bytes()


def video(path: Path, seconds: int = 2, shade: int = 0) -> Path:
    """Writes a small video; its folders too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_video(seconds, shade))
    return path


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


MLVU_TASKS = {
    "1_plotQA": "What does the man in red open?",
    "2_needle": "What is written on the card?",
    "3_ego": "Where did I put the cup?",
    "4_count": "How often does the light go on?",
    "5_order": "In which order do the shapes come?",
    "6_anomaly_reco": "Does this surveillance footage contain any anomalies?",
    "7_topic_reasoning": "What is the genre of this video?",
}


def mlvu(data: Path, variant: str = "dev") -> Path:
    """MLVU: two questions about one video in the first task, one in each of the others; three in the test set."""
    if variant == "test":
        questions = []
        for index, (task, answer) in enumerate((("needleQA", "two"), ("sportsQA", "six"), ("needleQA", "one"))):
            name = f"test_{task}_{index % 2}.mp4"
            video(data / "video" / name, shade=10 * index)
            questions.append(
                {
                    "video": name,
                    "duration": 2.0,
                    "question": f"How many, in {task}?",
                    "candidates": ["one", "two", "three", "four", "five", "six"],
                    "answer": answer,
                    "question_type": task,
                    "question_id": f"{task}_{index}",
                }
            )
        write_json(data / "test-ground-truth" / "test_mcq_gt.json", questions)
        return data
    for number, (task, text) in enumerate(MLVU_TASKS.items()):
        name = f"{task.partition('_')[2]}_1.mp4"
        video(data / "video" / task / name, shade=8 * number)
        entry = {
            "video": name,
            "duration": 2.0,
            "question": text,
            "candidates": ["A door.", "A window.", "A box.", "Nothing."],
            "answer": ("A door.", "A window.", "A box.", "Nothing.")[number % 4],
            "question_type": task.partition("_")[2],
        }
        second = entry | {"question": "And what does he close?", "answer": "Nothing."}
        write_json(data / "json" / f"{task}.json", [entry, second] if number == 0 else [entry])
    return data
