"""What a stream costs on an accelerator at the shapes of real models, with random weights.

    python perf/gpu.py                                    # both models, some minutes on one card of 80 GB
    python perf/gpu.py --model qwen2.5-vl-7b --json
    python perf/gpu.py --model tiny --device cpu --frames 64 --caps 2048 --streams 1,2      # a try without a card

For each model:

    watch     frames a second of `--frames` frames of 128 tokens a temporal patch, at each cap
    phases    share of each phase in that time; the device is waited for at the end of each, so this run is slower
    memory    the most that the device holds beside the weights, at each cap and with a full cache
    answer    time to the first token and tokens a second, beside `generate` of transformers on as many cached tokens
    streams   frames and tokens a second of many streams in packed steps, of all streams together
    launches  kernels started and times that the host waits for the device, for a block, a compression and a token

A measurement that fails is told, and the others go on. Every result is printed as soon as it is there.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shapes import SHAPES
from torch.profiler import ProfilerActivity, profile
from transformers import DynamicCache

import infinipot
from infinipot.config import POLICY
from infinipot.memory import Memory
from infinipot.versions import versions

ROWS, COLUMNS = 8, 16  # cells of a frame: 128 tokens a temporal patch, the least that Qwen's processors make
QUESTION = "How many shapes have appeared so far?"
LAUNCHES = {"cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch"}
WAITS = {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"}


class Bench:
    """A model and the clip that its streams watch."""

    def __init__(self, name: str, given: argparse.Namespace) -> None:
        self.given = given
        start = time.perf_counter()
        dtype = torch.bfloat16 if given.device != "cpu" else torch.float32
        self.model = SHAPES[name](given.device, dtype)
        self.adapter = self.model.adapter
        side = int(self.adapter.cell_pixels**0.5)
        self.pixels = (ROWS * COLUMNS * side * side,) * 2
        drawn = np.random.default_rng(0)
        self.images = drawn.integers(0, 256, (32, ROWS * side, COLUMNS * side, 3), dtype=np.uint8)
        self.weights = self.held()
        self.parameters = sum(part.numel() for part in self.adapter.model.parameters())
        self.seconds_to_build = time.perf_counter() - start

    def open(self, cap: int, policy: str | None = None, **settings: Any) -> infinipot.Stream:
        return self.model.stream(cap, policy or self.given.policy, pixels=self.pixels, **settings)

    def frame(self, number: int) -> infinipot.Frame:
        return infinipot.Frame(self.images[number % len(self.images)], number / 2)

    def play(self, stream: infinipot.Stream, frames: int, first: int = 0) -> float:
        """Seconds that a stream takes for so many frames, until the device is done."""
        self.wait()
        start = time.perf_counter()
        for number in range(first, first + frames):
            stream.watch(self.frame(number))
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        if self.given.device != "cpu":
            torch.cuda.synchronize()

    def held(self) -> int:
        return torch.cuda.memory_allocated() if self.given.device != "cpu" else 0

    def timed(self, run: Callable[[], object], times: int = 3) -> float:
        """The shortest of several runs, in seconds, until the device is done."""
        best = float("inf")
        for _ in range(times):
            self.wait()
            start = time.perf_counter()
            run()
            self.wait()
            best = min(best, time.perf_counter() - start)
        return best


def watch(bench: Bench) -> Iterator[dict[str, Any]]:
    frames = bench.given.frames
    with bench.open(bench.given.caps[0]) as stream:
        bench.play(stream, min(frames, 128))  # what the first passes of a process pay for
    for cap in bench.given.caps:
        with bench.open(cap) as stream:
            taken = bench.play(stream, frames)
            stats = stream.stats()
        yield {
            "cap": cap,
            "frames_per_second": frames / taken,
            "seconds": taken,
            "compressions": stats.compressions,
            "tokens": stats.tokens,
            "host_seconds": stats.seconds,
        }


def phases(bench: Bench) -> Iterator[dict[str, Any]]:
    frames = bench.given.frames // 2
    for cap in bench.given.caps:
        with bench.open(cap) as stream:
            bench.play(stream, bench.given.frames // 4)
            with _waiting(bench) as spent:
                taken = bench.play(stream, frames, bench.given.frames // 4)
        known = sum(spent.values())
        shares = {name: seconds / taken for name, seconds in spent.items()} | {"rest of the host": 1 - known / taken}
        yield {"cap": cap, "frames_per_second": frames / taken, "shares": shares}


@contextmanager
def _waiting(bench: Bench) -> Iterator[dict[str, float]]:
    """Seconds by phase, the device waited for at both ends of each."""
    spent = {"processor": 0.0, "vision": 0.0, "prefill": 0.0, "compress": 0.0}

    def wrapped(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            bench.wait()
            start = time.perf_counter()
            made = run(*args, **kwargs)
            bench.wait()
            spent[name] += time.perf_counter() - start
            return made

        return inner

    adapter: Any = bench.adapter
    commit = Memory.commit
    for name, method in (("processor", "prepare"), ("vision", "encode"), ("prefill", "forward")):
        setattr(adapter, method, wrapped(name, getattr(adapter, method)))
    Memory.commit = wrapped("compress", commit)
    try:
        yield spent
    finally:
        Memory.commit = commit
        for method in ("prepare", "encode", "forward"):
            delattr(adapter, method)
    if unseen := [name for name, seconds in spent.items() if not seconds]:
        raise RuntimeError(
            f"nothing was timed of {', '.join(unseen)}: the engine calls it in another way, or no block was full"
        )


def memory(bench: Bench) -> Iterator[dict[str, Any]]:
    frames = bench.given.frames
    full = frames // 2 * (ROWS * COLUMNS + 24) + 1024
    runs: list[tuple[int, str, dict[str, Any]]] = [(cap, bench.given.policy, {}) for cap in bench.given.caps]
    for cap, policy, settings in (*runs, (full, "full", {"positions": "native", "block": 8, "reserve": 256})):
        if bench.given.device != "cpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        with bench.open(cap, policy, **settings) as stream:
            taken = bench.play(stream, frames)
            stream.ask(QUESTION, max_new_tokens=1)
            stats = stream.stats()
        peak = torch.cuda.max_memory_allocated() if bench.given.device != "cpu" else 0
        yield {
            "cap": cap,
            "policy": policy,
            "tokens": stats.tokens,
            "memory_bytes": stats.bytes,
            "peak_beside_weights": peak - bench.weights,
            "peak": peak,
            "frames_per_second": frames / taken,
        }


def answer(bench: Bench) -> Iterator[dict[str, Any]]:
    tokens = bench.given.tokens
    for cap in bench.given.caps:
        with bench.open(cap) as stream:
            bench.play(stream, min(bench.given.frames, 2 * cap // ROWS // COLUMNS + 64))
            stream.ask(QUESTION, max_new_tokens=2)
            first = bench.timed(lambda: stream.ask(QUESTION, max_new_tokens=1))
            whole = bench.timed(lambda: stream.ask(QUESTION, max_new_tokens=1 + tokens), 2)
            stats = stream.stats()
        asked = len(bench.adapter.tokenize(QUESTION)) + 12
        theirs = _generate(bench, stats.asked_tokens or stats.tokens, asked, tokens)
        yield {
            "cap": cap,
            "cached": stats.asked_tokens or stats.tokens,
            "first_token_seconds": first,
            "tokens_per_second": tokens / (whole - first),
            "transformers": theirs,
        }


def _generate(bench: Bench, cached: int, asked: int, tokens: int) -> dict[str, float]:
    """The same of transformers' own `generate`, with its own attention, on a cache of random text."""
    decoder, model = bench.adapter.language_model, bench.adapter.model
    ours = decoder.config._attn_implementation
    decoder.config._attn_implementation = "sdpa"
    try:
        ids = torch.randint(10, 500, (1, cached + asked), device=bench.given.device)
        with torch.inference_mode():
            cache = DynamicCache(config=model.config)
            for start in range(0, cached, 1024):
                part = ids[:, start : min(start + 1024, cached)]
                decoder(inputs_embeds=model.get_input_embeddings()(part), past_key_values=cache, use_cache=True)

            def run(count: int) -> None:
                if extra := cache.get_seq_length() - cached:
                    cache.crop(-extra)
                model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    past_key_values=cache,
                    max_new_tokens=count,
                    min_new_tokens=count,
                    do_sample=False,
                )

            run(2)
            first = bench.timed(lambda: run(1))
            whole = bench.timed(lambda: run(1 + tokens), 2)
    finally:
        decoder.config._attn_implementation = ours
    return {"first_token_seconds": first, "tokens_per_second": tokens / (whole - first)}


