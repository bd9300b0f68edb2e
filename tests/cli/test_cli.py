"""The command line: what goes to stdout and to stderr, exit codes, and one clear line for whatever goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import click
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from safetensors.torch import load_file, save_file

from infinipot import (
    FrameError,
    QuestionError,
    SettingError,
    Stream,
    embedded,
    load,
    open_video,
    policies,
)
from infinipot.cli import main, prompt
from infinipot.cli.options import options_of, together
from infinipot.cli.output import Asker, clock, print_table
from infinipot.config import StreamConfig
from infinipot.embedded.world import Clip
from infinipot.evaluate.core import tables
from infinipot.models import ADAPTERS
from infinipot.text import to_json
from infinipot.video import Video
from support.adapters import BUILDERS
from support.faults import hearing_ctrl_c
from support.web_camera import web_camera

SEEN = "Is there a shape now?"
EMBEDDED = ("--model", "embedded", "--memory", "512")


pytestmark = pytest.mark.usefixtures("libraries_as_before")


def encode(path: Path, seconds: float) -> Path:
    """Writes a clip of the embedded model's world, 2 pictures a second."""
    clip = Clip(10_001, seconds, fps=2.0, events=2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for index, frame in enumerate(clip):
            picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 2)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of every kind, good and bad."""
    folder = tmp_path_factory.mktemp("cli")
    encode(folder / "clip.mp4", 20)
    whole = encode(folder / "whole.mkv", 60).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").touch()
    (folder / "text.txt").write_text("no video at all\n" * 20)
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16_000))
    (folder / "bert").mkdir()
    (folder / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (folder / "bare").mkdir()
    (folder / "bare" / "config.json").write_bytes((embedded.path() / "config.json").read_bytes())
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def infinipot(*args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, args, input=stdin)


def watch(*args: str, video: str = "clip.mp4", stdin: str = "") -> Result:
    return infinipot("watch", video, *EMBEDDED, *args, stdin=stdin)


def records(result: Result) -> list[dict]:
    """The JSON objects of stdout, where nothing else may be."""
    return [json.loads(line) for line in result.stdout.splitlines()]


# Watching and asking


def test_answers_go_to_stdout_and_nothing_else_does() -> None:
    result = watch("--ask", SEEN, "--ask", "What colour was the cross?")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"[0:19.5] {SEEN}"
    assert lines[2] == "[0:19.5] What colour was the cross?"
    assert len(lines) == 4
    assert result.stderr == ""


def test_a_question_is_asked_once_all_frames_up_to_its_time_were_watched() -> None:
    result = watch("--at", "12.2", "later", "--at", "3", "sooner", "--ask", "last", "--json")
    assert result.exit_code == 0
    *answers, summary = records(result)
    assert [(answer["question"], answer["time"]) for answer in answers] == [
        ("sooner", 3.0),
        ("later", 12.0),
        ("last", 19.5),
    ]
    assert answers[0].keys() == {"type", "time", "question", "answer", "seconds", "tokens"}
    assert all(answer["tokens"] > 0 for answer in answers)  # frames that wait for their block are seen, too
    assert summary["type"] == "summary"
    assert (summary["model"], summary["policy"], summary["frames"], summary["cap"]) == (
        "embedded",
        "infinipot-v",
        40,
        512,
    )
    assert "transformers" in summary["versions"]


def test_a_question_beyond_the_end_is_asked_at_the_end_with_a_note() -> None:
    result = watch("--at", "99", SEEN, "--json")
    assert records(result)[0]["time"] == 19.5
    assert result.stderr == "note: the last frame is at 0:19.5; asked there, not at 1:39\n"


def test_settings_reach_the_stream() -> None:
    result = watch(
        *(
            "--ask",
            SEEN,
            "--json",
            "--policy",
            "infinipot-v:combine=two-stage",
            "--fps",
            "1",
            "--end",
            "10",
            "--block",
            "1",
        ),
        *(
            "--keep",
            "0.5",
            "--reserve",
            "100",
            "--positions",
            "native",
            "--min-pixels",
            "16384",
            "--max-pixels",
            "16384",
        ),
    )
    *_, summary = records(result)
    assert (summary["policy"], summary["frames"]) == ("infinipot-v:combine=two-stage", 10)
    assert summary["full_tokens"] > 5 * 32


def test_remembered_turns_are_kept() -> None:
    assert records(watch("--at", "3", SEEN, "--ask", SEEN, "--remember", "--json"))[-1]["turns"] == 2
    assert records(watch("--at", "3", SEEN, "--ask", SEEN, "--json"))[-1]["turns"] == 0


def test_progress_goes_to_stderr_where_it_is_asked_for() -> None:
    result = watch("--ask", SEEN, "--progress")
    assert "0:19.5 of 0:20 watched in 40 frames" in result.stderr
    assert "tokens held of 512" in result.stderr
    assert "watched" not in result.stdout


def test_a_video_that_is_cut_short_is_answered_from_with_a_warning() -> None:
    result = watch("--ask", SEEN, "--json", video="cut.mkv")
    assert result.exit_code == 0
    answer, summary = records(result)
    assert 0 < answer["time"] < 55
    assert summary["incomplete"]
    assert result.stderr.startswith("warning: cut.mkv")


# What goes wrong


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("missing.mp4", *EMBEDDED), "missing.mp4: no such file"),
        (("empty.mp4", *EMBEDDED), "empty.mp4 is empty"),
        (("text.txt", *EMBEDDED), "text.txt"),
        (("sound.wav", *EMBEDDED), "only audio"),
        ((".", *EMBEDDED), "directory"),
        (("clip.mp4", "--model", "./nowhere"), "no such folder"),
        (("clip.mp4", "--model", "bare"), "bare: the weights cannot be loaded"),
        (("clip.mp4", "--model", "bert"), "is not supported; supported are "),
        (("clip.mp4", "--model", "embedded", "--memory", "120"), "the smallest that works is"),
        (("clip.mp4", "--model", "embedded", "--memory", "lots"), "give tokens"),
        (("clip.mp4", *EMBEDDED, "--device", "abacus"), "device='abacus': give 'cpu', 'cuda'"),
        (
            ("clip.mp4", *EMBEDDED, "--device", "cuda:99"),
            "device='cuda:99': PyTorch finds no such GPU here; possible: ",
        ),
        (("clip.mp4", *EMBEDDED, "--start", "99"), "holds no pictures from 99 s on; it lasts "),
        (("http://nowhere.invalid/a.mp4", *EMBEDDED), "is the host's name right, and is there a network?"),
        (("clip.mp4", *EMBEDDED, "--fps", "0"), "above 0"),
        (("clip.mp4", *EMBEDDED, "--keep", "1.5"), "keep=1.5"),
        (("clip.mp4", *EMBEDDED, "--max-new-tokens", "500"), "set aside"),
        (
            ("clip.mp4", "--model", "embedded", "--memory", "5000"),
            "error: memory=5000 tokens may need more than the 1024",
        ),
        (("clip.mp4", "--model", "embedded", "--memory", "64MiB"), "error: memory=64MiB is 21"),
        (("clip.mp4", "--model", "embedded", "--memory", "200", "--policy", "full"), "never evicts"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_1(args: tuple[str, ...], said: str) -> None:
    result = infinipot("watch", *args, "--ask", SEEN)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("clip.mp4",), "Missing option '--model'. Give a hub id, a folder, or \"embedded\"."),
        (("clip.mp4", *EMBEDDED, "--at", "-1", SEEN), "--at"),
        (("clip.mp4", *EMBEDDED, "--at", "nan", SEEN), "'nan' is not a time: give seconds, such as 90"),
        (("clip.mp4", *EMBEDDED, "--at", "1:75", SEEN), "'1:75' is not a time"),
        (("clip.mp4", *EMBEDDED, "--start", "inf"), "'inf' is not a time"),
        (("demo://still", *EMBEDDED, "--end", "inf", "--ask", SEEN), "a camera does not end"),
        (("demo://still", *EMBEDDED, "--modality", "audio", "--end", "inf", "--ask", SEEN), "a camera does not end"),
        (("rtsp://nowhere.invalid/a", *EMBEDDED, "--modality", "audio", "--start", "5"), "--start cannot be given"),
        (("sound.wav", *EMBEDDED, "--modality", "audio", "--fps", "2"), "--fps is of pictures"),
        (("0", *EMBEDDED), "a camera of this machine is webcam://0"),
        (("sound.wav", *EMBEDDED, "--modality", "audio", "--no-frame-timeout", "2"), "--no-frame-timeout is of"),
        (("clip.mp4", *EMBEDDED, "--at", "3", SEEN, "--start", "5"), "--start"),
        (("clip.mp4", *EMBEDDED, "--max-pixels", "4096"), "--min-pixels"),
        (("clip.mp4", *EMBEDDED, "--colour"), "--colour"),
        (("clip.mp4", *EMBEDDED, "--tp-plan", "auto"), "--ask"),
        (("clip.mp4", *EMBEDDED, "--policy", "infinipot"), 'did you mean "infinipot-v"?'),
        (("clip.mp4", *EMBEDDED, "--policy", "infinipot-v:alhpa=1"), 'did you mean "alpha"?'),
    ],
)
def test_wrong_usage_is_exit_code_2(args: tuple[str, ...], said: str) -> None:
    result = infinipot("watch", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_camera_that_its_address_does_not_tell_is_watched_as_one(tmp_path: Path) -> None:
    with web_camera(tmp_path) as address:
        at = f"{address}/video"
        seen = infinipot("watch", at, *EMBEDDED, "--end", "1", "--ask", SEEN, "--json")
        assert json.loads(seen.stdout.splitlines()[-1])["frames"] in (1, 2), seen.stderr
        refused = infinipot("watch", at, *EMBEDDED, "--start", "5", "--end", "9", "--ask", SEEN)
    assert "--start cannot be given for a camera" in refused.stderr


def test_a_camera_is_asked_at_a_time_that_it_reached_without_a_note() -> None:
    seen = infinipot("watch", "demo://still?speed=20&events=1", *EMBEDDED, "--at", "4.2", SEEN, "--json")
    assert records(seen)[0]["time"] >= 3.5
    assert seen.stderr == ""


def test_a_picture_that_cannot_be_drawn_costs_no_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SettingError("no space left")

    monkeypatch.setattr("infinipot.cli.sketch.Sketch.draw", full)
    seen = watch("--ask", SEEN, "--json", "--picture", "held.png")
    assert seen.exit_code == 1
    assert [record["type"] for record in records(seen)] == ["answer", "summary"]


@pytest.mark.parametrize("args", [("models", "--memory", "512"), ("bench", "needle", "--quick", "--out", "needle")])
def test_an_unknown_policy_is_wrong_usage_of_every_command(args: tuple[str, ...]) -> None:
    result = infinipot(*args, "--policies" if args[0] == "bench" else "--policy", "infinipot")
    assert result.exit_code == 2
    assert 'did you mean "infinipot-v"?' in result.stderr


def test_tables_of_a_folder_without_results_name_the_folder() -> None:
    result = infinipot("bench", "needle", "--tables", "--out", "nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: nowhere holds no results yet: run the benchmark first, or give the --out")


@pytest.mark.parametrize(("args", "gate"), [((), "None"), (("--gate", "off"), "None"), (("--gate", "otsu"), "'otsu'")])
def test_no_gate_is_written_off(args: tuple[str, ...], gate: str) -> None:
    @click.command()
    @together(*options_of(StreamConfig, "gate"))
    def show(gate: str | None) -> None:
        click.echo(repr(gate))

    assert CliRunner().invoke(show, args).stdout == f"{gate}\n"
    assert "[default: off]" in CliRunner().invoke(show, ["--help"]).stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("watch",), "[default: an eighth of the cap, 64 to 512]"),
        (("bench", "needle"), "embedded, witness, witness-hidden, or a folder"),
        (("bench", "needle"), "night, hard, told, ablations, turns, cost. [default: all]"),
        (("serve",), "tokens in one packed step. [default: 2048]"),
        (("policies",), "needs the whole video, in the published form"),
    ],
)
def test_what_is_listed_says_defaults_and_choices(args: tuple[str, ...], said: str) -> None:
    shown = infinipot(*args, *([] if args == ("policies",) else ["--help"])).stdout
    assert said in " ".join(shown.split())


def test_several_processes_do_not_read_a_live_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def live(*args: Any, **options: Any) -> Video:
        video = open_video(*args, **options)
        video.duration = None
        return video

    monkeypatch.setattr("infinipot.open_video", live)
    result = infinipot("watch", "clip.mp4", *EMBEDDED, "--tp-plan", "auto", "--ask", SEEN)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "live source" in result.stderr


@pytest.mark.parametrize("question", ["word " * 100, " "])
def test_a_question_that_cannot_be_asked_fails_before_any_frame(question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = []
    feed = Stream.feed
    monkeypatch.setattr(Stream, "feed", lambda self, frame: frames.append(frame) or feed(self, frame))
    result = watch("--ask", question)
    assert (result.exit_code, result.stdout, len(frames)) == (1, "", 0)
    assert "question" in result.stderr


def test_the_policy_and_the_video_are_checked_before_the_model_is_loaded() -> None:
    assert "no such file" in infinipot("watch", "missing.mp4", "--model", "./nowhere", "--ask", SEEN).stderr
    assert "policy" in infinipot("watch", "missing.mp4", "--model", "./nowhere", "--policy", "x").stderr


# A gate and second looks


def test_a_gate_and_second_looks_are_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, how, ask = ("--gate", "0.03"), ("--look-again", "2", "--look-pixels", "9216"), ("--ask", SEEN)
    drawn = ("--temperature", "8", "--seed", "16", "--json")  # so that any change of the logits shows
    now = ("--window", "1")
    (plain, _), (seen, summary), (late, _) = (records(watch(*gate, *drawn, *ask, *more)) for more in ((), how, now))
    with load("embedded", device="cpu").stream(512, gate=0.03, look_again=2) as stream:
        for frame in open_video("clip.mp4", fps=2):
            stream.watch(frame)
        said: dict[str, Any] = {"temperature": 8.0, "seed": 16}
        assert plain["answer"] == stream.ask(SEEN, **said)
        assert late["answer"] == stream.ask(SEEN, window=1.0, **said)
        assert seen["answer"] == stream.ask(SEEN, look_again=2, look_pixels=(9216, 9216), **said)
        assert summary["gated_tokens"] == stream.stats().gated_tokens > 0
    assert len({plain["answer"], seen["answer"], late["answer"]}) == 3
    assert (late["window"], "window" in plain) == (1.0, False)
    assert "look_again" not in plain
    assert seen["look_again"] == 2


def test_the_prompt_says_what_questions_look_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = f"{SEEN}\n/look 1\n{SEEN}\n/look 0\n{SEEN}\n/look 3\n/look x\n"
    result = watch("--look-again", "2", "--look-pixels", "9216", "--json", stdin=lines)
    assert [answer.get("look_again") for answer in records(result)[:-1]] == [2, 1, None]
    assert result.stderr.count("give /look 0 to 2: the stream keeps 2 frames") == 2
    assert "/look N" in watch(stdin="/nothing\n").stderr


def test_a_second_look_without_room_is_told_with_the_first_frames_and_not_at_the_end() -> None:
    result = watch("--look-again", "2", "--look-pixels", "25600", "--at", "3", "sooner", "--ask", SEEN)
    assert result.exit_code == 1
    assert (result.stdout, result.stderr.startswith("error: the second look takes 100 tokens")) == ("", True)
    assert "reserve=" in result.stderr
    assert "--look-again" in watch("--look-pixels", "100", "--ask", SEEN).stderr


# The prompt


def test_lines_that_are_piped_in_are_questions() -> None:
    result = watch("--json", stdin=f"{SEEN}\n\nHow many?\n/stats\n/quit\nnever asked\n")
    assert result.exit_code == 0
    *answers, summary = records(result)
    assert [answer["question"] for answer in answers] == [SEEN, "How many?"]
    assert summary["type"] == "summary"
    assert "tokens held of 512" in result.stderr


class Typist:
    """A terminal's stdin at which lines are typed."""

    def __init__(self, *lines: str) -> None:
        self.lines = iter(lines)

    def read(self, interactive: bool) -> str | None:
        return next(self.lines, None)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typist:
    typist = Typist(SEEN, SEEN)
    monkeypatch.setattr(prompt, "_read", typist.read)
    monkeypatch.setattr(prompt, "_interactive", lambda: True)
    return typist


