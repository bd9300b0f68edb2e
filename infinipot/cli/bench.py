"""`infinipot bench needle`: what each policy remembers, after how long, at how many tokens."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infinipot import extras, shipped
from infinipot.cli.eval_options import Shard
from infinipot.cli.options import options_of, policy_of, together, world_model_option
from infinipot.cli.output import clock, note, print_json
from infinipot.cli.progress import ProgressLine
from infinipot.config import LoadConfig
from infinipot.embedded.facts import FIRST_TRAINING_SEED, HELD_OUT_SEEDS
from infinipot.evaluate.needle.plan import CLIPS, MOMENTS, QUICK, SECTIONS, Extent, full_size

if TYPE_CHECKING:
    from infinipot.evaluate.needle.needle import Needle

_MOST_CLIPS = 1000
_BOUNDS = (HELD_OUT_SEEDS.start, HELD_OUT_SEEDS.stop, FIRST_TRAINING_SEED)  # where seeds for something else begin


@click.group(short_help="Measure what policies remember, and what they cost.")
def bench() -> None:
    """Measure what policies remember, and what they cost."""


@bench.command(short_help="What each policy remembers, after how long, at how many tokens.")
@click.option(
    "--quick", is_flag=True, help="Run a short form of all sections on a few clips: for a first look, not for results."
)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default="infinipot-needle",
    show_default=True,
    help="Folder for answers, tables and pictures; a stopped run is continued there.",
)
@world_model_option
@click.option(
    "--sections",
    default=",".join(SECTIONS),
    metavar="NAME,...",
    help=f"Parts to run, of {', '.join(SECTIONS)}.  [default: all]",
)
@click.option("--policies", "specs", help='Policies to compare, separated by ";", or by "," if none has options.')
@click.option(
    "--video",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A video file to use as a further background.",
)
@click.option(
    "--clips",
    type=click.IntRange(1, _MOST_CLIPS),
    help=f"Clips of each background.  [default: {CLIPS}, or {QUICK.clips} if --quick]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, FIRST_TRAINING_SEED - 1),
    default=HELD_OUT_SEEDS.start,
    show_default=True,
    help="Seed of the first clip: below 10000 for choosing settings, from there on for results.",
)
@click.option(
    "--moments",
    type=click.IntRange(1, 100),
    help=f"Moments at which each clip is asked; the last is its end.  [default: {MOMENTS}, fewer if --quick]",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Processes at once; they share an accelerator.  [default: the number of cores]",
)
@together(*options_of(LoadConfig, "dtype", "device"))
@click.option(
    "--shard",
    type=Shard(),
    default="1/1",
    help="Run one of n parts; parts may run on any machines with the same device, with a common --out or their own.",
)
@click.option(
    "--tables",
    "reads",
    is_flag=True,
    help="Run nothing: print tables of the answers in --out, wherever they were made.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of tables.")
def needle(
    quick: bool,
    folder: Path,
    model: str,
    sections: str,
    specs: str | None,
    video: Path | None,
    clips: int | None,
    seed: int,
    moments: int | None,
    jobs: int | None,
    dtype: str,
    device: str,
    shard: tuple[int, int],
    reads: bool,
    as_json: bool,
) -> None:
    """Measure what each policy remembers of a stream, after how long, at how many tokens.

    The packaged model watches clips of its synthetic world through memories of many sizes and policies, and is asked
    about them. Prints tables with 95% intervals over clips; answers, a summary and pictures are left in a folder. A
    run can be stopped at any moment, and goes on where it was when it is started again with the same --out.

    Several machines, or several runs on one, take a part of the cases each with --shard 1/4 to 4/4. Bring their files
    of answers together in one folder, and --tables prints the tables of all.
    """
    extras.require("bench", "infinipot bench")
    from infinipot.evaluate.core import machine
    from infinipot.evaluate.needle.needle import Needle
    from infinipot.evaluate.needle.processes import quieten

    quieten()
    if not reads:
        shipped.frame_size(Path(shipped.folder_of(model)))  # says so where it is no such model
    size = _size(quick, clips, specs)
    size = size if moments is None else replace(size, moments=moments)
    named = tuple(map(str.strip, sections.split(",")))
    loading = LoadConfig(model, dtype=dtype, device=device)
    run = Needle(folder, loading, size, seed, named, video, shard=shard, reads=reads)
    if not reads:
        _require_one_use(run)
    try:
        if not reads:
            _watch(run, jobs or machine.cores())
    except KeyboardInterrupt:
        note("interrupted: run it again with the same --out to continue. These are the results so far:")
        _report(run, as_json)
        raise
    _report(run, as_json)


def _require_one_use(run: Needle) -> None:
    """Refuses a first seed from which the plan's clips run into seeds that are for something else."""
    last = max((case.scene.seed for cases in run.plan.values() for case in cases), default=run.first_seed)
    stop = next(bound for bound in _BOUNDS if run.first_seed < bound)
    if last >= stop:
        largest = run.first_seed - (last - stop + 1)
        raise click.BadParameter(
            f"the clips would take the seeds from {run.first_seed} to {last}, and those from {stop} on serve other"
            f" ends: give {largest} or less, or fewer --sections or --clips",
            param_hint="--seed",
        )


def _size(quick: bool, clips: int | None, specs: str | None) -> Extent:
    size = replace(QUICK, clips=clips or QUICK.clips) if quick else full_size(clips or CLIPS)
    if specs is None:
        return size
    chosen = tuple(policy_of(spec.strip()).spec for spec in specs.split(";" if ";" in specs or ":" in specs else ","))
    return replace(size, policies=chosen, long=chosen)


def _watch(run: Needle, jobs: int) -> None:
    """Runs to the end and shows how far it is and how long it will take."""
    with ProgressLine(every=30.0) as meter:
        for step in run.run(jobs):
            line = f"{step.left:,} cases left"
            if step.done:
                line += f", about {clock(round(meter.spent * (step.total - step.done) / step.done))} to go"
            meter.tell(line, step.done, step.total)


def _report(run: Needle, as_json: bool) -> None:
    from infinipot.evaluate.core.tables import print_tables, write_text
    from infinipot.evaluate.needle.layouts import tables

    rows = run.rows()
    summary, sections = run.report(rows), list(tables(rows))
    heading = "".join(f"# {line}\n" for line in run.heading())
    print_tables(sections, text := StringIO())
    write_text(run.folder / "tables.txt", f"{heading}\n{text.getvalue()}")
    if as_json:
        print_json(summary)
        return
    click.echo(heading)
    print_tables(sections)
    for what, why in summary["refused"].items():
        click.echo(f"not possible: {what}: {why}")
    named = ", ".join(summary["pictures"]) or "none"
    click.echo(f"\nIn {run.folder}: {run.path.name}, summary.json, tables.txt; pictures: {named}.")
