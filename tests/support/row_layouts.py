"""Miniatures of the benchmarks that come as tables of rows: Video-MME-v2, VSI-SUPER and OVO-S-Bench; as JSON."""

import json
from pathlib import Path
from typing import Any

from support import benchmark_layouts
from support.benchmark_layouts import video, write_json

STRUCTURES = {"001": "[1, 2, 3, 4]", "002": "[1, [2, 3], 4]", "003": "[[1, 2], 3, 4]", "004": "4"}
EIGHT = "\n".join(f"{letter}. {number} lamps." for number, letter in enumerate("ABCDEFGH"))
LENGTHS = ("10mins", "30mins", "60mins", "120mins", "240mins")


def video_mme_v2(data: Path, variant: str = "no-subtitles") -> Path:
    """Video-MME-v2: a video with a group of each structure; headings stand in the last row alone. One has subtitles."""
    rows = []
    for shade, (video_id, structure) in enumerate(STRUCTURES.items()):
        video(data / "data" / f"{video_id}.mp4", seconds=2, shade=20 * shade)
        for number in range(1, 5):
            heads = {"level": 1 + shade % 3, "second_head": "Frames & Audio", "third_head": f"Counting {shade % 2}"}
            rows.append(
                {
                    "video_id": video_id,
                    "url": f"https://www.youtube.com/watch?v={video_id}",
                    "group_type": "relevance" if video_id == "004" else "logic",
                    "group_structure": structure,
                    "question_id": f"{video_id}-{number}",
                    "question": f"How many lamps are on, in part {number}?",
                    "options": EIGHT,
                    "answer": "ABGH"[number - 1],
                    **(heads if number == 4 else dict.fromkeys(heads)),
                }
            )
    write_json(data / "test.json", rows)
    if variant == "subtitles":
        words = [("Good", 0.5, 0.8), ("morning.", 0.8, 1.1)]
        lines = [json.dumps({"text": text, "start_time": start, "end_time": end}) for text, start, end in words]
        (data / "subtitle").mkdir(exist_ok=True)
        (data / "subtitle" / "001.jsonl").write_text("\n".join(lines) + "\n")
    return data


def vsi_super_recall(data: Path, variant: str = "all") -> Path:
    """VSI-SUPER Recall: a file a length, with two questions about one video in the first and one in each other."""
    for shade, length in enumerate(LENGTHS):
        video(data / length / "00000003.mp4", seconds=2, shade=10 * shade)
        row = {
            "type": length,
            "video_path": f"{length}/00000003.mp4",
            "question": "In which order did the red ball turn up?",
            "options": ["A. Table, bed", "B. Bed, table", "C. Sink, bed", "D. Bed, sink"],
            "answer": "B. Bed, table",
        }
        second = row | {"question": "And the blue ball?", "answer": "d"}
        write_json(data / f"test_{length}.json", [row, second] if shade == 0 else [row])
    return data


def vsi_super_count(data: Path, variant: str = "plain") -> Path:
    """VSI-SUPER Count: a file a length, with a plain row and a streaming one; the first is asked at its end too."""
    for shade, length in enumerate(LENGTHS[:4]):
        video(data / length / "00000001.mp4", seconds=4, shade=10 * shade)
        shared = {"video_path": f"{length}/00000001.mp4", "question": "How many chairs are there?"}
        plain = {"id": shade, "split": length, **shared, "answer": 12, "query_times": None, "answers": None}
        times, answers = ([1, 2, 3], [0, 2, 4, 5]) if shade == 0 else ([1, 4], [3, 6])
        streaming: dict[str, Any] = {"id": shade, "split": f"{length}_streaming", **shared, "answer": None}
        streaming |= {"query_times": times, "answers": answers}
        write_json(data / f"test_{length}.json", [plain, streaming])
    return data


def ovo_s_bench(data: Path, variant: str = "all") -> Path:
    """OVO-S-Bench: a row a level; two right answers, several query times, options in all three forms."""
    video(data / "videos" / "Ego4D" / "a.mp4", seconds=4)
    video(data / "videos" / "honda" / "b.mp4", seconds=4, shade=60)
    texts = {"A": "left", "B": "right", "C": "behind"}

    def row(level: int, path: str, options: object, times: list[float], evidence: object, answers: list[str]) -> Any:
        category = "4.1" if level == 4 else f"{level}.1.1"
        return {
            "id": f"{category}_0",
            "source_dataset": "Ego4D",
            "video_id": "a",
            "video_path": path,
            "level": level,
            "task_main_category": category[:3],
            "task_subcategory": category,
            "task_type_name": "Direction",
            "question": "Where is the cup?",
            "options": options,
            "query_times": times,
            "evidence_times": evidence,
            "answers": answers,
        }

    rows = [
        row(1, "Ego4D/a.mp4", texts, [2.0], [[0.0, 1.5], [3.0, 4.0]], ["B", "C"]),
        row(2, "Ego4D/a.mp4", [[label, text] for label, text in reversed(texts.items())], [1, 3], [[0, 2]], ["A", "C"]),
        row(3, "honda/b.mp4", [{"key": label, "value": text} for label, text in texts.items()], [1, 2, 3], [], ["A"]),
        row(4, "honda/b.mp4", texts, [3.5], None, ["C"]),
    ]
    write_json(data / "ovo_s_bench.json", rows)
    return data


LAYOUTS = {
    **benchmark_layouts.LAYOUTS,
    "video-mme-v2": video_mme_v2,
    "vsi-super-recall": vsi_super_recall,
    "vsi-super-count": vsi_super_count,
    "ovo-s-bench": ovo_s_bench,
}