def test_leaving_a_camera_does_not_tell_that_it_is_over(typed: Typist) -> None:
    typed.lines = iter(["/help"])
    result = infinipot("watch", "demo://still", *EMBEDDED)
    assert result.exit_code == 0
    assert "a question, or /stats" in result.stderr
    assert "is over" not in result.stderr


def test_ctrl_c_in_mid_answer_cancels_only_that_answer(typed: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(self: Asker, question: str) -> None:
        asked.append(question)
        if len(asked) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Asker, "ask", ask)
    result = watch()
    assert (result.exit_code, asked) == (0, [SEEN, SEEN])
    assert "cancelled" in result.stderr


def test_a_question_that_is_too_long_does_not_end_the_conversation(typed: Typist) -> None:
    typed.lines = iter(["word " * 100, "/typo", SEEN])
    result = watch()
    assert result.exit_code == 0
    assert "error: the question takes" in result.stderr
    assert "no such command: /typo" in result.stderr
    assert result.stdout.startswith("[0:0")
    assert result.stdout.count("\n") == 1


def test_a_failure_while_watching_ends_the_conversation_with_exit_code_1(
    typed: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Stream.feed

    def fail_at_three(self: Stream, frame: Any) -> None:
        if self.stats().frames == 3:
            raise FrameError("the camera fell over")
        feed(self, frame)

    monkeypatch.setattr(Stream, "feed", fail_at_three)
    typed.lines = iter(lambda: time.sleep(1), None)
    result = watch("--no-realtime")
    assert result.exit_code == 1
    assert "watching ended: the camera fell over" in result.stderr
    assert result.stderr.endswith("error: the camera fell over\n")
    assert "Traceback" not in result.stderr


def test_ctrl_c_before_the_first_frame_leaves_nobody_at_work(typed: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, left, begin = threading.Event(), threading.Event(), prompt.Watcher.__init__

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            reached.wait()
            raise KeyboardInterrupt

    def init(self: prompt.Watcher, *args: Any) -> None:
        begin(self, *args)
        self._begun = Interrupted()

    def slow(self: Stream, frame: Any) -> None:
        reached.set()
        time.sleep(0.3)
        left.set()

    monkeypatch.setattr(prompt.Watcher, "__init__", init)
    monkeypatch.setattr(Stream, "feed", slow)
    result = watch()
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert left.is_set(), "the stream is closed once nobody watches any more"


# As a process


def start(*args: str | bytes, stdin: int | None = None, **variables: str) -> subprocess.Popen[bytes]:
    root = str(Path(embedded.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "infinipot", *args]
    with hearing_ctrl_c():
        return subprocess.Popen(command, env=environment, stdin=stdin, stdout=-1, stderr=-1)


@pytest.mark.slow
def test_ctrl_c_while_watching_is_exit_code_130_and_one_line() -> None:
    process = start("watch", "clip.mp4", *EMBEDDED, "--realtime", "--at", "1", SEEN, "--ask", SEEN)
    assert process.stdout
    assert process.stdout.readline() == f"[0:01] {SEEN}\n".encode()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (130, b"interrupted\n")


@pytest.mark.slow
def test_questions_are_answered_while_the_video_runs_on(folder: Path) -> None:
    """Through pipes of another encoding than UTF-8, and of a video whose name is of none."""
    name = b"lat\xe9 \xf0\x9f\x8e\xac.mp4"
    shutil.copy(folder / "clip.mp4", folder / os.fsdecode(name))
    process = start("watch", name, *EMBEDDED, "--json", stdin=-1, PYTHONIOENCODING="latin-1")
    assert process.stdin
    assert process.stdout
    answers: list[dict] = []
    while len(answers) < 2 or answers[-1]["time"] == answers[0]["time"]:
        process.stdin.write("caf\xe9?\n".encode("latin-1"))
        process.stdin.flush()
        answers.append(json.loads(process.stdout.readline().decode("latin-1")))
        assert answers[-1]["time"] < 19, "the video stood still until it was over"
    stdout, stderr = process.communicate(timeout=120)
    assert {answer["question"] for answer in answers} == {"caf\xe9?"}
    summary = json.loads(stdout.decode("latin-1"))
    assert summary["type"] == "summary"
    assert os.fsencode(summary["video"]) == name
    assert (process.returncode, stderr) == (0, b"")


def test_a_video_on_standard_input_leaves_no_place_for_questions() -> None:
    if not Path("/dev/stdin").exists():
        pytest.skip("a system that has no name for it")
    result = infinipot("watch", "/dev/stdin", *EMBEDDED)
    assert result.exit_code == 2
    assert "the video is read from /dev/stdin" in result.stderr
    assert "--ask" in result.stderr


@pytest.mark.parametrize("args", [("policies",), ("watch", "clip.mp4", *EMBEDDED)], ids=" ".join)
def test_streams_that_are_closed_hold_nothing(monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]) -> None:
    """As of `infinipot watch <&- >&-`: no questions, and nobody who reads."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    main.main(args, standalone_mode=False)


# What there is to choose from


def test_a_table_keeps_its_numbers_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "36")
    table = Table(box=None)
    for column in ("checkpoint", "GB"):
        table.add_column(column, no_wrap=True)
    table.add_column("what it brings")
    table.add_row("x" * 20 + " " + "x" * 24, "0.264", "some words that may be broken")
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert any("broken" in line for line in lines)
    assert any("x" * 24 in line and "0.264" in line for line in lines)
    assert len(lines) > 2  # what may be broken is
    tables.print_tables(
        [tables.Table("", ("run", "overall", "p"), (("infinipot-v, an eighth of it", "62.1", "0.012"),))]
    )
    assert any("62.1" in line and "0.012" in line for line in capsys.readouterr().out.splitlines())


def test_no_line_of_a_table_is_broken_outside_a_terminal(capsys: Any) -> None:
    cells = tuple(f"{number} (all alike)" for number in range(30))
    tables.print_tables([tables.Table("Right. " * 60, ("policy", *cells), (("tar", *cells),), ("A note. " * 60,))])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip(" ─")]
    assert len(lines) == 4
    assert lines[2].split() == ["tar", *" ".join(cells).split()]


def test_a_disk_that_is_full_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("a system without a disk that is always full")
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "infinipot", "eval", "--list"], stdout=full, stderr=-1, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "error: the output could not be written: No space left on device\n",
    )


def test_policies_lists_the_whole_registry() -> None:
    table = infinipot("policies").stdout
    listed = {policy["name"]: policy for policy in json.loads(infinipot("policies", "--json").stdout)}
    assert set(listed) == {policy.name for policy in policies.available()}
    for policy in policies.available():
        assert policy.name in table
        assert policy.summary() in table
        assert all(f"{option}={value}" in table for option, value in policy.defaults().items())
        assert listed[policy.name]["options"] == policy.defaults()
        assert listed[policy.name]["paper"] == policy.paper


def test_models_lists_every_family_and_the_embedded_model() -> None:
    table = infinipot("models").stdout
    listed = {model["title"]: model for model in json.loads(infinipot("models", "--json").stdout)}
    titles = set(listed)
    assert all(listed[adapter.title]["checked"] == adapter.checked for adapter in ADAPTERS)
    assert titles == {adapter.title for adapter in ADAPTERS} | {"embedded"}
    assert all(title in table for title in titles)
    assert all(model_type in table for adapter in ADAPTERS for model_type in adapter.model_types)


@pytest.fixture(scope="module")
def omni(folder: Path) -> tuple[str, ...]:
    """A checkpoint that hears, and what it is asked with."""
    network, processor = BUILDERS["qwen2_5_omni_thinker"]()
    network.save_pretrained(folder / "omni")
    processor.save_pretrained(folder / "omni")
    return "--model", "omni", "--modality", "audio", "--memory", "512"


def test_the_sound_of_a_file_is_listened_to(omni: tuple[str, ...]) -> None:
    result = infinipot("watch", "sound.wav", *omni, "--at", "0.5", SEEN, "--ask", SEEN, "--json", "--progress")
    assert result.exit_code == 0, result.stderr
    early, late, summary = map(json.loads, result.stdout.splitlines())
    assert (early["time"], late["time"], summary["time"]) == (0.5, 1.0, 1.0)
    assert summary["modality"] == "audio"
    assert "0:01 of 0:01 heard in 2 pieces" in result.stderr


def test_a_question_hears_sound_up_to_its_moment(omni: tuple[str, ...]) -> None:
    result = infinipot("watch", "sound.wav", *omni, "--at", "0.2", SEEN, "--at", "0.7", SEEN, "--json")
    assert result.exit_code == 0, result.stderr
    times = [json.loads(line)["time"] for line in result.stdout.splitlines()]
    assert times == [pytest.approx(time) for time in (0.2, 0.7, 1.0)]


def test_one_can_ask_while_it_listens(omni: tuple[str, ...]) -> None:
    result = infinipot("watch", "sound.wav", *omni, "--no-realtime", stdin=f"{SEEN}\n/stats\n")
    assert result.exit_code == 0, result.stderr
    assert "heard in" in result.stderr
    assert result.stdout.startswith("[0:0")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("clip.mp4", "--model", "embedded", "--modality", "audio"), "holds no audio, only video"),
        (("sound.wav", "--model", "embedded", "--modality", "audio"), "Qwen2.5-VL takes 'video'"),
    ],
)
def test_what_cannot_be_heard_is_said_in_one_line(args: tuple[str, ...], said: str) -> None:
    result = infinipot("watch", *args, "--ask", SEEN)
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("said", "coloured"), [("", True), ("1", False)])
def test_who_wants_no_colour_gets_none(said: str, coloured: bool) -> None:
    """As no-color.org has it: at a terminal too."""
    shown = CliRunner().invoke(main, ["eval", "--list"], color=True, env={"NO_COLOR": said}).stdout
    assert ("\x1b[" in shown) is coloured


def test_a_name_is_told_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither as an emoji nor as a colour."""
    result = infinipot("watch", "clip:camera:[red]1.mp4", *EMBEDDED, "--ask", SEEN)
    assert "clip:camera:[red]1.mp4" in result.stderr
    table = Table("a:camera:[red]b")
    table.add_row("c:camera:[red]d")
    print_table(table)
    assert capsys.readouterr().out.count(":camera:[red]") == 2


def test_the_version_is_printed() -> None:
    assert infinipot("--version").stdout.startswith("infinipot ")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (9.5, "0:09.5"), (75.25, "1:15.25"), (59.999, "1:00"), (3600, "1:00:00"), (7325.1, "2:02:05.1")],
)
def test_video_time_reads_like_a_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


