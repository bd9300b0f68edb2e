"""`infinipot bench needle`: what each policy remembers, after how long, at how many tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

import infinipot
from infinipot import extras
from infinipot.bench.plan import CLIPS, MOMENTS, QUICK, SECTIONS, Size, full_size
from infinipot.cli.output import STDERR, clock, note, print_json
from infinipot.embedded.facts import FIRST_TRAINING_SEED, HELD_OUT_SEEDS

if TYPE_CHECKING:
    from infinipot.bench import needle as benchmark
    from infinipot.bench.counting import Row

_MOST_CLIPS = 1000
_PLAIN_SECONDS = 30.0  # between two lines of progress where there is no terminal to redraw
_WIDTH = 150


@click.group(short_help="Measure what policies remember, and what they cost.")
def bench() -> None:
    """Measure what policies remember, and what they cost."""


@bench.command(short_help="What each policy remembers, after how long, at how many tokens.")
@click.option(
    "--quick", is_flag=True, help="All sections in a small form, on a few clips: for a look, not for figures."
)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default="infinipot-needle",
    show_default=True,
    help="Where answers, tables and pictures go; a run that was stopped goes on there.",
)
@click.option(
    "--model", default="embedded", show_default=True, help='"embedded", "witness", or a folder that knows the world.'
)
@click.option("--sections", default=",".join(SECTIONS), show_default=True, help="Which parts to run.")
@click.option("--policies", "specs", help='Which to compare, separated by ";", or by "," where none has options.')
@click.option(
    "--video",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A video file, as a further background.",
)
@click.option(
    "--clips", type=click.IntRange(1, _MOST_CLIPS), default=CLIPS, show_default=True, help="Of each background."
)
@click.option(
    "--seed",
    type=click.IntRange(0, FIRST_TRAINING_SEED - 1),
    default=HELD_OUT_SEEDS.start,
    show_default=True,
    help="Of the first clip: below 10000 for choosing settings, above for results.",
)
@click.option(
    "--moments",
    type=click.IntRange(1, 100),
    help=f"At which each clip is asked; the last is its end.  [default: {MOMENTS}, fewer if --quick]",
)
@click.option("--jobs", type=click.IntRange(1), help="Processes at once.  [default: as many as there are cores]")
@click.option(
    "--device", default="auto", show_default=True, help="What the model computes on; processes share an accelerator."
)
@click.option("--shard", metavar="I/N", help="Run one of N parts; each may run anywhere, into one --out or its own.")
@click.option("--tables", "reads", is_flag=True, help="Run nothing: tables of the answers in --out, wherever they ran.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of tables.")
def needle(
    quick: bool,
    folder: Path,
    model: str,
    sections: str,
    specs: str | None,
    video: Path | None,
    clips: int,
    seed: int,
    moments: int | None,
    jobs: int | None,
    device: str,
    shard: str | None,
    reads: bool,
    as_json: bool,
) -> None:
    """What each policy remembers of a stream, after how long, at how many tokens.

    The packaged model watches clips of its synthetic world through memories of many sizes and policies, and is asked
    about them. Prints tables with 95% intervals over clips; answers, a summary and pictures are left in a folder. A
    run can be stopped at any moment, and goes on where it was when it is started again with the same --out.

    Several machines, or several runs on one, take a part of the cases each with --shard 1/4 to 4/4. Their files of
    answers, brought together in one folder, are told by --tables.
    """
    extras.require("bench", "infinipot bench")
    from infinipot.bench import machine
    from infinipot.bench import needle as benchmark
    from infinipot.bench.run import quieten

    quieten()
    size = _size(quick, clips, specs)
    size = size if moments is None else replace(size, moments=moments)
    named = tuple(sections.split(","))
    run = benchmark.Needle(folder, model, size, seed, named, video, device=device, part=_part(shard), reads=reads)
    try:
        if not reads:
            _watch(run.run(jobs or machine.cores()))
    except KeyboardInterrupt:
        note("interrupted: run it again with the same --out to go on. This is what is there:")
        _report(run, as_json)
        raise
    _report(run, as_json)


def _part(shard: str | None) -> benchmark.Part:
    """Which part of the cases `--shard` names."""
    from infinipot.bench.needle import Part

    if shard is None:
        return Part()
    number, _, of = shard.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise click.BadParameter(f"{shard!r}: give a part and how many there are, such as 2/4", param_hint="--shard")
    return Part(int(number), int(of))


def _size(quick: bool, clips: int, specs: str | None) -> Size:
    size = QUICK if quick else full_size(clips)
    if specs is None:
        return size
    chosen = tuple(
        infinipot.policies.make(spec).spec for spec in specs.split(";" if ";" in specs or ":" in specs else ",")
    )
    return replace(size, policies=chosen, long=chosen)


def _watch(steps: Iterable[benchmark.Progress]) -> None:
    """Runs to the end and shows how far it is and how long it will take."""
    begun = told = time.monotonic()
    live = STDERR.is_terminal
    columns = BarColumn(bar_width=24), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=STDERR, transient=True, disable=not live) as bar:
        task = bar.add_task("starting", total=None)
        for step in steps:
            now = time.monotonic()
            line = f"{step.left:,} cases left"
            if step.done:
                line += f", about {clock(round((now - begun) * (step.total - step.done) / step.done))} to go"
            bar.update(task, completed=step.done, total=step.total, description=line)
            if not live and now > told + _PLAIN_SECONDS:
                told = now
                note(line, "dim")


def _report(run: benchmark.Needle, as_json: bool) -> None:
    rows = run.rows()
    summary = run.report(rows)
    with (run.folder / "tables.txt").open("w", encoding="utf-8") as file:
        paper = Console(file=file, width=_WIDTH)
        _print_tables(rows, paper)
    if as_json:
        print_json(summary)
        return
    _print_tables(rows, Console(width=None if Console().is_terminal else _WIDTH))
    for what, why in summary["refused"].items():
        click.echo(f"not possible: {what}: {why}")
    missing = f", {summary['unfinished']} cases unfinished" if summary["unfinished"] else ""
    named = ", ".join(summary["pictures"]) or "none"
    click.echo(f"\nmodel {summary['model']}, code {summary['code']}, clips from seed {summary['first_seed']}{missing}.")
    click.echo(f"In {run.folder}: answers.jsonl, summary.json, tables.txt; pictures: {named}.")


def _print_tables(rows: dict[str, list[Row]], console: Console) -> None:
    from infinipot.bench import tables

    for title, table in tables.tables(rows):
        console.print(title, style="bold", markup=False, highlight=False)
        console.print(table)
