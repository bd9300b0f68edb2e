"""`infinipot watch`: streams a video, or its sound, through a model and answers questions about it."""

from __future__ import annotations

import math
import os
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import infinipot
from infinipot.cli.meter import StreamMeter
from infinipot.cli.options import (
    Finite,
    Seconds,
    options_of,
    pixel_options,
    pixels_of,
    policy_of,
    policy_option,
    together,
)
from infinipot.cli.output import Asker, check_picture, clock, load_quietly, note, print_json
from infinipot.cli.pace import at_own_pace
from infinipot.cli.prompt import converse
from infinipot.config import LoadConfig, Sampling, StreamConfig
from infinipot.errors import CameraError
from infinipot.text import check_text
from infinipot.versions import versions

if TYPE_CHECKING:
    from infinipot import Camera, Frame, Model, Sound, Stats, Stream
    from infinipot.audio import Audio
    from infinipot.cli.sketch import Sketch
    from infinipot.playing import Moment
    from infinipot.video import Video

_OF_PICTURES = ("fps", "transport", "no_frame_timeout")
_SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop")


@dataclass(frozen=True, slots=True)
class _Question:
    """A question, asked once all frames up to `at` seconds were watched; infinity is the end of the video."""

    text: str
    at: float = math.inf


@click.command(short_help="Watch a video and answer questions about it.")
@click.argument("file")
@together(*options_of(LoadConfig, "model", required=["model"]))
@click.option("--ask", multiple=True, metavar="QUESTION", help="Question asked at the end. May be repeated.")
@click.option(
    "--at",
    multiple=True,
    type=(Seconds(), str),
    metavar="TIME QUESTION",
    help="Question asked at a time of the video, such as 90 or 1:30. May be repeated.",
)
@together(*options_of(StreamConfig, "memory"), policy_option)
@click.option(
    "--modality",
    type=click.Choice(["video", "audio"]),
    default="video",
    show_default=True,
    help="Watch the pictures of FILE, or listen to its sound.",
)
@together(*options_of(StreamConfig, "fps"))
@click.option(
    "--start",
    type=Seconds(),
    default=0.0,
    metavar="TIME",
    help="Time at which to begin, such as 90 or 1:30.  [default: the beginning]",
)
@click.option("--end", type=Seconds(endless=True), metavar="TIME", help="Time at which to stop.  [default: the end]")
@click.option(
    "--transport", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True, help="Transport of RTSP."
)
@click.option(
    "--no-frame-timeout",
    type=Finite(min=0, min_open=True),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="Reconnect a camera that gives no picture for this long.",
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Draw what the memory holds at the end, as .png, .svg or .pdf.",
)
@click.option("--max-new-tokens", type=int, metavar="N", help="Maximum tokens of an answer.  [default: as many as fit]")
@click.option(
    "--temperature",
    type=float,
    metavar="T",
    help="Sampling temperature; 0 takes the likeliest token.  [default: the model's own]",
)
@click.option(
    "--top-p",
    type=float,
    metavar="SHARE",
    help="Sample among the likeliest tokens that have this probability together.",
)
@click.option("--top-k", type=int, metavar="N", help="Sample among the N likeliest tokens.")
@click.option("--repetition-penalty", type=float, metavar="X", help="Values above 1 discourage repetition.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sampling.")
@click.option("--stop", multiple=True, metavar="TEXT", help="Text at which an answer ends. May be repeated.")
@together(*options_of(StreamConfig, "look_again"))
@click.option(
    "--look-pixels",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pixels of a frame that is looked at again.  [default: as it was watched]",
)
@click.option(
    "--window",
    type=Finite(min=0, min_open=True),
    metavar="SECONDS",
    help="Ask about the newest seconds only.  [default: about everything in memory]",
)
@click.option("--remember", is_flag=True, help="Keep questions and answers in memory, for later questions to refer to.")
@together(
    *options_of(StreamConfig, "system", "block", "keep", "reserve", "dialogue", "positions", "gate"), *pixel_options
)
@together(*options_of(LoadConfig, "dtype", "device", "device_map", "tp_plan", "attn_implementation", "revision"))
@click.option(
    "--realtime/--no-realtime",
    default=None,
    help="Watch at the video's own pace.  [default: only with a prompt]",
)
@click.option("--progress/--no-progress", default=None, help="Show progress.  [default: only if stderr is a terminal]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per answer, and a summary.")
@click.option("--verbose", is_flag=True, help="Show the messages of the libraries underneath.")
def watch(
    file: str,
    model: str,
    ask: tuple[str, ...],
    at: tuple[tuple[float, str], ...],
    start: float,
    end: float | None,
    picture: Path | None,
    max_new_tokens: int | None,
    look_pixels: int | None,
    window: float | None,
    remember: bool,
    min_pixels: int | None,
    max_pixels: int | None,
    realtime: bool | None,
    progress: bool | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Watch the video FILE (a path, or an address such as rtsp://...) and answer questions about it.

    Without a question, opens a prompt at which to ask while the video runs on. Lines that are piped in are asked
    when they are read. With --look-again N, each question sees the last N frames once more; /look changes that.

    \b
    infinipot watch street.mp4 --model Qwen/Qwen2.5-VL-7B-Instruct --ask "What happened?"
    infinipot watch street.mp4 --model Qwen/Qwen2.5-VL-7B-Instruct --at 1:30 "Who is there?" --json
    infinipot watch talk.mp3 --modality audio --model Qwen/Qwen2.5-Omni-7B --ask "Who speaks?"
    """
    questions = [*(_Question(text, seconds) for seconds, text in at), *map(_Question, ask)]
    for question in questions:
        if question.at < start:
            raise click.UsageError(f"--at {question.at:g} lies before --start {start:g}")
    if look_pixels and not settings["look_again"]:
        raise click.UsageError(
            "--look-pixels is the size of the frames that --look-again keeps: give --look-again, too"
        )
    for question in questions:
        check_text(question.text, "the question")
    check_text(settings["system"] or "", "the system message")
    pixels = pixels_of(min_pixels, max_pixels)
    _check_modality(settings)
    if picture is not None:
        check_picture("--picture", picture)
        if settings["modality"] == "audio":
            raise click.UsageError("--picture: sound has no frames to draw")
    if not questions and _is_stdin(file):
        raise click.UsageError(f"the video is read from {file}, so no questions can be typed there: give --ask or --at")
    if settings["tp_plan"] and not questions:
        raise click.UsageError(
            "with --tp-plan, which needs several processes, no questions can be typed: give --ask or --at"
        )
    settings["policy"] = policy_of(settings["policy"])
    sampling = {name: settings[name] for name in _SAMPLING}
    Sampling(**sampling)  # says what is out of range
    # What is quick to check comes before what takes long: the policy, the video, then the model.
    with ExitStack() as opened:
        video = _open(file, questions, start, end, settings)
        opened.callback(video.close)
        if settings["tp_plan"] and video.duration is None:
            raise click.UsageError(
                f"with --tp-plan each process reads {video.name} itself: give a file, not a live source"
            )
        loading = {each.name: settings[each.name] for each in fields(LoadConfig) if each.name != "model"}
        loaded = load_quietly(model, verbose=settings["verbose"], **loading)
        if isinstance(video, infinipot.Camera):  # which is there, but whose time begins when it is watched
            video.close()
            video = _open(file, questions, start, end, settings)
            opened.callback(video.close)
        streaming = {each.name: settings[each.name] for each in fields(StreamConfig) if each.name in settings}
        streaming |= {name: settings[name] for name in ("policy", "modality")}
        with loaded.stream(pixels=pixels, **streaming) as stream:
            asker = Asker(stream, max_new_tokens, remember, as_json, bool(questions), sampling, settings["look_again"])
            asker.look_pixels = (look_pixels, look_pixels) if look_pixels else None
            asker.window = window
            sketch = _sketch(asker, picture)
            for question in questions:  # one that cannot be asked is an error now, not after hours
                asker.check(question.text)
            if questions:
                meter = StreamMeter(video.duration, progress, start, end)
                _watch_and_ask(video, questions, asker, meter, paced=bool(realtime))
            else:
                converse(video, asker, paced=realtime is not False)
            if as_json:
                _print_summary(loaded, stream, video, file)
            if sketch is not None:
                sketch.draw()


def _open(
    file: str, questions: list[_Question], start: float, end: float | None, settings: dict[str, Any]
) -> Video | Audio | Camera:
    if settings["modality"] == "audio":
        if infinipot.camera.is_camera(file):
            end = _camera_end(questions, start, end)
        return infinipot.open_audio(file, start=start, end=end)
    if file.isdecimal() and not Path(file).exists():
        raise click.UsageError(f"{file} is no file: a camera of this machine is webcam://{file}")
    if not infinipot.camera.is_camera(file):
        with suppress(CameraError):  # which the address does not say
            return infinipot.open_video(file, fps=settings["fps"], start=start, end=end)
    end = _camera_end(questions, start, end)
    camera = infinipot.open_camera(file, **{name: settings[name] for name in _OF_PICTURES})
    camera.end = end
    return camera


def _camera_end(questions: list[_Question], start: float, end: float | None) -> float:
    """When a camera is left: after the last question, if nothing else is said."""
    if start:
        raise click.UsageError("--start cannot be given for a camera, which begins now")
    if end in (None, math.inf) and questions:
        end = max(question.at for question in questions)
        if end == math.inf:
            raise click.UsageError(
                "a camera does not end: give --end, ask --at a time, or give no question for a prompt"
            )
    return math.inf if end is None else end


def _check_modality(settings: dict[str, Any]) -> None:
    """Sound is refused what is said of pictures alone, rather than ignoring it."""
    source = click.get_current_context().get_parameter_source
    for name in _OF_PICTURES if settings["modality"] == "audio" else ():
        if source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.replace('_', '-')} is of pictures: --modality audio has none")


def _is_stdin(file: str) -> bool:
    """Tells whether a file is this process's standard input, by whatever name."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(0))
    except (OSError, ValueError):
        return False


def _sketch(asker: Asker, picture: Path | None) -> Sketch | None:
    """Notes what a picture needs of what the stream is given from now on."""
    if picture is None:
        return None
    from infinipot.cli.sketch import Sketch

    sketch = Sketch(asker.stream, picture)
    asker.on_frame = sketch.note
    return sketch


def _watch_and_ask(
    video: Video | Audio | Camera, questions: list[_Question], asker: Asker, meter: StreamMeter, paced: bool
) -> None:
    """Watches to the end and asks each question at its time."""
    from infinipot.playing import play

    stream, ordered = asker.stream, deque(sorted(questions, key=lambda question: question.at))
    frames, moments = at_own_pace(video) if paced else video, [question.at for question in ordered]

    def note_frame(given: Frame | Sound) -> None:
        asker.on_frame(given)
        stats = stream.stats()
        if stats.frames == asker.look_again:  # as soon as it is known what a second look takes
            for question in ordered:
                asker.check(question.text)
        meter.update(stats)

    with meter:
        for moment in play(frames, [stream], moments, note_frame):
            with meter.hidden():
                if not (isinstance(video, infinipot.Camera) and video.now() >= moment.time):  # which went on to there
                    _say_where(moment, stream.stats())
                asker.ask(ordered.popleft().text)


def _say_where(moment: Moment, stats: Stats) -> None:
    """Reports that a question's time is not in the video."""
    if moment.over and stats.time < moment.time < math.inf:
        ended = "sound ends" if stats.modality == "audio" else "last frame is"
        note(f"note: the {ended} at {clock(stats.time)}; asked there, not at {clock(moment.time)}")


def _print_summary(model: Model, stream: Stream, video: Video | Audio | Camera, file: str) -> None:
    print_json(
        {
            "type": "summary",
            "video": file if Path(file).exists() else video.name,  # a path loses nothing; an address its secrets
            "incomplete": video.incomplete,
            "model": model.name,
            "policy": stream.policy.spec,
            "versions": versions(),
            **({"gaps": [gap.as_dict() for gap in video.gaps]} if isinstance(video, infinipot.Camera) else {}),
            **stream.stats().as_dict(),
        }
    )
