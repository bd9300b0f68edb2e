"""What `infinipot eval` takes on the command line, and what that means."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

import infinipot
from infinipot import InfinipotError
from infinipot.cli.output import load_quietly
from infinipot.evaluate import Benchmark, Sampling, find_protocol
from infinipot.evaluate.benchmarks.annotations import UnusableError, read_text
from infinipot.evaluate.judge import PROMPT, Judge, key_from
from infinipot.evaluate.run import Engine
from infinipot.evaluate.setup import Loading, Setup
from infinipot.settings import check_settings

F = TypeVar("F", bound=Callable[..., Any])

_MODEL = (
    click.option("--model", required=True, metavar="ID_OR_PATH", help='A hub id, a folder, or "embedded".'),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        default="auto",
        show_default=True,
        help="Of the weights.",
    ),
    click.option("--device", default="auto", show_default=True, help="Such as cpu, cuda or cuda:1."),
    click.option("--device-map", help="Spread the layers over devices; overrides --device."),
    click.option("--attn-implementation", help="Such as sdpa or flash_attention_2."),
    click.option("--revision", help="Of a hub checkpoint."),
)
_MEMORY = (
    click.option("--policy", default="infinipot-v", show_default=True, help="What stays: see `infinipot policies`."),
    click.option("--memory", help="The cap: tokens, or an amount such as 256MiB.  [default: 4096, or what fits]"),
    click.option("--keep", type=float, default=0.75, show_default=True, help="Share that a compression leaves."),
    click.option("--block", type=int, metavar="N", help="Temporal patches that go through the model at once."),
    click.option("--reserve", type=int, metavar="N", help="Tokens kept free for a question and its answer."),
    click.option(
        "--positions", type=click.Choice(["rebase", "native"]), default="rebase", show_default=True, help="See `watch`."
    ),
)
_FRAMES = (
    click.option("--frames", type=click.IntRange(min=1), metavar="N", help="So many at even distances."),
    click.option("--fps", type=float, help="So many a second; with --frames, no more than that."),
    click.option("--min-pixels", type=click.IntRange(min=1), metavar="N", help="Least pixels of a resized frame."),
    click.option("--max-pixels", type=click.IntRange(min=1), metavar="N", help="Most pixels of a resized frame."),
)
_ENGINE = (
    click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True),
    click.option("--ray-address", metavar="ADDRESS", help='Of a cluster, or "auto".  [default: one on this machine]'),
    click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="With Ray: models."),
    click.option("--gpus-per-worker", type=click.FloatRange(min=0), help="With Ray.  [default: 1 where there are any]"),
    click.option(
        "--time-limit",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="For a video, after which it is given up.  [default: none]",
    ),
)
_JUDGE = (
    click.option("--judge-url", metavar="URL", help="An OpenAI-compatible service, up to /v1, for open answers."),
    click.option("--judge-model", metavar="NAME", help="Its model."),
    click.option(
        "--judge-key-env", default="OPENAI_API_KEY", show_default=True, help="Environment variable with its key."
    ),
    click.option(
        "--judge-prompt",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file with {question}, {reference} and {answer} in it.  [default: the project's own]",
    ),
)


def _together(*groups: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


model_options = _together(_MODEL, _ENGINE)
setup_options = _together(_MEMORY, _FRAMES)
judge_options = _together(_JUDGE)


class Shard(click.ParamType):
    """i/n, i from 1."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        number, _, count = str(value).partition("/")
        if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
            self.fail(f"{value!r} is no shard: give 1/4, 2/4, 3/4 or 4/4 for one of four", param, ctx)
        return int(number), int(count)


