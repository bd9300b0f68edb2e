"""What a gate ahead of the model saves, and what it loses.

python perf/gate.py                           # all of it, with one model of 55 M parameters on random weights
python perf/gate.py --only answers --clips 8
python perf/gate.py --only answers --asked witness --dtype bfloat16
python perf/gate.py --model tiny --frames 32 --only speed

speed    frames a second without a gate and with one, a block of frames in turn. Cameras: one that stands still, with a
         sensor's noise; one past which something moves all the time; one that pans. Seconds are the processor's own, so
         that what else runs on the machine is left out. And what the gate itself takes of the time that a patch takes
         without one
events   a coloured shape that is there for one temporal patch, before a still and noisy camera: how many of the cells
         that it covers a twentieth of are given to the model while it is there
answers  `infinipot bench needle`'s questions on held-out clips, with a gate and without, and the share of tokens that
         the gate leaves out; differences with their 95% interval over clips
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from shapes import SHAPES

import infinipot
from infinipot.config import POLICY
from infinipot.embedded.drawing import coverage
from infinipot.embedded.facts import BACKGROUNDS, HELD_OUT_SEEDS
from infinipot.embedded.scenery import surface
from infinipot.embedded.words import COLOURS
from infinipot.engine import watching
from infinipot.evaluate.core.statistics import clustered, difference, estimate, over_questions
from infinipot.evaluate.needle.case import Case, Scene
from infinipot.evaluate.needle.memories import run
from infinipot.evaluate.needle.plan import FPS as CLIP_FPS
from infinipot.evaluate.needle.plan import MIX, SECONDS, holders_at

ROWS, COLUMNS = 8, 16  # cells of a frame of the large model: 128 tokens a temporal patch
NOISE = 2.0  # of a sensor: the standard deviation of each colour of each pixel, of 255
SMALL = 64  # pixels on each side of the embedded model's frames
Drawn = Callable[[int], np.ndarray]


def noisy(image: np.ndarray, number: int) -> np.ndarray:
    drawn = np.random.default_rng(number).normal(0, NOISE, image.shape)
    return (image + drawn).round().clip(0, 255).astype(np.uint8)


def cameras(height: int, width: int) -> dict[str, Drawn]:
    """Frames of each camera, by their number."""
    wide = surface(np.random.default_rng(1), 2 * max(height, width))
    scene = wide[:height, :width]

    def passing(number: int) -> np.ndarray:
        image, side = scene.copy(), height // ROWS
        left = (number * side // 2) % (width - side)
        image[height // 2 : height // 2 + side, left : left + side] = (250, 20, 20)
        return noisy(image, number)

    def panning(number: int) -> np.ndarray:
        across = 12 * number % (wide.shape[1] - width)
        return noisy(wide[:height, across : across + width], number)

    return {"still": lambda number: noisy(scene, number), "passing": passing, "panning": panning}


def speed(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    model = SHAPES[given.model]("cpu", torch.float32)
    side = int(model.adapter.cell_pixels**0.5)
    height, width = ROWS * side, COLUMNS * side
    for name, camera in cameras(height, width).items():
        streams = [
            model.stream(given.memory, given.policy, pixels=(height * width,) * 2, gate=gate)
            for gate in (None, given.gate)
        ]
        block = 2 * streams[0]._setup.budget.block_patches(ROWS * COLUMNS)
        seconds: tuple[list[float], list[float]] = ([], [])
        gating = _Timed()
        with gating:
            for first in range(0, given.frames, block):
                images = [camera(number) for number in range(first, first + block)]
                for stream, taken in zip(streams, seconds, strict=True):
                    start = time.process_time()
                    for number, image in enumerate(images, first):
                        stream.watch(infinipot.Frame(image, number / 2))
                    taken.append(time.process_time() - start)
        played = block * len(seconds[0])
        plain, gated = (played / sum(taken) for taken in seconds)
        if not gating.seconds:
            raise RuntimeError("no choice of the gate was timed: the engine makes it in another way")
        stats = streams[1].stats()
        yield {
            "camera": name,
            "frames": played,
            "frames_per_second": plain,
            "gated_frames_per_second": gated,
            "times": gated / plain,
            "gated_share": stats.gated_tokens / (stats.patches * ROWS * COLUMNS),
            "gate_seconds_a_patch": statistics.median(gating.seconds),
            "gate_overhead": statistics.median(gating.seconds) / (2 / plain),
        }


class _Timed:
    """Writes down, while it is entered, what each choice of the gate takes."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __enter__(self) -> None:
        admitted = self._before = watching._admitted

        def timed(setup: Any, pending: Any, full: Any) -> Any:
            start = time.process_time()
            made = admitted(setup, pending, full)
            if setup.gate is not None:
                self.seconds.append(time.process_time() - start)
            return made

        watching._admitted = timed

    def __exit__(self, *_: object) -> None:
        watching._admitted = self._before


