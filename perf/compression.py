"""How long a compression takes, next to a plain copy of the keys and values it works on.

    python perf/compression.py
    python perf/compression.py --policy infinipot-v:combine=union --policy van --dtype bfloat16

A pass is what a stream does once a block has come in: measure the new tokens, rank all, and move those that stay into
the slots of those that leave. The copy is of all keys and values of the video, into storage that was allocated and
touched before. The default shape is that of Qwen2.5-VL-7B, 4480 video tokens of which 3360 stay. The memory has been
compressed before, so heads hold different tokens. Each policy has a process of its own, in which copy and pass take
turns; times are medians. On a machine where other things run, take `--own --threads 1`. Launches are the kernels that
a pass starts on a GPU, as the profiler counts them on the CPU; scratch is the most memory that it allocates at once
there, as a share of all keys and values. `--captions` puts so many tokens of text with each patch.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from multiprocessing import get_context
from typing import TypeVar
from unittest import mock

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from infinipot import policies, tokens
from infinipot.memory import LayerShape, Memory, PositionRule, Rotary, Transaction
from infinipot.policies import Policy

T = TypeVar("T")

# What the profiler names and no device runs.
NO_KERNEL = {
    *("_local_scalar_dense", "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "detach_", "empty"),
    *("empty_like", "empty_strided", "expand", "is_nonzero", "item", "lift_fresh", "narrow", "permute", "reshape"),
    *("resize_", "resolve_conj", "resolve_neg", "result_type", "select", "slice", "split", "squeeze", "t", "to"),
    *("transpose", "unbind", "unflatten", "unsqueeze", "view", "view_as_complex", "view_as_real", "zeros"),
}


def open_memory(policy: Policy, arguments: argparse.Namespace) -> Memory:
    """A memory of the shape asked for, with Qwen2.5-VL's rotary layout."""
    shape = LayerShape(arguments.heads, arguments.dim, torch.device("cpu"), getattr(torch, arguments.dtype))
    half = arguments.dim // 2
    axes = [0] * (half // 4) + [1] * (3 * half // 8) + [2] * (3 * half // 8)
    rotary = Rotary(1.0 / 1e6 ** (torch.arange(half) / half), axes)
    rule = PositionRule(tokens_per_second=2.0)
    return Memory(arguments.tokens, [shape] * arguments.layers, rotary, rule, columns=policy.stored)


def fill(memory: Memory, transaction: Transaction, arguments: argparse.Namespace) -> None:
    """Random keys and values for as many new patches as find room."""
    grid = memory.use_grid(arguments.rows, arguments.columns)
    first, patches = memory.cursor.patch, (arguments.tokens - memory.held) // (grid.cells + arguments.captions)
    for patch in range(first, first + patches):
        transaction.video(grid, [float(patch)], arguments.captions)
    step = memory.step(transaction)
    for group in memory.groups:
        for part in (group.keys, group.values):
            part[:, step.start : step.end].normal_()


def milliseconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return 1e3 * (clock() - start)


def as_on_a_gpu() -> AbstractContextManager:
    """Has all done as on a GPU, for which nothing is looked at on the way."""
    return mock.patch.object(tokens, "AT_HAND", set())


def profiled(run: Callable[[], object]) -> tuple[int, int]:
    """Kernels that the run starts, views and allocations left out, and the most bytes that it allocates at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    held = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return sum(kernels(event) for event in profiled.events() if event.cpu_parent is None), peak


def kernels(event: FunctionEvent) -> int:
    """Those that an operation starts: those of what it calls, or, where there is none among it, its own."""
    own = event.name.startswith("aten::") and event.name.removeprefix("aten::") not in NO_KERNEL
    return sum(map(kernels, event.cpu_children)) or int(own)


def measure(policy: Policy, arguments: argparse.Namespace) -> dict[str, object]:
    """Milliseconds of the copy and of the pass, launches, and the scratch as a share of all keys and values."""
    memory = open_memory(policy, arguments)
    targets = [(torch.zeros_like(group.keys), torch.zeros_like(group.values)) for group in memory.groups]
    copies, passes = [], []
    clock = time.process_time if arguments.own else time.perf_counter

    def copy() -> None:
        for group, (keys, values) in zip(memory.groups, targets, strict=True):
            keys.copy_(group.keys)
            values.copy_(group.values)

    for repeat in range(arguments.repeats + 2):
        times = milliseconds(copy, clock), compress(memory, policy, arguments, partial(milliseconds, clock=clock))
        if repeat > 1:  # the first ones touch the storage, and make the heads differ
            copies.append(times[0])
            passes.append(times[1])
    stored = sum(group.keys.nbytes + group.values.nbytes for group in memory.groups)
    copied, passed = statistics.median(copies), statistics.median(passes)
    launches, scratch = counts(policy, arguments)
    return {
        "policy": policy.spec,
        "copy_ms": round(copied, 1),
        "pass_ms": round(passed, 1),
        "ratio": round(passed / copied, 2),
        "launches": launches,
        "scratch": round(scratch / stored, 3),
    }


def compress(memory: Memory, policy: Policy, arguments: argparse.Namespace, measured: Callable[[Callable], T]) -> T:
    """What is measured of the pass behind one more block."""
    with memory.transaction() as transaction:
        fill(memory, transaction, arguments)
        return measured(lambda: memory.commit(transaction, policy=policy, budget_for=lambda *_: arguments.keep))


def counts(policy: Policy, arguments: argparse.Namespace) -> tuple[int, int]:
    """Launches, and the most bytes of scratch, of the third pass of a memory that is on a GPU as far as it knows."""
    with as_on_a_gpu():
        memory = open_memory(policy, arguments)
        for _ in range(2):
            compress(memory, policy, arguments, lambda run: run())
        return compress(memory, policy, arguments, profiled)


def measure_alone(spec: str, arguments: argparse.Namespace) -> dict[str, object]:
    """The measurement of a policy in a process that has measured no other, whose heap is as that one left it."""
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        return measure(policies.make(spec), arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--policy", action="append", help="a name or a spec; may be given more than once")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    for option, default in {"layers": 28, "heads": 4, "dim": 128, "tokens": 4480, "keep": 3360}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--columns", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--captions", type=int, default=0, help="tokens of text with each patch")
    parser.add_argument("--own", action="store_true", help="the processor's time, where other things run beside it")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    every = [kind.name for kind in policies.available() if kind.evicts]
    if not arguments.json:
        print(f"{arguments.layers} layers, {arguments.tokens} -> {arguments.keep} tokens, {arguments.dtype}")
        print(f"{'policy':44s} copy ms   pass ms   pass / copy   launches   scratch")
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for spec in arguments.policy or every:
            row = processes.submit(measure_alone, spec, arguments).result()
            if arguments.json:
                print(json.dumps(row), flush=True)
            else:
                times = f"{row['copy_ms']:7}   {row['pass_ms']:7}   {row['ratio']:11}"
                print(f"{spec:44s} {times}   {row['launches']:8}   {row['scratch']:7}", flush=True)


if __name__ == "__main__":
    main()