def streams(bench: Bench) -> Iterator[dict[str, Any]]:
    cap, tokens, model = bench.given.caps[0], bench.given.tokens, bench.model
    for count in bench.given.streams:
        opened = [bench.open(cap) for _ in range(count)]
        frames = max(96, bench.given.frames // count // 2)
        warm = 2 * cap // (ROWS * COLUMNS) + 16  # until the first compressions are over
        for number in range(warm):
            model.watch([(stream, bench.frame(number)) for stream in opened])

        def play(opened: list = opened, first: int = warm, frames: int = frames) -> None:
            for number in range(first, first + frames):
                model.watch([(stream, bench.frame(number)) for stream in opened])

        taken = bench.timed(play, 1)

        def ask(limit: int, opened: list = opened) -> None:
            model.ask([(stream, QUESTION) for stream in opened], max_new_tokens=limit)

        ask(2)
        first = bench.timed(lambda: ask(1))
        whole = bench.timed(lambda: ask(1 + tokens), 2)
        for stream in opened:
            stream.close()
        yield {
            "streams": count,
            "cap": cap,
            "frames_per_second": count * frames / taken,
            "first_token_seconds": first,
            "tokens_per_second": count * tokens / (whole - first),
        }


def launches(bench: Bench) -> Iterator[dict[str, Any]]:
    cap = bench.given.caps[0]
    with bench.open(cap, block=4) as stream:
        first = 2 * cap // (ROWS * COLUMNS) + 32
        bench.play(stream, first)
        stream.ask(QUESTION, max_new_tokens=4)
        before = stream.stats().compressions
        blocks = _counted(bench, lambda: bench.play(stream, 32, first), ours=2)
        compressions = stream.stats().compressions - before
        one = _counted(bench, lambda: stream.ask(QUESTION, max_new_tokens=1))
        more = _counted(bench, lambda: stream.ask(QUESTION, max_new_tokens=9))
        with _counting_commits(bench) as commits:
            bench.play(stream, 16, first + 32)
    yield {"of": "32 frames", "blocks": 4, "compressions": compressions, **blocks}
    yield {"of": "a question and its first token", **one}
    yield {"of": "a further token", **{name: (more[name] - one[name]) / 8 for name in one}}
    for commit in commits:
        yield {"of": "taking a block into the memory", **commit}


def _counted(bench: Bench, run: Callable[[], object], ours: int = 0) -> dict[str, float]:
    """Kernels that a run starts, and times that the host waits for the device, `ours` of them for the clock.

    On a CPU there are neither.
    """
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if bench.given.device != "cpu" else [])
    bench.wait()
    with profile(activities=activities) as profiled:
        run()
    found = {event.key: event.count for event in profiled.key_averages()}
    return {
        "launches": sum(count for name, count in found.items() if name in LAUNCHES),
        "waits": sum(count for name, count in found.items() if name in WAITS)
        - (ours if bench.given.device != "cpu" else 0),
        "copies": sum(count for name, count in found.items() if name == "cudaMemcpyAsync"),
    }


