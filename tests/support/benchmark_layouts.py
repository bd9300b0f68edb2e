"""Miniatures of the benchmarks' real layouts, with real encoded videos of a second or two."""

import json
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from support.video_files import encode


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


def video_mme(data: Path, variant: str = "no-subtitles") -> Path:
    """Video-MME: two videos, a short one with three questions and a long one with two; as JSON. One has subtitles."""
    rows = []
    for video_id, youtube, duration, count in (("001", "fFjv93ACGo8", "short", 3), ("601", "-abcdefghij", "long", 2)):
        video(data / "data" / f"{youtube}.mp4", seconds=3, shade=20 * count)
        rows += [
            {
                "video_id": video_id,
                "duration": duration,
                "domain": "Knowledge",
                "sub_category": "Humanity & History",
                "url": f"https://www.youtube.com/watch?v={youtube}",
                "videoID": youtube,
                "question_id": f"{video_id}-{number + 1}",
                "task_type": ("Counting Problem", "OCR Problems", "Object Reasoning")[number],
                "question": f"Question {number + 1}: how many lamps are on?",
                "options": ["A. One.", "B. Two.", "C. Three.", "D. None."],
                "answer": "ABC"[number],
            }
            for number in range(count)
        ]
    write_json(data / "videomme.json", rows)
    if variant == "subtitles":
        (data / "subtitle").mkdir(exist_ok=True)
        (data / "subtitle" / "fFjv93ACGo8.srt").write_text(
            "1\n00:00:00,000 --> 00:00:01,200\n"
            '<font color="white" size=".72c">Good morning.</font>\n\n'
            "2\n00:00:01,200 --> 00:00:02,000\n"
            '<font color="white" size=".72c">The lamp goes on.</font>\n\n'
            "3\n00:00:02,900 --> 00:00:02,950\n"
            '<font color="white" size=".72c">Too short to be seen.</font>\n\n'
        )
    return data


def longvideobench(data: Path, variant: str = "val") -> Path:
    """LongVideoBench: a video with two questions of five options, one with a question of four; both subtitle forms."""
    questions: list[dict[str, Any]] = []
    for name, group, options, begin in (("aa1", 15, 5, 0), ("aa1", 15, 5, 0), ("bb2", 600, 4, 100)):
        video(data / "videos" / f"{name}.mp4", seconds=4, shade=begin)
        number = len(questions)
        questions.append(
            {
                "video_id": name,
                "question": f"When the text {number} is shown, what is on the table?",
                "question_wo_referring_query": "What is on the table?",
                "candidates": ["a cup", "a book", "a lamp", "a ball", "nothing"][:options],
                "correct_choice": number,
                "position": [3],
                "topic_category": "LS-Life-Vlogs",
                "question_category": ("T2O", "S2E", "T2O")[number],
                "level": "L1-Perception",
                "id": f"{name}_{number}",
                "video_path": f"{name}.mp4",
                "subtitle_path": f"{name}_en.json",
                "duration_group": group,
                "starting_timestamp_for_subtitles": begin,
                "duration": 4.0,
                "view_count": 7,
            }
        )
    write_json(data / "lvb_val.json", questions)
    withheld = [{name: value for name, value in one.items() if name != "correct_choice"} for one in questions]
    write_json(data / "lvb_test_wo_gt.json", withheld)
    write_json(
        data / "subtitles" / "aa1_en.json",
        [
            {"start": "00:00:00.000", "end": "00:00:01.500", "line": "the first line"},
            {"start": "00:00:01.500", "end": "00:00:03.500", "line": "the second line"},
        ],
    )
    write_json(
        data / "subtitles" / "bb2_en.json",
        [
            {"timestamp": [98.0, 99.0], "text": "before the clip"},
            {"timestamp": [100.5, 102.5], "text": "within it"},
            {"timestamp": [102.5, None], "text": "without an end"},
        ],
    )
    return data


def egoschema(data: Path, variant: str = "subset") -> Path:
    """EgoSchema: three questions, two of them labelled."""
    uids = ("0074f737-11cb-497d-8d07-77c3a8127391", "00b9a0de-c59e-49cb-a127-6081e2fb8c8e", "ffff0000-aaaa")
    questions = []
    for index, uid in enumerate(uids):
        video(data / "videos" / f"{uid}.mp4", shade=30 * index)
        actions = ("cooks", "reads", "cleans the table", "paints", "sleeps")
        questions.append(
            {
                "q_uid": uid,
                "google_drive_id": "1aB",
                "question": "Taking into account all the actions of c, what is c doing?",
                **{f"option {number}": f"C {action}." for number, action in enumerate(actions)},
            }
        )
    write_json(data / "questions.json", questions)
    write_json(data / "subset_answers.json", {uids[0]: 3, uids[1]: 0})
    return data