# How tokens are chosen


def test_answers_are_drawn_by_seed_and_end_at_a_text() -> None:
    drawn = ("--temperature", "8", "--top-k", "40", "--top-p", "0.99", "--repetition-penalty", "1.1", "--json")
    answers = []
    for seed in ("0", "0", "1", "2"):
        result = watch("--ask", SEEN, "--max-new-tokens", "12", "--seed", seed, *drawn)
        assert result.exit_code == 0, result.stderr
        answers.append(records(result)[0]["answer"])
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1
    plain = records(watch("--ask", SEEN, "--json"))[0]["answer"]
    stopped = watch("--ask", SEEN, "--stop", "nothing of the kind", "--stop", plain[1:])
    assert stopped.stdout.splitlines()[1] == plain[0]


@pytest.mark.parametrize(
    "wrong",
    [("--temperature", "-1"), ("--top-p", "2"), ("--repetition-penalty", "0"), ("--seed", "-1"), ("--stop", "")],
)
def test_a_way_to_choose_that_there_is_not_is_a_line_before_anything_is_opened(wrong) -> None:
    result = infinipot("watch", "nothing.mp4", "--model", "./nothing", "--ask", SEEN, *wrong)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {wrong[0].removeprefix('--').replace('-', '_')}=")
    assert len(result.stderr.splitlines()) == 1


