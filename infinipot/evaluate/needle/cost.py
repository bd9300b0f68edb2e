"""Measures what a memory costs in bytes and seconds, each policy in a process of its own."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import infinipot
from infinipot.config import LoadConfig
from infinipot.evaluate.core.machine import peak_resident, resident
from infinipot.evaluate.needle.case import CELLS, Case, Holder, Scene
from infinipot.evaluate.needle.memories import LONGEST_ANSWER, frame_size, make_clip, options
from infinipot.evaluate.needle.plan import DEFAULT, FPS, LONG_EVENTS, LONG_FPS, LONG_KEPT, Extent

FRAMES = 768  # the paper's number
ASKED = 7  # times that the first token is timed
SAMPLES = 100
QUESTION = "How many shapes have appeared so far?"
# Qwen2.5-VL-7B: keys and values of a token take 2 x 28 layers x 4 KV heads x 128 x 2 bytes. With 768 frames, its
# processor's smallest video frames are what fits: 128 tokens a temporal patch, some 50K in all.
LARGE_TOKEN_BYTES = 2 * 28 * 4 * 128 * 2
LARGE_CELLS = 128
LARGE_CAPS = (4096, 8192)


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a memory: a line of the journal.

    Attributes:
        name: see `cases`.
        stats: of the stream, see `infinipot.Stats`.
        patch_seconds: from a frame given to its block in the memory, a temporal patch, drawing the frames left out.
        first_token_seconds: from a question to its first token, the median of several at one moment: what waits for its
            block is run over for the first of them alone.
        idle_bytes, peak_bytes: of the process, before the stream was opened and at the most.
        history: seconds of video, tokens held, those of a full cache, and bytes of the process, along the stream.
        code: of the policy, see `Holder`.
    """

    type: ClassVar[str] = "cost"

    name: str
    stats: dict[str, Any]
    patch_seconds: float
    first_token_seconds: float
    idle_bytes: int
    peak_bytes: int
    history: tuple[tuple[float, int, int, int], ...]
    code: str = ""


def cases(size: Extent, seed: int, code: Mapping[str, str]) -> dict[str, Case]:
    """What is measured, by name: each policy on 768 frames, caps in the proportion of 4K and 8K to the large model's
    full cache, and, where long streams are run, an hour.

    Args:
        code: of the policies that other packages bring, see `plan.code_of`.
    """
    frames = Scene(seed, FRAMES / FPS, FPS, LONG_EVENTS, "still", "varied", samples=SAMPLES)
    usual = {spec: Case(frames, Holder(spec, LONG_KEPT, 5)) for spec in _measured(size)}
    made = {"full": Case(frames, Holder("full")), **usual}
    for cap in LARGE_CAPS:
        room = round(cap / large_full() * frames.patches * CELLS)
        block = round(room / 4 / CELLS)
        made[f"cap {cap}"] = Case(frames, Holder(DEFAULT, room - block * CELLS, block, positions="native"))
    longest = max(seconds for seconds, _ in size.lengths)
    if longest >= 3600:
        hour = Scene(seed, 3600.0, LONG_FPS, LONG_EVENTS, "still", "varied", samples=SAMPLES)
        made["hour full"] = Case(hour, Holder("full"))
        made[f"hour {DEFAULT}"] = Case(hour, Holder(DEFAULT, LONG_KEPT, 5))
    return {name: case.with_code(code) for name, case in made.items()}


def large_full() -> int:
    """Tokens of 768 frames at the shape of the large model."""
    return FRAMES // 2 * LARGE_CELLS


def large_bytes(name: str) -> int | None:
    """KV bytes of the large model for a measurement of `cases`, in bfloat16; None where there is no counterpart."""
    tokens = {"full": large_full()} | {f"cap {cap}": cap for cap in LARGE_CAPS}
    return tokens[name] * LARGE_TOKEN_BYTES if name in tokens else None


def measure(name: str, loading: LoadConfig, case: Case) -> Cost:
    """Streams a clip, asks at its end, and tells what it took: to be run in a process of its own."""
    loaded = infinipot.load(loading.model, dtype=loading.dtype, device=loading.device)
    _warm_up(loaded)
    scene, history, watching = case.scene, [], 0.0
    clip = make_clip(scene, size=frame_size(loaded))
    idle = resident()
    with loaded.stream(**options(loaded, case.holder, scene)) as stream:
        for number, frame in enumerate(clip):
            start = time.perf_counter()
            stream.watch(frame)
            watching += time.perf_counter() - start
            if number % max(1, len(clip) // scene.samples) == 0:
                held = stream.stats()
                history.append((frame.time, held.tokens, held.full_tokens, resident()))
        stats = stream.stats().as_dict()
        first = []
        for _ in range(ASKED):
            start = time.perf_counter()
            stream.ask(QUESTION, max_new_tokens=1)
            first.append(time.perf_counter() - start)
        stream.ask(QUESTION, max_new_tokens=LONGEST_ANSWER)
    first_token = statistics.median(first)
    spent = (watching / scene.patches, first_token, idle, peak_resident(), tuple(history))
    return Cost(name, stats, *spent, case.holder.code)


def _measured(size: Extent) -> tuple[str, ...]:
    return size.policies if len(size.shares) > 2 else (DEFAULT,)


def _warm_up(model: infinipot.Model) -> None:
    """The first forward passes of a process pay for what all others find ready."""
    scene = Scene(0, 32.0, 2.0, 3, "still", "varied")
    with model.stream(**options(model, Holder(DEFAULT, 128, 3), scene)) as stream:
        for frame in make_clip(scene, size=frame_size(model)):
            stream.watch(frame)
        stream.ask(QUESTION, max_new_tokens=LONGEST_ANSWER)