def rvs(data: Path, variant: str = "ego") -> Path:
    """RVS: one video with three questions at three moments, one with a single question."""
    file, source = {"ego": ("ego4d_oe.json", "ego"), "movie": ("movienet_oe.json", "movie")}[variant]
    videos = []
    for name, moments in (("0fa75cb3-c4a0", (1.0, 2.0, 3.5)), ("9198b9a4-0001", (4.0,))):
        video(data / source / "videos" / f"{name}.mp4", seconds=4, shade=len(name))
        conversations = [
            {"question": f"What happens at {moment}?", "answer": "A lamp goes on.", "start_time": 0, "end_time": moment}
            for moment in moments
        ]
        path = f"data/rvs/{source}/videos/{name}.mp4"
        videos.append({"video_id": name, "video_path": path, "duration": 4.0, "conversations": conversations})
    write_json(data / source / file, videos)
    return data


def ovo_bench(data: Path, variant: str = "all") -> Path:
    """OVO-Bench: a question of each mode about one video, REC with three moments, and SSR and CRR about another."""
    choices = {"question": "What is on the table?", "options": ["a cup", "a book", "a lamp"], "answer": "a book"}
    moments: dict[str, list[tuple[int, dict[str, Any]]]] = {
        "REC": [(1, {"count": 1}), (2, {"count": 1}), (4, {"count": 3})]
    }
    moments["SSR"] = [(1, {"step": "open the box", "type": 0}), (3, {"step": "open the box", "type": 1})]
    moments["CRR"] = [(2, {"type": 0}), (4, {"type": 1})]
    test_info = {task: [{"realtime": at, **more} for at, more in entries] for task, entries in moments.items()}
    ego, movie = "Ego4D/clips/ec4a3ba3.mp4", "MovieNet/tt0048028.mp4"
    video(data / "src_videos" / ego, seconds=4)
    video(data / "src_videos" / movie, seconds=4, shade=60)
    entries = [
        {"id": 0, "task": "EPM", "video": ego, "realtime": 3, **choices, "gt": 1},
        {"id": 1, "task": "OCR", "video": ego, "realtime": 2, **choices, "gt": 0},
        {"id": 2, "task": "ATR", "video": ego, "realtime": 2, **choices, "gt": 2},
        {"id": 3, "task": "REC", "video": ego, "activity": "clap their hands", "test_info": test_info["REC"]},
        {"id": 4, "task": "SSR", "video": movie, "tutorial": "boxes", "test_info": test_info["SSR"]},
        {
            "id": 5,
            "task": "CRR",
            "video": movie,
            "question": "Where does she go?",
            "answer": "Home.",
            "ask_time": 2,
            "clue_time": 3,
            "test_info": test_info["CRR"],
        },
    ]
    write_json(data / "ovo_bench_new.json", entries)
    return data


def streaming_bench(data: Path, variant: str = "real-time") -> Path:
    """StreamingBench: two videos with two questions each, as CSV."""
    rows = ["question_id,task_type,question,time_stamp,answer,options,frames_required,temporal_clue_type"]
    for sample in (1, 12):
        video(data / "real" / f"sample_{sample}" / "video.mp4", seconds=4, shade=sample)
        for number, (moment, task) in enumerate((("00:00:01", "Object Perception"), ("00:00:03", "Counting"))):
            name = f"Real-Time Visual Understanding_sample_{sample}_{number + 1}"
            options = "['A. A cup.', \"B. A dog's bowl.\", 'C. Three.', 'D. None.']"
            quoted = options.replace('"', '""')
            rows.append(f'{name},{task},"What is it, right now?",{moment},{"BC"[number]},"{quoted}",single,Concurrent')
    (data / "StreamingBench").mkdir(parents=True)
    (data / "StreamingBench" / "Real_Time_Visual_Understanding.csv").write_text("\n".join(rows) + "\n")
    return data


# What writes each benchmark's miniature: (data folder, variant) -> data folder.
LAYOUTS = {
    "mlvu": mlvu,
    "video-mme": video_mme,
    "longvideobench": longvideobench,
    "egoschema": egoschema,
    "rvs": rvs,
    "ovo-bench": ovo_bench,
    "streaming-bench": streaming_bench,
}