def test_numbers_that_overflow_are_one_line(tmp_path) -> None:
    checkpoint = shutil.copytree(embedded.path(), tmp_path / "checkpoint")
    weights = load_file(checkpoint / "model.safetensors")
    large = next(name for name in weights if name.endswith("layers.0.mlp.down_proj.weight"))
    weights[large] = torch.full_like(weights[large], torch.finfo(weights[large].dtype).max)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    result = infinipot("watch", "clip.mp4", "--model", str(checkpoint), "--memory", "512", "--ask", SEEN)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "is not a number" in result.stderr
    assert len(result.stderr.splitlines()) == 1


# Text that is no UTF-8


def here(*args: bytes, stdin: bytes = b"", encoding: str = "utf-8") -> tuple[int, bytes, bytes]:
    """The same in this process, which has imported everything: arguments as Python reads them, pipes encoded so."""
    result = CliRunner(charset=encoding).invoke(main, list(map(os.fsdecode, args)), input=stdin)
    return result.exit_code, result.stdout_bytes, result.stderr_bytes


WATCHED = (b"watch", b"clip.mp4", b"--model", b"embedded", b"--memory", b"512")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((b"--ask", b"caf\xe9"), b"the question {} 0xe9 stands after 'caf'"),
        ((b"--at", b"3", b"\xff\xfe?", b"--json"), b"the question {} 0xff stands at its"),
        ((b"--ask", b"ok?", b"--system", b"\xc3"), b"the system message {} 0xc3"),
    ],
)
def test_what_is_no_utf_8_is_one_line(args: tuple[bytes, ...], said: bytes) -> None:
    """Before anything is loaded: a process of its own, which has the system's strict streams, takes no time."""
    process = start(*WATCHED, *args, PYTHONIOENCODING="utf-8:strict")
    stdout, stderr = process.communicate(timeout=300)
    assert (process.returncode, stdout) == (1, b"")
    assert stderr.startswith(b"error: " + said.replace(b"{}", b"is not text in UTF-8: the byte"))
    assert stderr.count(b"\n") == 1


