"""`infinipot watch`: streams a video, or its sound, through a model and answers questions about it."""

from __future__ import annotations

import math
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import infinipot
from infinipot.cli.output import Asker, Meter, check_picture, clock, load_quietly, note, print_json, taking
from infinipot.cli.pace import at_own_pace
from infinipot.cli.prompt import converse
from infinipot.versions import versions

if TYPE_CHECKING:
    from infinipot import Camera, Model, Stream
    from infinipot.audio import Audio
    from infinipot.cli.sketch import Sketch
    from infinipot.video import Video

_LOADING = ("dtype", "device", "device_map", "tp_plan", "attn_implementation", "revision", "verbose")
_SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop")
_STREAMING = ("memory", "policy", "modality", "fps", "keep", "block", "reserve", "dialogue", "positions", "system")


@dataclass(frozen=True, slots=True)
class _Question:
    """A question, asked once all frames up to `at` seconds were watched; infinity is the end of the video."""

    text: str
    at: float = math.inf


@click.command(short_help="Watch a video and answer questions about it.")
@click.argument("file")
@click.option("--model", required=True, metavar="ID_OR_PATH", help='A hub id, a folder, or "embedded".')
@click.option("--ask", multiple=True, metavar="QUESTION", help="Asked at the end. May be repeated.")
@click.option(
    "--at",
    multiple=True,
    type=(click.FloatRange(min=0), str),
    metavar="SECONDS QUESTION",
    help="Asked at that time of the video. May be repeated.",
)
@click.option(
    "--memory",
    help="The cap: tokens per layer and KV head that may ever be held, or an amount such as 256MiB.  "
    "[default: 4096, or what the model's largest frames need and its positions allow]",
)
@click.option("--policy", default="infinipot-v", show_default=True, help="What stays: see `infinipot policies`.")
@click.option(
    "--modality",
    type=click.Choice(["video", "audio"]),
    default="video",
    show_default=True,
    help="Watch the pictures of FILE, or listen to its sound.",
)
@click.option("--fps", type=float, default=2.0, show_default=True, help="Frames watched per second of video.")
@click.option("--start", type=float, default=0.0, metavar="SECONDS", help="Where in the video to begin.")
@click.option("--end", type=float, metavar="SECONDS", help="Where in the video to stop.")
@click.option("--transport", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True, help="Of RTSP.")
@click.option(
    "--no-frame-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="A camera that gives no picture for so long is tried again.",
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Draw what the memory holds at the end: .png, .svg or .pdf.",
)
@click.option("--max-new-tokens", type=int, metavar="N", help="The longest answer.")
@click.option("--temperature", type=float, metavar="T", help="Draws tokens above 0.  [default: the model's own]")
@click.option("--top-p", type=float, metavar="SHARE", help="Draws among the likeliest tokens of this probability.")
@click.option("--top-k", type=int, metavar="N", help="Draws among so many of the likeliest tokens.")
@click.option("--repetition-penalty", type=float, metavar="X", help="Above 1: says less again.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn.")
@click.option("--stop", multiple=True, metavar="TEXT", help="Ends an answer, which leaves it out. May be repeated.")
@click.option("--remember", is_flag=True, help="Keep questions and answers in memory, to refer to later.")
@click.option("--system", metavar="TEXT", help="A system message in place of the model's own.")
@click.option("--min-pixels", type=click.IntRange(min=1), metavar="N", help="Least pixels of a resized frame.")
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most pixels of a resized frame.  [default: the model's for video]",
)
@click.option("--block", type=int, metavar="N", help="Temporal patches, or chunks of sound, run at once.")
@click.option("--keep", type=float, default=0.75, show_default=True, help="Share that a compression leaves.")
@click.option("--reserve", type=int, metavar="N", help="Tokens kept free for a question and its answer.")
@click.option("--dialogue", type=int, metavar="N", help="Tokens that remembered turns may take.")
@click.option(
    "--positions",
    type=click.Choice(["rebase", "native"]),
    default="rebase",
    show_default=True,
    help="Keep endless videos inside the trained positions, or let positions grow.",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Of the weights.",
)
@click.option("--device", default="auto", show_default=True, help="Such as cpu, cuda or cuda:1.")
@click.option("--device-map", help="Spread the layers over devices; overrides --device.")
@click.option("--tp-plan", type=click.Choice(["auto"]), help="Share out each layer among torchrun's processes.")
@click.option("--attn-implementation", help="Such as sdpa or flash_attention_2.")
@click.option("--revision", help="Of a hub checkpoint.")
@click.option(
    "--realtime/--no-realtime",
    default=None,
    help="Watch at the video's own pace. Default: only with a prompt.",
)
@click.option("--progress/--no-progress", default=None, help="Default: only if stderr is a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per answer, and a summary.")
@click.option("--verbose", is_flag=True, help="Show what the libraries below have to say.")
def watch(
    file: str,
    model: str,
    ask: tuple[str, ...],
    at: tuple[tuple[float, str], ...],
    start: float,
    end: float | None,
    picture: Path | None,
    max_new_tokens: int | None,
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
    when they are read.

    \b
    infinipot watch street.mp4 --model Qwen/Qwen2.5-VL-7B-Instruct --ask "What happened?"
    infinipot watch street.mp4 --model Qwen/Qwen2.5-VL-7B-Instruct --at 12.5 "Who is there?" --json
    infinipot watch talk.mp3 --modality audio --model Qwen/Qwen2.5-Omni-7B --ask "Who speaks?"
    """
    questions = [*(_Question(text, seconds) for seconds, text in at), *map(_Question, ask)]
    for question in questions:
        if question.at < start:
            raise click.UsageError(f"--at {question.at:g} lies before --start {start:g}")
    if (min_pixels is None) != (max_pixels is None):
        raise click.UsageError("--min-pixels and --max-pixels go together")
    if picture is not None:
        check_picture("--picture", picture)
        if settings["modality"] == "audio":
            raise click.UsageError("--picture: sound has no frames to draw")
    if settings["tp_plan"] and not questions:
        raise click.UsageError("--tp-plan leaves no prompt to type at, with several processes: give --ask or --at")
    pixels = None if min_pixels is None or max_pixels is None else (min_pixels, max_pixels)
    settings["policy"] = infinipot.policies.make(settings["policy"])
    sampling = {name: settings[name] for name in _SAMPLING}
    infinipot.Sampling(**sampling)  # says what is out of range
    # What is quick to check comes before what takes long: the policy, the video, then the model.
    with ExitStack() as opened:
        video = _open(file, questions, start, end, settings)
        opened.callback(video.close)
        if settings["tp_plan"] and video.duration is None:
            raise click.UsageError(f"--tp-plan: each process reads {video.name} itself: give a file, not a live source")
        loaded = load_quietly(model, **{name: settings[name] for name in _LOADING})
        if isinstance(video, infinipot.Camera):  # which is there, but whose time begins when it is watched
            video.close()
            video = _open(file, questions, start, end, settings)
            opened.callback(video.close)
        with loaded.stream(pixels=pixels, **{name: settings[name] for name in _STREAMING}) as stream:
            asker = Asker(stream, max_new_tokens, remember, as_json, bool(questions), sampling)
            sketch = _sketch(asker, picture)
            for question in questions:  # one that cannot be asked is an error now, not after hours
                asker.check(question.text)
            if questions:
                _watch_and_ask(video, questions, asker, progress, paced=bool(realtime))
            else:
                converse(video, asker, paced=realtime is not False)
            if sketch is not None:
                sketch.draw()
            if as_json:
                _print_summary(loaded, stream, video, file)


def _open(
    file: str, questions: list[_Question], start: float, end: float | None, settings: dict[str, Any]
) -> Video | Audio | Camera:
    if settings["modality"] == "audio":
        return infinipot.open_audio(file, start=start, end=end)
    if not infinipot.camera.is_camera(file):
        return infinipot.open_video(file, fps=settings["fps"], start=start, end=end)
    if start:
        raise click.UsageError("--start: a camera begins now")
    if end is None and questions and (end := max(question.at for question in questions)) == math.inf:
        raise click.UsageError("a camera does not end: give --end, ask --at a time, or give no question for a prompt")
    options = {name: settings[name] for name in ("fps", "transport", "no_frame_timeout")}
    camera = infinipot.open_camera(file, **options)
    camera.end = math.inf if end is None else end
    return camera


def _sketch(asker: Asker, picture: Path | None) -> Sketch | None:
    """Notes what a picture needs of what the stream is given from now on."""
    if picture is None:
        return None
    from infinipot.cli.sketch import Sketch

    sketch = Sketch(asker.stream, picture)
    asker.take = sketch.taking()
    return sketch


def _watch_and_ask(
    video: Video | Audio | Camera, questions: list[_Question], asker: Asker, progress: bool | None, paced: bool
) -> None:
    """Watches to the end and asks each question at its time."""
    take = asker.take or taking(asker.stream)
    due = deque(sorted(questions, key=lambda question: question.at))
    with Meter(video.duration, progress) as meter:
        for frame in at_own_pace(video) if paced else video:
            while due and due[0].at < frame.end:
                if isinstance(frame, infinipot.Sound):  # heard up to the very moment
                    early, frame = frame.split(due[0].at)
                    if len(early.samples):
                        take(early)
                with meter.hidden():
                    asker.ask(due.popleft().text)
            if not isinstance(frame, infinipot.Sound) or len(frame.samples):
                take(frame)
            meter.update(asker.stream.stats())
    stats = asker.stream.stats()
    ended, last = stats.time, "sound ends" if stats.modality == "audio" else "last frame is"
    for question in due:
        if ended < question.at < math.inf:
            note(f"note: the {last} at {clock(ended)}; asked there, not at {clock(question.at)}")
        asker.ask(question.text)


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
