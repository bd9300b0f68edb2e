"""Whatever is raised at whatever line of the memory: a call has taken its frame, or its turn, or it has raised.

An exception is injected at every line that runs in the memory's files while a frame or a question is taken in. The
memory that comes out of it goes on exactly as one that nothing has disturbed.
"""

import copy
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

import infinipot.memory
from infinipot import Frame, Model, Stream
from infinipot.memory import turned
from infinipot.models import Patch
from support.faults import Boom
from support.memories import held, same
from support.stub import Stub

LINES = (
    1 << 30 if os.environ.get("INFINIPOT_EVERY_LINE") else 60
)  # at the most, evenly over those that run; INFINIPOT_EVERY_LINE=1 takes every one
FOLDER = str(Path(infinipot.memory.__file__).parent)
QUESTION = "What?"
SHARES: dict[str, Any] = {"reserve": 40, "dialogue": 60}


@contextmanager
def raising_at(line: int, files: str = FOLDER) -> Iterator[list[int]]:
    """Inside, the line that comes so many lines of some files later raises; gives the number of lines that ran.

    Args:
        files: what their paths begin with.
    """
    ran = [0]

    def trace(frame: FrameType, event: str, _: object) -> Callable | None:
        if not frame.f_code.co_filename.startswith(files):
            return None
        if event == "line":
            ran[0] += 1
            if ran[0] == line:
                raise Boom
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield ran
    finally:
        sys.settrace(before)


class Layered(Stub):
    """Of two layers with two heads each; what a token is numbered does not depend on how often it was tried."""

    layers, heads = 2, 2

    def encode(self, patches: Sequence[Patch]) -> torch.Tensor:
        return torch.tensor([[patch.times[0] + cell / 2] for patch in patches for cell in range(2)]).double()

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor(ids).double().unsqueeze(-1)


FLAVOURS = [{}, {"flat": True, "captioned": True}]


def played(flavour: dict, policy: str, frames: int) -> Stream:
    """A stream behind a remembered turn and so many frames."""
    stream = Model("layered", Layered(2.0, positions=400, **flavour)).stream(190, policy, block=2, **SHARES)
    for second in range(frames):
        if second == 20:
            stream.ask(QUESTION, max_new_tokens=2, remember=True)
        watch(stream, second)
    return stream


def watch(stream: Stream, second: int) -> None:
    stream.watch(Frame(np.zeros((2, 2, 3), np.uint8), 3.0 * second))


PLAIN, CAPTIONED = FLAVOURS


# Each policy once, the default with both: what a policy stores and how positions count are changed by different lines.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavour", "policy"),
    [
        (PLAIN, "infinipot-v"),
        (CAPTIONED, "infinipot-v"),
        (CAPTIONED, "infinipot-v:combine=union,reference=recent"),
        (PLAIN, "streaming-llm"),
        (CAPTIONED, "streammem"),
    ],
)
def test_a_frame_is_taken_or_raised_at_every_line_of_the_memory(flavour: dict, policy: str) -> None:
    """Some frames compress, some re-base, some do nothing: the first of each kind is tried."""
    stream = played(flavour, policy, 70)
    kinds: dict[tuple[bool, bool], int] = {}
    for second in range(70, 200):
        before = stream.stats()
        watch(stream, second)
        after = stream.stats()
        kind = (after.compressions > before.compressions, after.rebases > before.rebases)
        kinds.setdefault(kind, second)
    assert {compressed for compressed, _ in kinds} == {rebased for _, rebased in kinds} == {True, False}
    deferred = {}
    for kind, second in kinds.items():

        def take(stream: Stream, second: int = second) -> None:
            watch(stream, second)

        deferred[kind] = check_lines(partial(played, flavour, policy, second), take)
    assert all(count > 0 for (compressed, _), count in deferred.items() if compressed)


@pytest.mark.parametrize("flavour", FLAVOURS, ids=["plain", "captioned"])
def test_a_turn_is_remembered_or_raised_at_every_line_of_the_memory(flavour: dict) -> None:
    def take(stream: Stream) -> None:
        assert isinstance(stream.ask(QUESTION, max_new_tokens=2, remember=True), str)

    assert check_lines(lambda: played(flavour, "infinipot-v", 71), take) > 0


def test_no_scratch_is_lost_whatever_interrupts_an_answer() -> None:
    """Nor does the next answer wait for it, or read keys that were turned for the one before."""
    stream = played(PLAIN, "infinipot-v", 71)
    scratch = stream._setup.adapter.scratch

    def ask() -> str:
        return str(stream.ask(QUESTION, max_new_tokens=3))

    with raising_at(-1, turned.__file__) as ran:
        answer = ask()
    assert ran[0] > 20
    for line in range(1, ran[0] + 1):
        with raising_at(line, turned.__file__), suppress(Boom):
            ask()
        gc.collect(1)  # what was raised and the frames that it went through hold each other
        assert scratch.taken == 0, f"line {line}"
        assert stream._state.memory.turned is None, f"line {line}"
        assert ask() == answer


def copied(stream: Stream) -> Stream:
    """Another stream with the same past."""
    with torch.inference_mode():
        memory = copy.deepcopy(stream._state.memory)
    stopwatch = copy.deepcopy(stream._state.stopwatch)
    return Stream(stream._setup, replace(stream._state, memory=memory, stopwatch=stopwatch))


def check_lines(ready: Callable[[], Stream], take: Callable[[Stream], None]) -> int:
    """Interrupts what `take` does to a stream at one line after the other, each time on a stream of its own.

    Returns:
        How often the next call raised what interrupted it.
    """
    undisturbed = ready()
    with raising_at(-1) as ran:
        take(undisturbed)
    expected, answer = held(undisturbed), undisturbed.ask(QUESTION, max_new_tokens=3)
    deferred = 0
    prepared = ready()
    for line in range(1, ran[0] + 1, -(-ran[0] // LINES)):
        stream = copied(prepared)
        before = stream.stats()
        raised = False
        try:
            with raising_at(line):
                take(stream)
        except Boom:
            raised = True
        if raised:
            after = stream.stats()
            assert (after.frames, after.turns) == (before.frames, before.turns), f"line {line} raised and was taken"
            take(stream)
        else:
            deferred += 1
            with pytest.raises(Boom):
                stream.ask(QUESTION, max_new_tokens=3)
        assert same(held(stream), expected), f"line {line}"
        assert stream.ask(QUESTION, max_new_tokens=3) == answer
    return deferred