@dataclass(frozen=True, slots=True)
class Machinery:
    """Where models run, as it was asked for."""

    loading: Loading
    engine: str
    ray_address: str | None
    workers: int
    gpus_per_worker: float | None
    time_limit: float | None
    verbose: bool

    def start(self, setup: Setup, models: dict[Loading, Any]) -> Engine:
        """The engine, with its models loaded; `models` keeps those of this process for another run.

        Raises:
            InfinipotError: Ray is asked for and not installed.
        """
        from infinipot.evaluate.engines.local import Local
        from infinipot.evaluate.watch import Watcher

        if self.engine == "local":
            if self.loading not in models:
                given = {name: getattr(self.loading, name) for name in Loading.__slots__}
                models[self.loading] = load_quietly(given.pop("model"), self.verbose, **given)
            return Local(Watcher(models[self.loading], setup, self.time_limit))
        try:
            from infinipot.evaluate.engines.ray import RayEngine
        except ImportError as error:
            raise InfinipotError("--engine ray needs Ray: pip install 'infinipot[ray]'") from error
        gpus = self.gpus_per_worker
        if gpus is None:
            gpus = 0.0 if self.ray_address is None and not _has_gpus() else 1.0
        spread = self.loading.device_map or ("auto" if gpus > 1 else None)
        loading = replace(self.loading, device_map=spread)
        return RayEngine(
            loading,
            setup,
            address=self.ray_address,
            workers=self.workers,
            gpus=gpus,
            time_limit=self.time_limit,
        )


def machinery(given: dict[str, Any]) -> Machinery:
    """Takes what `model_options` gave out of the options."""
    if given["engine"] == "local" and (given["ray_address"] or given["workers"] > 1 or given["gpus_per_worker"]):
        raise click.UsageError("--ray-address, --workers and --gpus-per-worker go with --engine ray")
    if (gpus := given["gpus_per_worker"]) is not None and gpus > 1 and gpus != int(gpus):
        raise click.UsageError(f"--gpus-per-worker {gpus:g}: give a part of one, or whole ones")
    loading = Loading(**{name: given.pop(name) for name in Loading.__slots__})
    names = ("engine", "ray_address", "workers", "gpus_per_worker", "time_limit", "verbose")
    return Machinery(loading, **{name: given.pop(name) for name in names})


def setup(benchmark: Benchmark, protocol: str | None, given: dict[str, Any]) -> Setup:
    """Takes what `setup_options` gave out of the options; what no model could take is wrong usage.

    Raises:
        BenchmarkError: the protocol has no rules for the benchmark.
    """
    name = protocol or benchmark.default_protocol
    sampling = _sampling(find_protocol(name).frames(benchmark), given)
    kept = {option: given.pop(option) for option in ("memory", "keep", "block", "reserve", "positions")}
    try:
        infinipot.policies.make(given["policy"])
        check_settings(**kept, pixels=sampling.pixels)
    except InfinipotError as error:
        raise click.UsageError(str(error)) from error
    return Setup(benchmark.name, name, sampling, given.pop("policy"), **kept)


def _sampling(default: Sampling, given: dict[str, Any]) -> Sampling:
    frames, fps, least, most = (given.pop(name) for name in ("frames", "fps", "min_pixels", "max_pixels"))
    if (least is None) != (most is None):
        raise click.UsageError("--min-pixels and --max-pixels go together")
    pixels = default.pixels if least is None else (least, most)
    if frames is None and fps is None:
        return replace(default, pixels=pixels)
    return Sampling("fps" if frames is None else "uniform", frames, fps, pixels)


def judge(given: dict[str, Any]) -> Judge | None:
    """Takes what `judge_options` gave out of the options; None where no judge is named."""
    url, model = given.pop("judge_url"), given.pop("judge_model")
    variable, prompt = given.pop("judge_key_env"), given.pop("judge_prompt")
    if (url is None) != (model is None):
        raise click.UsageError("--judge-url and --judge-model go together")
    if url is None:
        return None
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--judge-url {url}: give an address that begins with http:// or https://")
    try:
        said = PROMPT if prompt is None else read_text(prompt)
    except UnusableError as error:
        raise click.UsageError(f"--judge-prompt {prompt}: the file {error}") from error
    return Judge(url, model, key_from(variable), said)


def _has_gpus() -> bool:
    import torch

    return torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
