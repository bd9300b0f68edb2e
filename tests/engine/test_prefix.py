"""What is the same for several streams is run over once, and nothing else is."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infinipot import Frame, Model, Stream
from infinipot.engine import runner
from infinipot.memory import prefix
from infinipot.memory.prefix import extended
from support.memories import held, same
from support.models import pictures

SMALL: dict[str, Any] = {"memory": 288, "reserve": 56, "dialogue": 60, "block": 2}
QUESTION = "What colour was the circle?"
# As many as `MOVES` may ask for.
FRAMES = [Frame(image, number / 2) for number, image in enumerate(pictures(48, seed=3))]


@pytest.fixture
def counts(qwen: Model, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Tokens that the decoder runs over, of each step of each forward."""
    forward, counts = qwen.adapter.forward, list[list[int]]()

    def counting(embeddings: torch.Tensor, *steps: Any) -> torch.Tensor:
        assert len(embeddings) == sum(step.count for step in steps)
        counts.append([step.count for step in steps])
        return forward(embeddings, *steps)

    monkeypatch.setattr(qwen.adapter, "forward", counting)
    return counts


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as streams:
        yield streams


def opener(qwen: Model, opened: ExitStack) -> Callable[..., Stream]:
    return lambda policy, **more: opened.enter_context(qwen.stream(policy=policy, **{**SMALL, **more}))


def test_streams_share_what_came_before_anything_left(qwen: Model, opened: ExitStack, counts: list[list[int]]) -> None:
    """Of three policies and a larger memory one is run over, as long as none has evicted; then each of them."""
    stream = opener(qwen, opened)
    streams = [stream("infinipot-v"), stream("snapkv"), stream("recent-frames"), stream("full", memory=2048)]
    for frame in FRAMES:
        before = [each.stats().compressions for each in streams]
        counts.clear()
        runner.finish(*(each.begin_watch(frame) for each in streams))
        evicted = sum(map(bool, before))
        assert all(len(steps) == evicted + 1 for steps in counts), before  # `full` goes on, and those that are like it
        assert qwen.ask([(each, QUESTION) for each in streams], max_new_tokens=1)
    assert [stream.stats().compressions > 0 for stream in streams] == [True, True, True, False]