def events(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Shapes of any colour, size and place, two frames each, before surfaces of the embedded model's world."""
    model = infinipot.load("embedded")
    covered = lost = wholly = 0
    for seed in range(given.events):
        rng = np.random.default_rng((seed, 5))
        scene = surface(rng, SMALL)
        shape = str(rng.choice(["circle", "square", "triangle", "diamond"]))
        x, y = rng.uniform(8, SMALL - 8, 2).tolist()
        inside = coverage(shape, x, y, rng.uniform(3, 10), SMALL)[..., None]
        colour = list(COLOURS.values())[rng.integers(len(COLOURS))]
        event = scene + inside * (np.array(colour, np.float32) - scene)
        images = [noisy(event if number in (6, 7) else scene, 100 * seed + number) for number in range(16)]
        with model.stream(600, "full", positions="native", block=1, gate=given.gate) as stream:
            for image in images:
                stream.watch(image)
            group = stream._state.memory.groups[0]
            patch, cell = (group.columns[name][0, : stream.stats().tokens] for name in ("patch", "cell"))
            shown = set(cell[patch == 3].tolist())
        cells = inside[..., 0].reshape(4, 16, 4, 16).mean((1, 3)).flatten()
        touched = set(np.flatnonzero(cells >= 0.05).tolist())
        covered += len(touched)
        lost += len(touched - shown)
        wholly += bool(touched) and not touched & shown
    yield {"events": given.events, "cells": covered, "cells_lost": lost, "events_lost": wholly}


def answers(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    model = infinipot.load(given.asked, dtype=given.dtype)
    first = HELD_OUT_SEEDS.start + 700
    for kind, background in enumerate(BACKGROUNDS):
        found: dict[tuple[int, bool], list[tuple[int, bool]]] = {}
        gated: list[float] = []
        for number in range(given.clips):
            cast, count = MIX[number % len(MIX)]
            scene = Scene(first + 1000 * kind + number, SECONDS, CLIP_FPS, count, background, cast)
            cases = [
                Case(scene, replace(holder, gate=gate))
                for part in given.shares
                for holder in holders_at([given.policy], part)
                for gate in (None, given.gate)
            ]
            for case, record in zip(cases, run(model, cases), strict=True):
                key = case.holder.kept, case.holder.gate is not None
                found.setdefault(key, []).extend((scene.seed, answer.correct) for answer in record.answers)
                if key[1]:
                    gated.append(record.stats["gated_tokens"] / (record.stats["patches"] * record.cells))
        for part in given.shares:
            kept = holders_at([given.policy], part)[0].kept
            plain, ours = (clustered(found[kept, gate]) for gate in (False, True))
            apart = difference(plain, ours, over_questions)
            row: dict[str, Any] = {"background": background, "kept": f"1/{part}"}
            row["gated_share"] = statistics.mean(gated)
            shares = (estimate(scores, over_questions)["overall"] for scores in (plain, ours))
            for name, one in zip(("plain", "gated", "difference"), (*shares, apart), strict=True):
                assert one is not None
                row |= {name: one.value, "low": one.low, "high": one.high, "answers": one.questions}
            yield row


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "speed": speed,
    "events": events,
    "answers": answers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="may be repeated; all by default")
    parser.add_argument("--gate", default="otsu")
    parser.add_argument("--policy", default=POLICY)
    parser.add_argument("--model", choices=("middle", "tiny"), default="middle")
    parser.add_argument("--asked", choices=("embedded", "witness"), default="embedded", help="whose answers count")
    parser.add_argument("--dtype", default="auto", help="of the weights of the model that is asked")
    parser.add_argument("--memory", type=int, default=4096)
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--shares", type=lambda text: [int(part) for part in text.split(",")], default=[4, 8, 32])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.only or PARTS:
        for row in PARTS[name](given):
            print(json.dumps({"part": name} | row), flush=True)


if __name__ == "__main__":
    main()
