"""The options of `infinipot eval`, and what they stand for."""

import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import click

from infinipot import InfinipotError, extras
from infinipot.cli.options import options_of, pixel_options, pixels_of, policy_of, together
from infinipot.cli.output import load_quietly
from infinipot.config import POLICY, LoadConfig, StreamConfig
from infinipot.evaluate import Benchmark, FrameSampling, find_protocol
from infinipot.evaluate.benchmarks.annotations import UnusableError, read_text
from infinipot.evaluate.engines.base import STREAM_SETTINGS, Engine, RunConfig
from infinipot.evaluate.judge import PROMPT, Judge, key_from

SOME_LEFT_OUT = 3
"""The exit code of a run that is over, and could not use some of the videos or questions."""

_MODEL = options_of(
    LoadConfig, "model", "dtype", "device", "device_map", "attn_implementation", "revision", required=["model"]
)
_POLICIES = click.option(
    "--policy",
    "policies",
    multiple=True,
    default=[POLICY],
    show_default=True,
    metavar="POLICY",
    help="Policy: see `infinipot policies`. Several watch each video side by side, each with a file of its own.",
)
_MEMORY = [_POLICIES, *options_of(StreamConfig, *STREAM_SETTINGS)]
_FRAMES = (
    click.option(
        "--frames", type=click.IntRange(min=1), metavar="N", help="Number of frames per video, evenly spaced."
    ),
    click.option("--fps", type=float, help="Frames per second; with --frames, no more than those."),
    *pixel_options,
)
_ENGINE = (
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where videos are watched: in this process, or by Ray workers.",
    ),
    click.option(
        "--ray-address",
        metavar="ADDRESS",
        help='Address of a cluster, or "auto".  [default: start one on this machine]',
    ),
    click.option(
        "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="With Ray: number of models."
    ),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(min=0),
        help="With Ray: GPUs per model.  [default: 1 if there are any]",
    ),
    click.option(
        "--time-limit",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Give up a video after this long.  [default: none]",
    ),
)
_JUDGE = (
    click.option(
        "--judge-url", metavar="URL", help="An OpenAI-compatible service (up to /v1) that judges open answers."
    ),
    click.option("--judge-model", metavar="NAME", help="The judge's model."),
    click.option(
        "--judge-key-env",
        default="OPENAI_API_KEY",
        show_default=True,
        help="Environment variable with the judge's key.",
    ),
    click.option(
        "--judge-prompt",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A prompt file with {question}, {reference} and {answer} in it.  [default: the project's own]",
    ),
)


model_options = together(*_MODEL, *_ENGINE)
setup_options = together(*_MEMORY, *_FRAMES)
judge_options = together(*_JUDGE)


class Shard(click.ParamType):
    """A part of a run, written i/n with i from 1 on."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        number, _, count = str(value).partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            self.fail(f"{value!r} is not a shard: give its number and how many there are, such as 2/4", param, ctx)
        return int(number), int(count)


@dataclass(frozen=True, slots=True)
class Machinery:
    """The engine and workers that the options ask for."""

    loading: LoadConfig
    engine: str
    ray_address: str | None
    workers: int
    gpus_per_worker: float | None
    time_limit: float | None
    verbose: bool

    def start(self, setup: RunConfig, models: dict[LoadConfig, Any]) -> Engine:
        """The engine, with its models loaded; `models` keeps those of this process for another run.

        Raises:
            InfinipotError: Ray is asked for and not installed.
        """
        from infinipot.evaluate.engines.local import LocalEngine

        if self.engine == "local":
            if self.loading not in models:
                models[self.loading] = load_quietly(verbose=self.verbose, **asdict(self.loading))
            return LocalEngine(models[self.loading], setup, self.time_limit)
        extras.require("ray", "--engine ray")
        from infinipot.evaluate.engines.ray import RayEngine

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
    """Removes the values of `model_options` from the options."""
    if given["engine"] == "local" and (given["ray_address"] or given["workers"] > 1 or given["gpus_per_worker"]):
        raise click.UsageError("--ray-address, --workers and --gpus-per-worker need --engine ray")
    if (gpus := given["gpus_per_worker"]) is not None and gpus > 1 and gpus != int(gpus):
        raise click.UsageError(
            f"--gpus-per-worker {gpus:g}: give a fraction of one GPU, such as 0.5, or a whole number"
        )
    loading = LoadConfig(**{each.name: given.pop(each.name) for each in fields(LoadConfig) if each.name in given})
    names = ("engine", "ray_address", "workers", "gpus_per_worker", "time_limit", "verbose")
    return Machinery(loading, **{name: given.pop(name) for name in names})


def setups(benchmark: Benchmark, protocol: str | None, given: dict[str, Any]) -> list[RunConfig]:
    """Removes the values of `setup_options` from the options, one setup a policy; impossible values are usage errors.

    Raises:
        BenchmarkError: the protocol has no rules for the benchmark.
    """
    name = protocol or benchmark.default_protocol
    sampling = _sampling(find_protocol(name).frames(benchmark), given)
    policies = {policy_of(spec).spec: spec for spec in given.pop("policies")}  # each once
    try:
        config = StreamConfig(**{option: given.pop(option) for option in STREAM_SETTINGS}, pixels=sampling.pixels)
    except InfinipotError as error:
        raise click.UsageError(str(error)) from error
    return [RunConfig(benchmark.name, name, sampling, policy, config) for policy in policies.values()]


def _sampling(default: FrameSampling, given: dict[str, Any]) -> FrameSampling:
    frames, fps, least, most = (given.pop(name) for name in ("frames", "fps", "min_pixels", "max_pixels"))
    pixels = pixels_of(least, most) or default.pixels
    if frames is None and fps is None:
        return replace(default, pixels=pixels)
    try:
        return FrameSampling.of(frames, fps, pixels)
    except InfinipotError as error:
        raise click.UsageError(str(error)) from error


def judge(given: dict[str, Any]) -> Judge | None:
    """Removes the values of `judge_options` from the options; None if no judge is named."""
    url, model = given.pop("judge_url"), given.pop("judge_model")
    variable, prompt = given.pop("judge_key_env"), given.pop("judge_prompt")
    if (url is None) != (model is None):
        raise click.UsageError("give both --judge-url and --judge-model, or neither")
    if url is None:
        if prompt is not None:
            raise click.UsageError("--judge-prompt is for a judge: give --judge-url and --judge-model, too")
        return None
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--judge-url {url}: give an address that begins with http:// or https://")
    try:
        text = PROMPT if prompt is None else read_text(prompt)
    except UnusableError as error:
        raise click.UsageError(f"--judge-prompt {prompt}: the file {error}") from error
    if lacking := [each for each in ("{reference}", "{answer}") if each not in text]:
        raise click.UsageError(f"--judge-prompt {prompt}: a judge would not see what it grades; put {lacking[0]} in it")
    return Judge(url, model, key_from(variable), text)


def _has_gpus() -> bool:
    import torch

    return torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