def test_questions_are_shared_until_answers_differ(qwen: Model, opened: ExitStack, counts: list[list[int]]) -> None:
    """Two questions at a time, one of them to two streams; the second time, what waits is known already."""
    streams = [opener(qwen, opened)("full") for _ in range(3)]
    for frame in FRAMES[:7]:
        runner.finish(*(stream.begin_watch(frame) for stream in streams))
    counts.clear()
    for _ in range(2):
        answers = qwen.ask([*((each, QUESTION) for each in streams[:2]), (streams[2], "How many?")], max_new_tokens=4)
        assert answers[0] == answers[1]
    assert all(len(steps) == 2 for steps in counts)
    assert counts[0][0] > counts[len(counts) // 2][0], "what waits was run over once"


def test_what_is_shared_takes_room_in_a_step_once_and_no_step_keeps_another_streams(
    qwen: Model, opened: ExitStack, counts: list[list[int]]
) -> None:
    """Four streams in steps that have room for one."""
    streams = [opener(qwen, opened)("full") for _ in range(4)]
    for frame in FRAMES[:3]:
        runner.finish(*(stream.begin_watch(frame) for stream in streams))
    tasks, tokens = [stream.begin_watch(FRAMES[3]) for stream in streams], 0
    while not all(task.done for task in tasks):
        tokens += qwen.step(tasks, max_tokens=60)
    assert [len(steps) for steps in counts] == [1]
    assert tokens == 32 + counts[0][0], "two patches for the encoder, and what the decoder was given"
    asked = [
        stream.begin_ask(QUESTION, max_new_tokens=20, evidence=not number) for number, stream in enumerate(streams)
    ]
    for _ in range(12):
        qwen.step(asked, max_tokens=60)
    asked.pop().cancel()
    last = streams.pop()
    memory = weakref.ref(last._state.memory)
    last.close()
    del last
    gc.collect()
    assert memory() is None
    runner.finish(*asked)


def test_who_is_encoded_in_a_step_shares_with_who_waited_for_it(
    qwen: Model, opened: ExitStack, counts: list[list[int]]
) -> None:
    early, late = (opener(qwen, opened)("full") for _ in range(2))
    for frame in FRAMES[:2]:
        runner.finish(*(stream.begin_watch(frame) for stream in (early, late)))
    tasks = [early.begin_ask(QUESTION, max_new_tokens=1)]
    assert qwen.step(tasks, max_tokens=1) == 16, "a patch for the encoder"
    tasks.append(late.begin_ask(QUESTION, max_new_tokens=1))
    tokens = qwen.step(tasks, max_tokens=90)
    assert [len(steps) for steps in counts] == [1]
    assert tokens == 16 + counts[0][0] <= 90 < 16 + 2 * counts[0][0]
    assert all(task.done for task in tasks)


def test_a_fork_shares_with_its_origin_and_a_restored_stream_with_none(
    qwen: Model, opened: ExitStack, counts: list[list[int]], tmp_path
) -> None:
    first = opener(qwen, opened)("infinipot-v")
    for frame in FRAMES[:30]:
        first.watch(frame)
    assert first.stats().compressions
    fork = opened.enter_context(first.fork())
    first.save(tmp_path / "saved")
    restored = opened.enter_context(qwen.restore(tmp_path / "saved"))
    counts.clear()
    for frame in FRAMES[30:34]:
        runner.finish(*(stream.begin_watch(frame) for stream in (first, fork, restored)))
    assert [len(steps) for steps in counts] == [2]
    assert same(held(first), held(fork))


OPTIONS = st.sampled_from(
    [None, {}, {"window": 2.0}, {"window": 5.0}, {"look_again": 4}, {"evidence": True}, {"remember": True}]
)  # of a question to one stream, None for no question to it
MOVES = st.lists(st.one_of(st.integers(1, 9), st.lists(OPTIONS, min_size=3, max_size=3)), min_size=2, max_size=5)


@settings(max_examples=12)
@example(moves=[3, [{}, None, None], [{}, {}, None]], blocks=(2, 2, 2), gates=(None,) * 3)  # one knows what waits
@given(
    moves=MOVES,
    blocks=st.sampled_from([(2, 2, 2), (2, 2, 1)]),
    gates=st.sampled_from([(None, None, 0.9), (None, None, None)]),
)
def test_sharing_changes_nothing(qwen: Model, moves, blocks, gates) -> None:
    """Frames and questions of all kinds, of streams in one step: as if nothing in a step were shared."""

    def run(stack: ExitStack) -> tuple[list[Stream], list[str]]:
        policies = ("infinipot-v", "streammem", "infinipot-v")
        streams = [
            stack.enter_context(
                qwen.stream(
                    policy=policy, gate=gate, look_again=4, **{**SMALL, "block": block, "reserve": 120, "memory": 360}
                )
            )
            for policy, block, gate in zip(policies, blocks, gates, strict=True)
        ]
        frames, answers = iter(FRAMES), list[str]()
        for move in (3, *moves):
            if isinstance(move, int):
                for frame in (next(frames) for _ in range(min(move, 9))):
                    runner.finish(*(stream.begin_watch(frame) for stream in streams))
                continue
            asked = [(stream, options) for stream, options in zip(streams, move, strict=True) if options is not None]
            tasks = [stream.begin_ask(QUESTION, max_new_tokens=4, **options) for stream, options in asked]
            runner.finish(*tasks)
            answers += [task.result() for task in tasks]
        return streams, answers

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        together, answers = run(stack)
        patch.setattr("infinipot.memory.transaction.extended", lambda *_: prefix.unlike_any())
        patch.setattr("infinipot.memory.memory.EMPTY", b"none")
        apart, expected = run(stack)
        assert answers == expected
        for one, other in zip(together, apart, strict=True):
            for mine, theirs in zip(held(one), held(other), strict=True):
                torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)


def test_a_prefix_tells_tokens_apart_by_what_they_are_and_where_and_in_which_order() -> None:
    place = torch.arange(6).view(3, 2)
    first = extended(b"", (1, 2), place)
    assert first == extended(b"", (1, 2), place.clone())
    others = [
        extended(b"", (2, 1), place),
        extended(b"", (1, 2), place + 1),
        extended(first, (1, 2), place),
        extended(extended(b"", (1,), place[:, :1]), (2,), place[:, 1:]),
        extended(b"", None, place),
        extended(b"", None, place),
    ]
    assert len({first, *others}) == 7
