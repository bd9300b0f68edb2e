"""`infinipot eval`: runs the field's benchmarks. Parsing and printing only.

Exit codes: 0 every question has an answer; 3 the run is over, but some videos or questions could not be used; else as
the program's: 1 an error, 2 wrong usage, 130 Ctrl-C.
"""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click

from infinipot.cli.eval_options import (
    SOME_LEFT_OUT,
    Shard,
    judge,
    judge_options,
    machinery,
    model_options,
    setup_options,
    setups,
)
from infinipot.cli.eval_report import judge as judge_command
from infinipot.cli.eval_report import print_sections, tell_judged
from infinipot.cli.eval_report import report as report_command
from infinipot.cli.eval_reproduce import reproduce
from infinipot.cli.meter import RunMeter, quiet_stdout
from infinipot.cli.output import note, print_json
from infinipot.evaluate import BENCHMARKS, PROTOCOLS, Benchmark
from infinipot.evaluate.core.tables import file_name
from infinipot.evaluate.judge import Judge, judge_run
from infinipot.evaluate.plan import read_plan
from infinipot.evaluate.reading import read_run, read_runs, submit
from infinipot.evaluate.records import counted
from infinipot.evaluate.run import check_before_loading, evaluate_together


@click.group(name="eval", invoke_without_command=True, short_help="Run the field's benchmarks, and report on runs.")
@click.option(
    "--list", "show_list", is_flag=True, help="List the benchmarks, where to get them, and their layout on disk."
)
@click.option("--json", "as_json_list", is_flag=True, help="With --list: print a JSON list.")
@click.pass_context
def eval_group(ctx: click.Context, show_list: bool, as_json_list: bool) -> None:
    """Run the field's benchmarks from their official files, compare runs, and repeat published tables.

    \b
    infinipot eval --list
    infinipot eval mlvu --data MLVU --model Qwen/Qwen2.5-VL-7B-Instruct --memory 7168 --output mlvu.jsonl
    infinipot eval report mlvu.jsonl mlvu-uniform.jsonl
    """
    if as_json_list and not show_list:
        raise click.UsageError("--json here needs --list; a command takes it after its name")
    if show_list:
        print_json([_described(one) for one in BENCHMARKS.values()]) if as_json_list else _print_list()
    elif ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _benchmark_command(benchmark: Benchmark) -> click.Command:
    @click.command(name=benchmark.name, short_help=f"{benchmark.title}: {benchmark.about}")
    @click.option("--data", required=True, type=click.Path(path_type=Path), help="The folder of the benchmark.")
    @click.option(
        "--variant",
        type=click.Choice(benchmark.variants),
        default=benchmark.variants[0],
        show_default=True,
        help="Which of its sets of questions.",
    )
    @click.option(
        "--protocol",
        type=click.Choice(_protocols(benchmark)),
        default=benchmark.default_protocol,
        show_default=True,
        help="Protocol: how questions are asked, and answers scored.",
    )
    @click.option(
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The run's file, .jsonl; an existing run is continued.  "
        f"[default: {benchmark.name}-VARIANT-POLICY.jsonl here, with -1-of-2 of a shard]  "
        "Where there are several policies, each puts its name at the end.",
    )
    @model_options
    @setup_options
    @judge_options
    @click.option(
        "--seed", type=int, default=0, show_default=True, help="Seed of answers that a protocol draws at random."
    )
    @click.option(
        "--shard", type=Shard(), default="1/1", help="Run one of n parts, such as 2/4, with a file of its own."
    )
    @click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Run the first N videos only.")
    @click.option("--retry", is_flag=True, help="Retry what could not be used before.")
    @click.option("--json", "as_json_lines", is_flag=True, help="Print the report as JSON.")
    @click.option("--verbose", is_flag=True, help="Show the messages of the libraries underneath.")
    def command(
        data: Path,
        variant: str,
        protocol: str,
        output: Path | None,
        seed: int,
        shard: tuple[int, int],
        limit: int | None,
        retry: bool,
        as_json_lines: bool,
        **given: Any,
    ) -> None:
        machine, grader = machinery(given), judge(given)
        PROTOCOLS[protocol].check(benchmark, variant)
        chosen = setups(benchmark, protocol, given)
        if len(chosen) > 1 and machine.engine == "ray":
            raise click.UsageError("--engine ray takes one --policy: give the command once for each")
        names = _outputs(output, f"{benchmark.name}-{variant}", [how.policy for how in chosen], shard)
        # What is quick to check comes before what takes long: the annotations and the files, then the model.
        plan = read_plan(benchmark, data, variant, shard, limit)
        for path, how in zip(names, chosen, strict=True):
            check_before_loading(plan, how, machine.loading, path, seed=seed, retry=retry)
        models: dict[Any, Any] = {}
        with ExitStack() as opened:
            engines = [opened.enter_context(closing(machine.start(how, models))) for how in chosen]
            runs = dict(zip(names, zip(chosen, engines, strict=True), strict=True))
            with quiet_stdout(), RunMeter() as meter:
                done = evaluate_together(plan, runs, seed=seed, retry=retry, on_progress=meter.update)
            for spread in filter(None, (engine.report() for engine in engines)):
                note(f"ray: {spread}")
        _finish(names, grader, as_json_lines)
        if done.problems:
            note(f"{counted(done.problems, 'problem')}, in {' and '.join(map(str, names))}", "yellow")
            if needed := max(line.reserve or 0 for path in names for line in read_run(path).problems):
                note(
                    f"--reserve {needed} would have room for every question so far; give it with another --output",
                    "yellow",
                )
            click.get_current_context().exit(SOME_LEFT_OUT)

    command.help = f"{benchmark.title}: {benchmark.about}. `infinipot eval --list` shows the layout that --data has."
    return command


