"""`infinipot eval reproduce`: the published tables, run and laid side by side. Parsing and printing only."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from infinipot import BenchmarkError
from infinipot.cli.eval_options import SOME_LEFT_OUT, Machinery, machinery, model_options
from infinipot.cli.meter import RunMeter, quiet_stdout
from infinipot.cli.output import note
from infinipot.evaluate import find_benchmark
from infinipot.evaluate.core.tables import Table, notes_on, print_tables
from infinipot.evaluate.plan import RunPlan, read_plan
from infinipot.evaluate.published import MEMORY, PAPER, published, published_models
from infinipot.evaluate.reading import Run, read_runs
from infinipot.evaluate.records import counted
from infinipot.evaluate.reproduce import MOST_QUESTIONS, PaperRun, entries, gpu_hours
from infinipot.evaluate.run import check_before_loading, evaluate


@click.command(short_help="Repeat the tables of the InfiniPot-V paper.")
@click.option(
    "--data",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder that holds a folder per benchmark.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="infinipot-reproduce",
    show_default=True,
    help="Folder for the files of the runs.",
)
@click.option("--dry-run", is_flag=True, help="List the runs and their computed cost; run nothing.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Run the first N videos of each benchmark only.")
@click.option("--retry", is_flag=True, help="Retry what could not be used before.")
@model_options
@click.option("--verbose", is_flag=True, help="Show the messages of the libraries underneath.")
def reproduce(data: Path, output: Path, dry_run: bool, limit: int | None, retry: bool, **given: Any) -> None:
    """Run the published tables: the full cache and, at an eighth of its tokens, the policies uniform, sliding-window,
    infinipot-v-reference (the published code), infinipot-v and unusual, on MLVU, Video-MME, LongVideoBench and
    EgoSchema; and TaR and VaN alone, as in the published code, on MLVU.

    --data holds a folder for each benchmark, by its name (mlvu, video-mme, longvideobench, egoschema); one that is not
    there is left out. Runs that are over are not run again.
    """
    machine = machinery(given)
    plans = _plans(data, limit)
    if dry_run:
        _print_runs(plans)
        return
    if not plans:
        raise BenchmarkError(f"{data} holds no folder {' or '.join(dict.fromkeys(one.benchmark for one in entries()))}")
    files = _run(machine, plans, output, retry)
    runs = read_runs(list(files.values()))
    by_path = {run.paths[0]: run for run in runs}
    print_tables(_side_by_side({entry: by_path[path] for entry, path in files.items()}))
    if any(run.problems for run in runs):
        click.get_current_context().exit(SOME_LEFT_OUT)


def _plans(data: Path, limit: int | None) -> dict[str, RunPlan]:
    """The benchmarks that are there."""
    plans = {}
    for entry in entries():
        folder = data / entry.benchmark
        if entry.benchmark not in plans and folder.is_dir():
            plans[entry.benchmark] = read_plan(find_benchmark(entry.benchmark), folder, entry.variant, limit=limit)
    return plans


def _run(machine: Machinery, plans: dict[str, RunPlan], output: Path, retry: bool) -> dict[PaperRun, Path]:
    files: dict[PaperRun, Path] = {}
    todo = [entry for entry in entries() if entry.benchmark in plans]
    models: dict[Any, Any] = {}
    for entry in todo:
        check_before_loading(plans[entry.benchmark], entry.setup, machine.loading, output / entry.file, retry=retry)
    for number, entry in enumerate(todo, 1):
        note(f"run {number} of {len(todo)}: {entry.benchmark}, {entry.label}", "bold")
        files[entry] = output / entry.file
        with closing(machine.start(entry.setup, models)) as engine, quiet_stdout(), RunMeter() as meter:
            plan = plans[entry.benchmark]
            evaluate(plan, entry.setup, engine, files[entry], retry=retry, on_progress=meter.update)
    return files


def _print_runs(plans: dict[str, RunPlan]) -> None:
    rows, total = [], 0.0
    for entry in entries():
        plan = plans.get(entry.benchmark)
        questions = plan.questions if plan else MOST_QUESTIONS[entry.benchmark]
        videos = len(plan.items) if plan else questions
        hours = gpu_hours(videos, questions, entry.evicts)
        total += hours
        count = f"{videos:,}" if plan else f"at most {videos:,}"
        policy, cap = entry.setup.policy, f"{entry.setup.config.memory:,}"
        rows.append((entry.benchmark, entry.label, policy, cap, count, f"{questions:,}", f"{hours:.1f}"))
    columns = ("benchmark", "run", "policy", "cap", "videos", "questions", "GPU hours")
    notes = (
        f"{len(rows)} runs, {total:.0f} GPU hours by arithmetic: Qwen2.5-VL-7B on an A100 at 30% of its bfloat16 peak,",
        "every video at its maximum of 768 frames; decoding the videos comes on top. Nobody has run this yet.",
    )
    print_tables([Table("What would run", columns, tuple(rows), notes)])


def _side_by_side(runs: dict[PaperRun, Run]) -> list[Table]:
    """Published and measured, a table a benchmark, and the memory."""
    made = []
    for benchmark in dict.fromkeys(entry.benchmark for entry in runs):
        of_it = {entry: run for entry, run in runs.items() if entry.benchmark == benchmark}
        made.append(_table(benchmark, of_it))
    return [*made, _memory(runs)]


def _table(benchmark: str, runs: dict[PaperRun, Run]) -> Table:
    from infinipot.evaluate.core.statistics import estimate
    from infinipot.evaluate.report import share

    rows, measured = [], []
    models: list[str] = []
    for entry, run in runs.items():
        theirs = [
            row
            for row in published(benchmark, entry.variant, run.settings["model"])
            if row.may_be_of(run.settings["sampling"]["frames"]) and row.method.partition(",")[0] == entry.published
        ]
        shown = " or ".join(dict.fromkeys(f"{row.values['overall']:.1f}" for row in theirs)) or "none"
        own = estimate(run.scored(), run.average)
        rows.append((entry.label, shown, share(own, run.lacking(), "overall") or "nothing scored"))
        measured.append(own.get("overall"))
        models = published_models(benchmark, entry.variant)
    notes = [f"Published: {PAPER}, for {', '.join(models)} alone; not measured here."]
    limits = {run.settings["limit"] for run in runs.values()} - {None}
    notes += [f"Measured: {counted(limit, 'video')} alone, the first." for limit in limits]
    title = f"{find_benchmark(benchmark).title}, overall, %"
    return Table(title, ("run", "published", "measured"), tuple(rows), (*notes, *notes_on(measured, "video")))


def _memory(runs: dict[PaperRun, Run]) -> Table:
    from infinipot.evaluate.report import cost

    rows = []
    for entry, run in runs.items():
        spent = cost(run)
        theirs = MEMORY.get(entry.published or "")
        rows.append(
            (
                f"{entry.benchmark}, {entry.label}",
                "none" if theirs is None else f"{theirs:.2f} GB",
                f"{spent.peak / 1e9:.2f} GB",
                f"{spent.cache / 1e9:.2f} GB",
            )
        )
    columns = ("run", "published", "measured", "KV cache")
    source = f"Published: {PAPER}, table A4, 50K tokens of context on an A100-80GB; the model is not named there."
    return Table("Peak memory", columns, tuple(rows), (source,))
