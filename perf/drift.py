"""How far keys drift that are re-based again and again: read as this project stores them, and moved in place.

    python perf/drift.py
    python perf/drift.py --dtype float16 --json

A stream in the shape of LLaVA-NeXT-Video (144 cells a frame, flat positions, 4,096 of them trained) watches ten hours
at half a frame a second, one in the shape of LLaVA-OneVision (196 cells, 32,768 positions) two hours at two. Tokens are
drawn by lot once for all, so that some of any age are held. Beside each key lies one that is moved as caches of rotated
keys are: turned by the difference at every re-basing, and rounded again. At the end both are compared with the exact
key at the token's position. Rounding once is the error of the exact key in the type of the memory.
"""

import argparse
import json
from dataclasses import dataclass, replace
from typing import Any

import torch

from infinipot import policies
from infinipot.memory import LayerShape, Memory, PositionRule, Rotary
from infinipot.tokens import Grid, VideoTokens

SHAPES = {  # rows and columns of a frame, head_dim, theta, trained positions, cap, frames a second, hours
    "llava_next_video": ((12, 12), 128, 1e4, 4096, 3072, 0.5, 10.0),
    "llava_onevision": ((14, 14), 64, 1e6, 32768, 8192, 2.0, 2.0),
}
DIRECTIONS = 64  # that keys take, so that each can be made again


@dataclass(frozen=True)
class Lasting(policies.Random):
    """Keeps tokens drawn by lot once for all."""

    name = "lasting"

    def score(self, tokens: VideoTokens) -> torch.Tensor:
        return super().score(replace(tokens, newest_patch=0))


class Moved:
    """A memory whose values are keys that were rotated once and are moved in place ever after."""

    def __init__(self, grid: tuple[int, int], dim: int, theta: float, cap: int, dtype: torch.dtype) -> None:
        half = dim // 2
        rotary = Rotary(1.0 / theta ** (torch.arange(half) / half), axes=[0] * half)
        shape = LayerShape(1, dim, torch.device("cpu"), dtype)
        self.memory = Memory(cap, [shape], rotary, PositionRule(flat=True))
        self.grid: Grid = self.memory.use_grid(*grid)
        self.group = self.memory.groups[0]
        self.raw = torch.randn(DIRECTIONS, dim, generator=torch.Generator().manual_seed(0)).to(dtype)

    def keys_of(self, patch: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        return self.raw[(patch.long() * 7 + cell.long()) % DIRECTIONS]

    def watch(self, times: list[float], keep: int, limit: int) -> None:
        with self.memory.transaction() as transaction:
            transaction.video(self.grid, times)
            step = self.memory.step(transaction)
            slots = slice(step.start, step.end)
            keys = self.keys_of(self.group.columns["patch"][0, slots], self.group.columns["cell"][0, slots])
            stored = self.memory.rotary.to_stored(keys)
            angles = self.memory.rotary.angles([step.positions[0]], step.highest)
            turned = self.memory.rotary.rotate_(stored.float(), angles)
            step.store(0, stored[None], turned[None].to(keys.dtype))
            self.memory.commit(transaction, policy=Lasting(), budget_for=lambda _, held: keep if held > keep else None)
        if self.memory.cursor.next > limit:
            self.rebase(7 * limit // 8, limit)

    def rebase(self, target: int, limit: int) -> None:
        before = self.group.columns["temporal"][0, : self.memory.held].clone()
        self.memory.rebase(target, limit, slow=True)
        shift = self.group.columns["temporal"][0, : self.memory.held].double() - before
        angle = shift[:, None] * self.memory.rotary.inv_freq
        keys = self.group.values[0, : self.memory.held].float()
        self.memory.rotary.rotate_(keys, torch.complex(angle.cos().float(), angle.sin().float()))
        self.group.values[0, : self.memory.held] = keys.to(self.group.values.dtype)

    def errors(self) -> dict[str, list[float]]:
        """Relative error of each key: mean and largest; and the mean turn of its pairs in radians."""
        held, rotary = self.memory.held, self.memory.rotary
        patch, cell, temporal = (self.group.columns[name][0, :held] for name in ("patch", "cell", "temporal"))
        angle = temporal.double()[:, None] * rotary.inv_freq
        exact = torch.view_as_complex(rotary.to_stored(self.keys_of(patch, cell)).double().unflatten(-1, (-1, 2)))
        exact = exact * torch.complex(angle.cos(), angle.sin())
        with self.memory.transaction() as transaction:
            transaction.text(1)
            read, _ = self.memory.step(transaction).read(0)
        found = {
            "rounded once": torch.view_as_real(exact).flatten(-2).to(self.raw.dtype),
            "read": read[0, :held],
            "moved in place": self.group.values[0, :held],
        }
        return {name: _difference(keys, exact) for name, keys in found.items()}


def _difference(keys: torch.Tensor, exact: torch.Tensor) -> list[float]:
    given = torch.view_as_complex(keys.double().contiguous().unflatten(-1, (-1, 2)))
    relative = (given - exact).abs().square().sum(-1).sqrt() / exact.abs().square().sum(-1).sqrt()
    turn = (given * exact.conj()).mean(0).angle().abs().max()
    return [relative.mean().item(), relative.max().item(), turn.item()]


def measure(name: str, dtype: torch.dtype, share: float) -> dict[str, Any]:
    """Watches a share of the hours of a shape."""
    grid, dim, theta, positions, cap, fps, hours = SHAPES[name]
    stream, patches = Moved(grid, dim, theta, cap, dtype), 4
    room = patches * grid[0] * grid[1]
    frames = int(hours * share * 3600 * fps)
    for first in range(0, frames, patches):
        times = [(first + number) / fps for number in range(patches)]
        stream.watch(times, keep=int(0.75 * (cap - room)), limit=positions - 512 - room)
    return {
        "shape": name,
        "dtype": str(dtype).removeprefix("torch."),
        "frames": frames,
        "rebases": stream.memory.state.rebases,
        **stream.errors(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dtype", action="append", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--share", type=float, default=1.0, help="of the hours that are watched")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with torch.inference_mode():
        for dtype in arguments.dtype or ["bfloat16", "float16"]:
            for name in SHAPES:
                row = measure(name, getattr(torch, dtype), arguments.share)
                if arguments.json:
                    print(json.dumps(row), flush=True)
                    continue
                print(f"{name}, {dtype}: {row['frames']} frames, {row['rebases']} re-basings")
                for kind in ("rounded once", "read", "moved in place"):
                    mean, largest, turn = row[kind]
                    print(
                        f"  {kind:15s} error {mean:8.3%}, at the most {largest:8.3%}; turned by {turn:.4f} rad",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
