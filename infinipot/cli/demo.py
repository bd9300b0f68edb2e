"""`infinipot demo`: the packaged model on its synthetic world, with questions, a score and a picture."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from infinipot import extras, shipped
from infinipot.cli.meter import StreamMeter
from infinipot.cli.options import Finite, policy_of, world_model_option
from infinipot.cli.output import check_picture, clock, load_quietly, print_json, print_table
from infinipot.config import POLICY
from infinipot.embedded.facts import BACKGROUNDS, HELD_OUT_SEEDS
from infinipot.versions import versions

if TYPE_CHECKING:
    from infinipot.embedded.demo import Demo, Reply
    from infinipot.embedded.scenery import Footage
    from infinipot.embedded.world import Clip
    from infinipot.policies import Policy

_DEFAULT_MINUTES = 60.0
_PICTURE = "infinipot-demo.png"


@click.command(short_help="See it work: a small packaged model on an hour of video.")
@click.option("--minutes", type=Finite(min=0.5), help="Length of the video.  [default: 60, or that of --video]")
@click.option(
    "--background", type=click.Choice(BACKGROUNDS), default="still", show_default=True, help="Background of the video."
)
@click.option("--video", help="A file or address that is looped as the background.")
@world_model_option
@click.option("--memory", default="512", show_default=True, help="The cap: tokens, or an amount such as 1MiB.")
@click.option("--policy", default=POLICY, show_default=True, help="Policy: see `infinipot policies`.")
@click.option(
    "--compare", default="sliding-window", show_default=True, help='A second policy to compare with, or "none".'
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=HELD_OUT_SEEDS.start,
    show_default=True,
    help="Seed of the shapes and questions.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="File for the picture, .png, .svg or .pdf.  [default: infinipot-demo.png]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per question, and a summary.")
def demo(
    minutes: float | None,
    background: str,
    video: str | None,
    model: str,
    memory: str,
    policy: str,
    compare: str,
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """See it work: a small packaged model watches an hour of video in a small memory. Downloads nothing.

    Six coloured shapes come and go for a few seconds each, before a synthetic background or your own video. The model
    is asked what it saw, at several moments; a full cache would need many times the memory. Everything printed is
    measured in the run.
    """
    if plot is not None:
        check_picture("--plot", plot)
    elif not extras.missing("plots") and os.access(Path.cwd(), os.W_OK):
        plot = Path(_PICTURE)
    from infinipot.embedded import demo as embedded

    compared = _policies(policy, compare)
    size = shipped.frame_size(Path(shipped.folder_of(model)))
    clip = _clip(minutes, background, video, seed, size)
    loaded = load_quietly(model)
    meter = StreamMeter(len(clip) / clip.fps)

    def show(replies: list[Reply]) -> None:
        with meter.hidden():
            _print_json_replies(replies, compared) if as_json else _print_replies(replies)

    if not as_json:
        _introduce(clip, video, compared)
    with meter:
        result = embedded.run(loaded, compared, clip=clip, memory=memory, on_frame=meter.update, on_replies=show)
    if plot is not None:
        embedded.plot(result, plot)
    if as_json:
        _print_json_summary(result, clip, plot)
    else:
        _print_summary(result, plot)


def _clip(minutes: float | None, background: str, video: str | None, seed: int, size: int) -> Clip:
    """Six shapes, all different, before the background that was asked for, in frames of `size` pixels."""
    from infinipot.embedded import demo as embedded
    from infinipot.embedded.scenery import Footage
    from infinipot.embedded.world import Clip

    behind: str | Footage = background
    if video is not None:
        behind = Footage(video, seconds=60 * (minutes or _DEFAULT_MINUTES), size=size)
        minutes = minutes or max(1.0, behind.seconds / 60)
    seconds = 60 * (minutes or _DEFAULT_MINUTES)
    return Clip(seed, seconds, embedded.FPS, embedded.EVENTS, behind, cast="varied", size=size)


def _policies(policy: str, compare: str) -> list[Policy]:
    """The policies to run, each once."""
    made = [policy_of(spec) for spec in ([policy] if compare == "none" else [policy, compare])]
    return list({one.spec: one for one in made}.values())


def _introduce(clip: Clip, video: str | None, compared: list[Policy]) -> None:
    where = f"drawn into {video}" if video else "that come and go"
    click.echo(
        f"{clock(len(clip) / clip.fps)} of coloured shapes {where}, watched at {clip.fps:g} frames/s.\n"
        f"Each question is answered from what the memory holds by then.\n"
    )
    click.secho(f"  {'right answer':18}" + "".join(f"{policy.name:20}" for policy in compared), dim=True)


def _print_replies(replies: list[Reply]) -> None:
    """The questions of one moment, and how each policy did."""
    click.secho(f"\nat {clock(replies[0].time)}", bold=True)
    for reply in replies:
        click.echo(f"  {reply.question.text}", nl=False)
        if reply.question.event is not None:
            click.secho(f"  ({clock(reply.time - reply.question.event)} ago)", dim=True, nl=False)
        click.echo(f"\n  {reply.question.answer:18}", nl=False)
        for answer, right in zip(reply.answers, reply.right, strict=True):
            click.secho(f"{'✓' if right else '✗'} {answer:18}", fg="green" if right else "red", nl=False)
        click.echo()


def _print_summary(result: Demo, plot: Path | None) -> None:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    for column in ("right answers", "asked", "by chance", *result.policies):
        table.add_column(column, justify="left" if column == "right answers" else "right")
    for score in result.scores():
        shares = (f"{right / score.asked:.0%}" for right in score.right)
        table.add_row(
            score.kind, str(score.asked), f"{score.chance:.0%}", *shares, style="bold" if score.kind == "all" else None
        )
    click.echo()
    print_table(table)
    stats = result.stats[0]
    click.echo(
        f"\nheld {stats.tokens:,} tokens at the end, {stats.peak_tokens:,} at the most; the cap is {stats.cap:,}."
        f"\nA full cache would hold {stats.full_tokens:,}: {stats.full_tokens / stats.cap:.1f} times the cap."
        f"\n{stats.compressions} compressions made room. " + (f"The picture is in {plot}." if plot else _how_to_draw())
    )


def _how_to_draw() -> str:
    """The note that stands in for a default picture that could not be drawn."""
    if extras.missing("plots"):
        return f"For a picture of the memory: {extras.how_to_install('plots')}"
    return f"No picture was drawn, since nothing can be written into {Path.cwd()}: see --plot"


def _print_json_replies(replies: list[Reply], compared: list[Policy]) -> None:
    for reply in replies:
        answers = {policy.spec: answer for policy, answer in zip(compared, reply.answers, strict=True)}
        print_json({"type": "answer", "time": reply.time, **asdict(reply.question), "answers": answers})


def _print_json_summary(result: Demo, clip: Clip, plot: Path | None) -> None:
    print_json(
        {
            "type": "summary",
            "minutes": len(clip) / clip.fps / 60,
            "seed": clip.seed,
            "plot": None if plot is None else str(plot),
            "versions": versions(),
            "scores": [
                asdict(score) | {"right": dict(zip(result.policies, score.right, strict=True))}
                for score in result.scores()
            ],
            "stats": {spec: stats.as_dict() for spec, stats in zip(result.policies, result.stats, strict=True)},
        }
    )