def test_a_line_that_is_piped_in_and_no_utf_8_is_one_line() -> None:
    code, stdout, stderr = here(*WATCHED, stdin=b"what \xe9 is it?\n")
    assert (code, stdout) == (1, b"")
    (line,) = [line for line in stderr.splitlines() if not line.startswith(b"0:")]
    assert line.startswith(b"error: the question is not text in UTF-8: the byte 0xe9 stands after 'what '")


@pytest.mark.parametrize("text", ["\ud83d", "half \udc80", "a" * 50 + "\ud800b"])
def test_a_lone_half_of_a_character_is_an_error_wherever_a_text_is_given(text: str) -> None:
    model = load("embedded")
    with model.stream(memory=512) as stream:
        stream.watch(next(iter(Clip(10_001, 20, fps=2.0, events=2))))
        before = stream.stats().tokens
        for refuse in (stream.ask, stream.answer_limit):
            with pytest.raises(QuestionError, match="not text in UTF-8"):
                refuse(text)
        assert stream.stats().tokens == before
    with pytest.raises(SettingError, match="the system message is not text in UTF-8"):
        model.stream(memory=512, system=text)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_keeps_a_name_that_is_no_utf_8(folder: Path, encoding: str) -> None:
    name = b"caf\xe9 \xf0\x9f\x8e\xac.mp4"
    shutil.copy(folder / "clip.mp4", folder / os.fsdecode(name))
    args = (b"watch", name, *WATCHED[2:], b"--ask", "café?".encode(), b"--json")
    code, stdout, stderr = here(*args, encoding=encoding)
    assert code == 0, stderr
    answer, summary = (json.loads(line.decode(encoding)) for line in stdout.splitlines())
    assert answer["question"] == "café?"
    assert os.fsencode(summary["video"]) == name


@given(st.recursive(st.none() | st.integers() | st.text(st.characters(exclude_categories=())), st.lists))
def test_json_is_read_back_as_it_was_written(value: object) -> None:
    for encoding in ("utf-8", "ascii", "latin-1"):
        written = to_json(value, encoding=encoding).encode(encoding)
        assert json.loads(written.decode(encoding)) == value


def test_a_checkpoint_in_a_folder_that_is_no_utf_8_is_one_line() -> None:
    code, _, stderr = here(b"watch", b"clip.mp4", b"--model", b"./m\xe9", b"--ask", b"?")
    assert code == 1
    assert stderr.startswith(b"error: the name of the model is not text in UTF-8")
