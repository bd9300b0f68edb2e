"""How long one eviction takes, next to a plain copy of what it evicts from.

    python benchmarks/compression.py
    python benchmarks/compression.py --policy infinipot-v:combine=union --policy van --dtype bfloat16

A pass is, for every layer: select, put the indices in order, gather keys, values and coordinates into a spare
layer that exists already. The copy moves the same keys and values, all N of them, into storage of the same
kind. The default shape is that of Qwen2.5-VL-7B with 4480 video tokens held, of which 3360 stay. Keys are
random, and a tenth of the tokens has been evicted before, so that heads hold different ones. Times are
medians over passes taken in turn; scratch is the most memory that the select of one layer allocates at
once.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from infinipot import policies
from infinipot.policies import Grid, Policy, VideoTokens

TEMPORAL = 16  # rotary frequencies of 64 that turn with time


def layer_of_tokens(arguments: argparse.Namespace, layer: int, grid: Grid) -> VideoTokens:
    """One layer as it stands just before an eviction, in a buffer somewhat longer than what it holds."""
    shape = arguments.tokens + 512, arguments.heads, arguments.dim  # token by token, as the memory stores them
    buffer, others = (torch.randn(shape).to(getattr(torch, arguments.dtype)) for _ in range(2))
    keys, values = (stored[: arguments.tokens].transpose(0, 1) for stored in (buffer, others))
    seen = -(-arguments.tokens * 10 // 9 // grid.cells) * grid.cells
    index = torch.stack([torch.randperm(seen)[: arguments.tokens].sort().values for _ in range(arguments.heads)])
    patch, cell = (part.T.contiguous().T.int() for part in (index // grid.cells, index % grid.cells))
    frequency = 1e6 ** -(torch.arange(TEMPORAL) * 2 / arguments.dim)

    def unrotate(order: Tensor | None = None) -> Tensor:
        index = torch.arange(arguments.tokens).expand_as(patch) if order is None else order
        row = index * arguments.heads + torch.arange(arguments.heads)[:, None]
        turned = buffer.flatten(0, 1).index_select(0, row.flatten()).float().view(*index.shape, -1)
        angle = patch.gather(1, index)[..., None] * frequency
        cosine, sine, half = angle.cos(), angle.sin(), arguments.dim // 2
        first, second = turned[..., :TEMPORAL], turned[..., half : half + TEMPORAL]
        moved = second * cosine - first * sine
        first.mul_(cosine).addcmul_(second, sine)
        second.copy_(moved)
        return turned

    newest = seen // grid.cells - 1
    return VideoTokens(keys, values, patch, cell, (grid,), newest, layer, arguments.layers, unrotate)


def evict(policy: Policy, tokens: VideoTokens, spare: tuple[Tensor, ...]) -> None:
    """Select, and gather what stays into the spare layer: keys, values, patches, cells."""
    heads = tokens.cell.shape[0]
    kept = policy.select(tokens, spare[0].shape[0]).sort(dim=1).values
    row = (kept.T * heads + torch.arange(heads)).flatten()
    for source, target in zip((tokens.keys, tokens.values, tokens.patch, tokens.cell), spare, strict=True):
        torch.index_select(source.transpose(0, 1).flatten(0, 1), 0, row, out=target.flatten(0, 1))


def copy(tokens: VideoTokens, target: tuple[Tensor, Tensor]) -> None:
    target[0].copy_(tokens.keys)
    target[1].copy_(tokens.values)


def median_milliseconds(passes: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """The median time of each pass, the passes in turn, so that a busy machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in passes}
    for repeat in range(repeats + 1):
        for name, run in passes.items():
            start = time.perf_counter()
            run()
            if repeat:  # the first one warms up
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(taken) for name, taken in times.items()}


def peak_scratch(run: Callable[[], object]) -> int:
    """Most bytes that were allocated at once during the run and not before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    held = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


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

    grid = Grid(arguments.rows, arguments.columns, first_cell=0)
    layers = [layer_of_tokens(arguments, layer, grid) for layer in range(arguments.layers)]
    target = torch.empty_like(layers[0].keys), torch.empty_like(layers[0].values)
    fields = layers[0].keys, layers[0].values, layers[0].patch, layers[0].cell
    spare = tuple(torch.empty_like(field.transpose(0, 1)[: arguments.keep]) for field in fields)
    layer_bytes = sum(tensor.nbytes for tensor in target)

    every = [kind.name for kind in policies.available() if kind.evicts]
    chosen = {spec: policies.make(spec) for spec in arguments.policy or every}
    passes = {"copy": lambda: [copy(tokens, target) for tokens in layers]} | {
        spec: lambda policy=policy: [evict(policy, tokens, spare) for tokens in layers]
        for spec, policy in chosen.items()
    }
    taken = median_milliseconds(passes, arguments.repeats)

    threads = arguments.threads
    print(
        f"{arguments.layers} layers, {arguments.heads} KV heads of {arguments.dim}, {arguments.dtype}: "
        f"{arguments.tokens} -> {arguments.keep} tokens, {grid.cells} cells a patch, {threads} threads"
    )
    print(f"{'':36}{'ms':>8}{'x copy':>8}{'scratch, layers':>17}")
    print(f"{'copy':36}{taken['copy']:8.1f}{1:8.2f}")
    for spec, policy in chosen.items():
        scratch = peak_scratch(lambda policy=policy: policy.select(layers[0], arguments.keep)) / layer_bytes
        print(f"{spec:36}{taken[spec]:8.1f}{taken[spec] / taken['copy']:8.2f}{scratch:17.2f}")


if __name__ == "__main__":
    main()
