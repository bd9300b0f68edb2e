"""How long a compression takes, next to a plain copy of the keys and values it works on.

    python benchmarks/compression.py
    python benchmarks/compression.py --policy infinipot-v:combine=union --policy van --dtype bfloat16

A pass is what a stream does: for every layer, select what stays, and gather its keys, values and coordinates into the
spare slab. The copy moves all video keys and values into storage that was allocated and touched before. The default
shape is that of Qwen2.5-VL-7B, 4480 video tokens of which 3360 stay. The memory has been compressed before, so heads
hold different tokens. Copy and pass take turns, and times are medians. Scratch is the most memory that choosing one
layer's tokens allocates at once, as a share of the layer's keys and values.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from infinipot import policies
from infinipot.memory import Draft, LayerShape, Memory, PositionRule, Rotary
from infinipot.policies import Policy


def open_memory(arguments: argparse.Namespace) -> Memory:
    """A memory of the shape asked for, with Qwen2.5-VL's rotary layout."""
    shape = LayerShape(arguments.heads, arguments.dim, torch.device("cpu"), getattr(torch, arguments.dtype))
    half = arguments.dim // 2
    axes = [0] * (half // 4) + [1] * (3 * half // 8) + [2] * (3 * half // 8)
    rotary = Rotary(1.0 / 1e6 ** (torch.arange(half) / half), axes)
    return Memory(arguments.tokens, [shape] * arguments.layers, rotary, PositionRule(tokens_per_second=2.0))


def fill(memory: Memory, draft: Draft, arguments: argparse.Namespace) -> None:
    """Random keys and values for as many new patches as find room."""
    grid = memory.use_grid(arguments.rows, arguments.columns)
    first, patches = memory.cursor.patch, (arguments.tokens - memory.held) // grid.cells
    draft.video(grid, [float(patch) for patch in range(first, first + patches)])
    for layer, bounded in enumerate(memory.cache.bounded):
        states = torch.randn(2, 1, arguments.heads, draft.tokens, arguments.dim, dtype=bounded.shape.dtype)
        memory.cache.update(states[0], states[1], layer)


def milliseconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def scratch(run: Callable[[], object]) -> int:
    """Most bytes that were allocated at once during the run and not before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    held = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def measure(policy: Policy, arguments: argparse.Namespace) -> tuple[float, float, float]:
    """Milliseconds of the copy and of the pass, and the scratch as a share of a layer."""
    memory = open_memory(arguments)
    targets = [
        (torch.zeros_like(layer.slab.keys), torch.zeros_like(layer.slab.values)) for layer in memory.cache.bounded
    ]
    copies, passes = [], []
    for repeat in range(arguments.repeats + 2):
        with memory.draft() as draft:
            fill(memory, draft, arguments)

            def copy() -> None:
                for layer, (keys, values) in zip(memory.cache.bounded, targets, strict=True):
                    keys.copy_(layer.slab.keys)
                    values.copy_(layer.slab.values)

            def compress(draft: Draft = draft) -> None:
                memory.commit(draft, policy=policy, keep=lambda text, video: arguments.keep)

            times = milliseconds(copy), milliseconds(compress)
        if repeat > 1:  # the first ones touch the storage, and make the heads differ
            copies.append(times[0])
            passes.append(times[1])
    tokens = memory.video_tokens(layer=0)
    cells = arguments.rows * arguments.columns
    used = scratch(lambda: policy.select(tokens, 3 * arguments.keep // 4 // cells * cells))
    held = tokens.keys.nbytes + tokens.values.nbytes
    return statistics.median(copies), statistics.median(passes), used / held


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
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)

    every = [kind.name for kind in policies.available() if kind.evicts]
    print(f"{arguments.layers} layers, {arguments.tokens} -> {arguments.keep} tokens, {arguments.dtype}")
    print(f"{'policy':44s} copy ms   pass ms   pass / copy   scratch / layer")
    with torch.inference_mode():
        for spec in arguments.policy or every:
            copy, taken, used = measure(policies.make(spec), arguments)
            print(f"{spec:44s} {copy:7.1f}   {taken:7.1f}   {taken / copy:11.2f}   {used:15.2f}", flush=True)


if __name__ == "__main__":
    main()
