"""`infinipot eval report` and `infinipot eval judge`: what becomes of runs that are over. Parsing and printing only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infinipot.cli.eval_options import judge as judge_of
from infinipot.cli.eval_options import judge_options
from infinipot.cli.output import note, print_json
from infinipot.evaluate.core.tables import print_tables
from infinipot.evaluate.judge import Judged, judge_run
from infinipot.evaluate.reading import read_runs, submission_name, submit
from infinipot.evaluate.records import counted

if TYPE_CHECKING:
    from infinipot.evaluate.report import Section

_RUN = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Compare runs: accuracy with intervals, differences, time and memory.")
@click.argument("runs", nargs=-1, required=True, type=_RUN)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="infinipot-report",
    show_default=True,
    help="Folder for report.md, report.json and report.png.",
)
@click.option("--draws", type=click.IntRange(min=100), default=1000, show_default=True, help="Draws of the bootstrap.")
@click.option("--json", "as_json_lines", is_flag=True, help="Print JSON.")
def report(runs: tuple[Path, ...], output: Path, draws: int, as_json_lines: bool) -> None:
    """Compare RUNS, files that `infinipot eval` wrote; the shards of one run count as one.

    Where labels are withheld, the answers of each run for the benchmark's own server are written beside the report,
    once all of its shards are given.

    The first run of a benchmark is the one that the others are compared with. Runs of one benchmark that differ in
    more than the model and its memory (protocol, frames, seed, annotations) are refused.
    """
    from infinipot.evaluate.render import write
    from infinipot.evaluate.report import report as make_report

    read = read_runs(runs)
    sections = make_report(read, draws)
    paths = write(sections, output)
    for run in read:
        if submission := submit(run, output / submission_name(run)):
            note(submission)
    print_sections(sections, as_json_lines)
    note(f"written: {', '.join(map(str, paths))}")


@click.command(short_help="Have the open answers of a run judged.")
@click.argument("run", type=_RUN)
@judge_options
@click.option("--workers", type=click.IntRange(min=1), default=4, show_default=True, help="Requests at once.")
def judge(run: Path, workers: int, **given: Any) -> None:
    """Have the open answers in RUN judged by a chat model; verdicts go to RUN's .verdicts.jsonl.

    What has a verdict already is not judged again. A reply that is no verdict is asked for anew, twice at the most.
    """
    from infinipot.evaluate.report import report as make_report

    grader = judge_of(given)
    if grader is None:
        raise click.UsageError("give --judge-url and --judge-model")
    tell_judged(judge_run(run, grader, workers=workers, on_verdict=_tell))
    print_sections(make_report(read_runs([run])))


def tell_judged(judged: Judged) -> None:
    """Prints the result of judging on stderr."""
    note(f"{counted(judged.verdicts, 'answer')} judged")
    if judged.unparsed:
        note(f"{counted(judged.unparsed, 'answer')} without a score: what the judge replied is not a verdict", "yellow")


def _tell(done: int, of: int) -> None:
    if done % 100 == 0:
        note(f"{done} of {of} answers have a verdict")


def print_sections(sections: Sequence[Section], as_json_lines: bool = False) -> None:
    """Prints to stdout, as tables or as JSON."""
    from infinipot.evaluate.report import as_json, tables

    if as_json_lines:
        print_json([as_json(section) for section in sections])
    else:
        print_tables([table for section in sections for table in tables(section)])