def _protocols(benchmark: Benchmark) -> list[str]:
    return [name for name, protocol in PROTOCOLS.items() if benchmark.name in protocol.rules]


def _outputs(given: Path | None, default: str, policies: list[str], shard: tuple[int, int]) -> list[Path]:
    """The file of each policy's run: the given one, with the policy's name in it where there are several."""
    names = [file_name(policy) for policy in policies]
    if given is None:
        part = "" if shard == (1, 1) else f"-{shard[0]}-of-{shard[1]}"
        return [Path(f"{default}-{name}{part}.jsonl") for name in names]
    return [given] if len(names) == 1 else [given.with_stem(f"{given.stem}-{name}") for name in names]


def _finish(paths: list[Path], grader: Judge | None, as_json_lines: bool) -> None:
    """After the last answer: the judge, the files for a benchmark's own server, and the tables."""
    from infinipot.evaluate.report import report

    for path in paths:
        if grader is not None:
            tell_judged(judge_run(path, grader, on_verdict=lambda done, of: None))
        elif unjudged := sum(line.judged and line.correct is None for line in read_run(path).answers):
            how = f"infinipot eval judge {path} --judge-url ... --judge-model ..."
            note(f"{counted(unjudged, 'open answer')} not judged: {how}")
    runs = read_runs(paths)
    for run in runs:
        path = run.paths[0]
        if submission := submit(run, path.with_name(f"{path.stem}.submission.json")):
            note(submission)
    print_sections(report(runs), as_json_lines)


def _described(benchmark: Benchmark) -> dict[str, Any]:
    names = (
        "name",
        "title",
        "about",
        "paper",
        "source",
        "licence",
        "variants",
        "layout",
        "default_protocol",
        "streaming",
    )
    return {name: getattr(benchmark, name) for name in names} | {"protocols": _protocols(benchmark)}


def _print_list() -> None:
    for benchmark in BENCHMARKS.values():
        description = _described(benchmark)
        click.secho(f"{benchmark.name}", bold=True, nl=False)
        click.echo(f"  {benchmark.title}: {benchmark.about}")
        for name in ("paper", "source", "licence", "variants", "protocols"):
            value = description[name]
            click.echo(f"  {name:10}{value if isinstance(value, str) else ', '.join(value)}")
        click.echo("  layout    " + benchmark.layout.replace("\n", "\n            ") + "\n")


for _one in BENCHMARKS.values():
    eval_group.add_command(_benchmark_command(_one))
for _command in (report_command, judge_command, reproduce):
    eval_group.add_command(_command)