@contextmanager
def _counting_commits(bench: Bench) -> Iterator[list[dict[str, float]]]:
    """What each commit of a block starts."""
    counted: list[dict[str, float]] = []
    commit = Memory.commit

    def inner(*args: Any, **kwargs: Any) -> Any:
        made: list[Any] = []
        counted.append(_counted(bench, lambda: made.append(commit(*args, **kwargs))))
        return made[0]

    Memory.commit = inner
    try:
        yield counted
    finally:
        Memory.commit = commit


MEASUREMENTS = {each.__name__: each for each in (watch, phases, memory, answer, streams, launches)}


def told(row: dict[str, Any]) -> str:
    """A row in a line: numbers with as many digits as tell something."""

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name} {text(each)}" for name, each in value.items()) + "}"
        return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

    return "  ".join(f"{name}={text(value)}" for name, value in row.items())


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", action="append", choices=SHAPES, help="may be given more than once")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="may be given more than once")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--policy", default=POLICY)
    parser.add_argument("--frames", type=int, default=768)
    parser.add_argument("--caps", type=numbers, default=[4096, 8192])
    parser.add_argument("--streams", type=numbers, default=[1, 4, 16])
    parser.add_argument("--tokens", type=int, default=48, help="of an answer, behind the first")
    parser.add_argument("--out", type=Path, help="a file that results are added to, a line of JSON each")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    card = torch.cuda.get_device_name() if given.device != "cpu" else "cpu"
    written = given.out.open("a", encoding="utf-8") if given.out else None
    for name in given.model or ["qwen2.5-vl-7b", "qwen3-vl-8b"]:
        bench = Bench(name, given)
        built = {"parameters": bench.parameters, "weights": bench.weights, "seconds": bench.seconds_to_build}
        rows: Iterator[tuple[str, dict[str, Any]]] = iter([("built", built | {"versions": versions()})])
        for measurement in ("built", *(given.only or MEASUREMENTS)):
            start = time.perf_counter()
            if measurement != "built":
                rows = ((measurement, row) for row in MEASUREMENTS[measurement](bench))
            try:
                for kind, row in rows:
                    line = json.dumps({"model": name, "card": card, "measurement": kind} | row)
                    print(line if given.json else f"{name:14s} {kind:9s} {told(row)}", flush=True)
                    if written:
                        written.write(line + "\n")
                        written.flush()
            except Exception as error:  # the rest is worth having all the same
                print(f"{name:14s} {measurement:9s} failed: {type(error).__name__}: {error}", flush=True)
            if measurement != "built":  # before the clock started
                print(f"{name:14s} {measurement:9s} took {time.perf_counter() - start:.1f} s", flush=True)
        del bench
        if given.device != "cpu":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
