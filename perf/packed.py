"""Eight streams in packed steps against the same streams one by one.

    python perf/packed.py
    python perf/packed.py --model witness --streams 4 --threads 2 --json
    python perf/packed.py --same --policy infinipot-v --policy keydiff --policy uniform --policy unusual

Each stream watches a clip of its own and is asked at its end. With `--same` all watch one clip, as policies do that are
compared: what they hold is the same, and is run over once, until one of them evicts. Several policies take turns.

Both ways take turns, each with fresh streams, and times are the best of `--repeats`: by the clock, and of the process
alone, which other work on the machine touches less. Answers have to be equal. Memory is what the process grows by while
packed streams watch and answer, above what the streams allocated when they were opened: one step of all of them.
"""

import argparse
import json
import sys
import time
from contextlib import ExitStack
from typing import Any

import numpy as np
import psutil
import torch

import infinipot
from infinipot.config import POLICY
from infinipot.embedded.facts import BACKGROUNDS
from infinipot.embedded.world import Clip
from infinipot.evaluate.needle.memories import frame_size

QUESTIONS = ("How many shapes have appeared so far?", "Is there a shape now?", "List all shapes, colour first.")


def run(model: infinipot.Model, given: argparse.Namespace, *, packed: bool) -> dict[str, Any]:
    """Seconds of watching and of answering by both clocks, the answers, and bytes that the process grew by."""
    size = frame_size(model)
    clips = [
        list(Clip(seed, given.seconds, events=6, background=BACKGROUNDS[seed % 3], cast="varied", size=size))
        for seed in range(1 if given.same else given.streams)
    ] * (given.streams if given.same else 1)
    policies = given.policy or [POLICY]
    process = psutil.Process()
    with ExitStack() as opened:
        streams = [
            opened.enter_context(model.stream(given.memory, policies[number % len(policies)]))
            for number in range(given.streams)
        ]
        before = process.memory_info().rss
        start = now()
        for frames in zip(*clips, strict=True):
            pairs = list(zip(streams, frames, strict=True))
            if packed:
                model.watch(pairs)
            else:
                for stream, frame in pairs:
                    stream.watch(frame)
        watched = now() - start
        answers, start = [], now()
        for question in QUESTIONS:
            if packed:
                answers.append(model.ask([(stream, question) for stream in streams], max_new_tokens=24))
            else:
                answers.append([stream.ask(question, max_new_tokens=24) for stream in streams])
        answered = now() - start
        grown = process.memory_info().rss - before
        held = sum(stream.stats().bytes for stream in streams)
    return {"watching": watched, "answering": answered, "answers": answers, "grown": grown, "held": held}


def now() -> np.ndarray:
    """Seconds by the clock, and those of the process alone."""
    return np.array([time.perf_counter(), time.process_time()])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=64.0)
    parser.add_argument("--memory", type=int, default=256)
    parser.add_argument("--policy", action="append")
    parser.add_argument("--same", action="store_true", help="all streams watch the same clip")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = infinipot.load(given.model, device="cpu")
    run(model, given, packed=True)  # what the first passes of a process pay for
    turns = [(run(model, given, packed=False), run(model, given, packed=True)) for _ in range(given.repeats)]
    equal = all(one["answers"] == together["answers"] for one, together in turns)
    row: dict[str, Any] = {"streams": given.streams, "equal": equal}
    for part in ("watching", "answering"):
        one, together = (np.min([turn[way][part] for turn in turns], axis=0).tolist() for way in (0, 1))
        for number, clock in enumerate(("", "_cpu")):
            row |= {f"{part}_one_by_one{clock}": one[number], f"{part}_packed{clock}": together[number]}
            row[f"{part}{clock}"] = one[number] / together[number]
    row |= {name: turns[-1][1][name] for name in ("grown", "held")}
    if given.json:
        print(json.dumps(row))
    else:
        print(
            f"{given.streams} streams of {given.model}, {given.threads} threads: answers",
            "equal" if equal else "DIFFER",
        )
        for part in ("watching", "answering"):
            for clock, name in (("", "by the clock"), ("_cpu", "of the process")):
                times = (
                    f"{row[f'{part}_one_by_one{clock}']:.2f} s one by one, {row[f'{part}_packed{clock}']:.2f} s packed"
                )
                print(f"{part:10s} {row[f'{part}{clock}']:.2f} times as fast {name}: {times}")
        print(f"memory     {row['grown'] / 2**20:.1f} MiB grown beside {row['held'] / 2**20:.1f} MiB held")
    return int(not equal)


if __name__ == "__main__":
    sys.exit(main())
