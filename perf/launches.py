"""How many kernels one compression starts on a GPU, counted by the profiler on the CPU.

    python perf/launches.py
    python perf/launches.py --policy novelty --tokens 50000 --json

A launch costs some 5 microseconds on a GPU whatever the kernel does, so a pass is as good as it has few of them,
however much is held. The shapes are those of Qwen2.5-VL-7B (28 layers of 4 KV heads, 128 wide) at memories of 6,144 and
50,000 tokens, and of Qwen3-VL-8B (36 layers of 8 KV heads) with a caption before each patch. Blocks of eight patches
come in until there is no room for another one; what is counted is the commit of the last, which measures its tokens,
ranks all and moves what stays. It is the third compression, so that heads hold different tokens. Counted is what a GPU
would be given: what is done otherwise on a CPU, whose numbers may be looked at, is switched off.
"""

import argparse
import json
from types import SimpleNamespace

import torch
from compression import as_on_a_gpu, open_memory, profiled

from infinipot import policies
from infinipot.memory import Memory, Transaction
from infinipot.policies import Policy

CAPTION = 14  # tokens of text with each patch, of Qwen3-VL's time stamps
PATCHES = 8  # of a block
SHAPES = (
    {"shape": "Qwen2.5-VL-7B", "layers": 28, "heads": 4, "tokens": 6144, "captions": 0, "target": 400},
    {"shape": "Qwen2.5-VL-7B", "layers": 28, "heads": 4, "tokens": 50_000, "captions": 0, "target": 400},
    {"shape": "Qwen3-VL-8B", "layers": 36, "heads": 8, "tokens": 6144, "captions": CAPTION, "target": 900},
)


def fill(memory: Memory, transaction: Transaction, given: SimpleNamespace) -> None:
    """Keys and values for a block, drawn from a few: the count does not depend on them."""
    grid, first = memory.use_grid(given.rows, given.columns), memory.cursor.patch
    for patch in range(first, first + PATCHES):
        transaction.video(grid, [float(patch)], given.captions)
    step = memory.step(transaction)
    drawn = torch.randn(1, step.end - step.start, given.dim, generator=torch.Generator().manual_seed(first))
    for group in memory.groups:
        for part in (group.keys, group.values):
            part[:, step.start : step.end] = drawn


def launches(policy: Policy, given: SimpleNamespace) -> int:
    """Kernels that the commit of a block starts in which the third compression falls."""
    memory = open_memory(policy, given)
    block = PATCHES * (given.rows * given.columns + given.captions)
    kept = 3 * given.tokens // 4
    while True:
        full = memory.held + 2 * block > given.tokens
        with memory.transaction() as transaction:
            fill(memory, transaction, given)

            def commit(transaction: Transaction = transaction, full: bool = full) -> None:
                memory.commit(transaction, policy=policy, budget_for=lambda text, video: kept if full else None)

            if full and memory.state.compressions == 2:
                return profiled(commit)[0]
            commit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--policy", action="append", help="a name or a spec; may be given more than once")
    parser.add_argument("--tokens", action="append", type=int, help="only the shapes with a memory of so many")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    specs = arguments.policy or ["infinipot-v:combine=union", "infinipot-v:combine=two-stage", "novelty", "unusual"]
    with torch.inference_mode(), as_on_a_gpu():
        for shape in SHAPES:
            if arguments.tokens and shape["tokens"] not in arguments.tokens:
                continue
            given = SimpleNamespace(**shape, dim=128, rows=8, columns=16, dtype=arguments.dtype)
            for spec in specs:
                row = shape | {"policy": spec, "launches": launches(policies.make(spec), given)}
                if arguments.json:
                    print(json.dumps(row), flush=True)
                else:
                    told = f"{shape['shape']:14s} {shape['tokens']:6,} tokens, {shape['captions']:2} of text a patch"
                    print(f"{told}   {spec:32s} {row['launches']:5}   (target {shape['target']})", flush=True)


if __name__ == "__main__":
    main()
