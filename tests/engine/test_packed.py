"""Many streams in packed steps: each sees, holds and answers what it does alone, whatever goes wrong beside it."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from types import NoneType, SimpleNamespace
from typing import Any, cast

import pytest
import torch

from infinipot import Frame, FrameError, InfinipotError, Model, NumericalError, QuestionError, Stream
from infinipot.engine import runner
from infinipot.engine.requests import Encode, Request
from infinipot.engine.task import Task
from infinipot.memory import Rotary
from infinipot.models import Adapter, Patch
from infinipot.stats import Stopwatch
from support.faults import Boom, fail_at
from support.memories import held, same, slots
from support.models import give, given, pictures

QUESTIONS = ("What colour was the circle?", "Which shape was red?", "How many shapes have appeared so far?")
SMALL: dict[str, Any] = {"memory": 288, "reserve": 56, "dialogue": 60}


@pytest.fixture(scope="module")
def pasts(qwen: Model) -> Iterator[list[Stream]]:
    """Streams of different pasts, lengths, policies and blocks, some of whose frames wait."""
    policies = ("infinipot-v", "uniform", "infinipot-v:combine=two-stage", "keydiff")
    with ExitStack() as opened:
        streams = [
            opened.enter_context(qwen.stream(policy=policy, block=1 + number, **SMALL))
            for number, policy in enumerate(policies)
        ]
        for number, stream in enumerate(streams):
            for image in pictures(11 + 8 * number, seed=number):
                stream.watch(image)
        yield streams


@pytest.fixture
def four(pasts: list[Stream]) -> Iterator[list[Stream]]:
    """Forks of them, whose futures are a test's own."""
    with ExitStack() as opened:
        yield [opened.enter_context(stream.fork()) for stream in pasts]


def alike(one: Stream, other: Stream) -> None:
    """Both hold the same tokens, and, but for rounding, the same keys and values."""
    assert one.stats().tokens == other.stats().tokens
    for layer in range(one._state.memory.layers):
        mine, theirs = slots(one._state.memory, layer), slots(other._state.memory, layer)
        for name in ("patch", "cell", "temporal", "base", "time"):
            assert torch.equal(getattr(mine, name), getattr(theirs, name)), name
        torch.testing.assert_close(mine.raw, theirs.raw, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(mine.values, theirs.values, atol=1e-4, rtol=1e-3)


def test_what_several_streams_watch_is_prepared_and_encoded_once(qwen: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same frames for streams of other policies, beside one that watches something else, see the same tokens."""
    policies = ("infinipot-v", "keydiff", "uniform", "infinipot-v")
    seen: dict[str, int] = {"prepare": 0, "encode": 0}
    with ExitStack() as opened:
        packed, alone = (
            [opened.enter_context(qwen.stream(policy=policy, block=2, **SMALL)) for policy in policies]
            for _ in range(2)
        )
        shared, others = ([Frame(image, each / 2) for each, image in enumerate(pictures(24, seed))] for seed in (1, 2))
        for stream, frames in zip(alone, (shared, shared, shared, others), strict=True):
            for frame in frames:
                stream.watch(frame)
        for name in seen:
            real = getattr(qwen.adapter, name)

            def counted(given: Any, *more: Any, name: str = name, real: Any = real) -> Any:
                seen[name] += len(given)
                return real(given, *more)

            monkeypatch.setattr(qwen.adapter, name, counted)
        for frame, other in zip(shared, others, strict=True):
            runner.finish(*(stream.begin_watch(frame) for stream in packed[:3]), packed[3].begin_watch(other))
        for one, theirs in zip(packed, alone, strict=True):
            alike(one, theirs)
    assert seen == {"prepare": 24, "encode": 24}  # 12 patches of either clip


def test_packed_streams_hold_and_answer_what_they_do_alone(model: Model) -> None:
    """Of every family, recurrent ones too: streams that open at different times, with other blocks and policies."""
    audio = model.adapter.modality == "audio"
    cap = 768 if audio else 512
    with ExitStack() as opened:

        def opening(block: int) -> Stream:
            return opened.enter_context(
                model.stream(memory=cap, modality=model.adapter.modality, block=block, policy="infinipot-v")
            )

        packed, alone = ([opening(1 + number % 2) for number in range(3)] for _ in range(2))
        contents = [given(model, 26, seed) for seed in range(3)]
        for moment in range(26):
            tasks = []
            for number, content in enumerate(contents):
                if moment < 9 * number:  # the others have begun
                    continue
                give(alone[number], content[moment])
                begin = packed[number].begin_listen if audio else packed[number].begin_watch
                tasks.append(begin(content[moment]))
            runner.finish(*tasks)
            assert [task.result() for task in tasks] == [None] * len(tasks)
            if moment % 9 == 8:
                for one, other in zip(packed, alone, strict=True):
                    one_asked = [each for each in (one, other) if each.stats().frames]
                    assert len({each.ask(QUESTIONS[0], max_new_tokens=2) for each in one_asked}) <= 1
        for one, other in zip(packed, alone, strict=True):
            alike(one, other)
        pairs = list(zip(packed, QUESTIONS, strict=True))
        answers = model.ask(pairs, max_new_tokens=6, remember=True)
        assert answers == [
            stream.ask(text, max_new_tokens=6, remember=True) for stream, text in zip(alone, QUESTIONS, strict=True)
        ]
        for one, other in zip(packed, alone, strict=True):
            alike(one, other)


@pytest.mark.parametrize(("size", "together"), [(20, 1), (50, 2)])
def test_frames_and_questions_share_steps_of_a_bounded_size(
    qwen: Model, four: list[Stream], monkeypatch, size: int, together: int
) -> None:
    """Answers flow while others watch, and others watch while answers flow; what has no room goes in another step."""
    forward, counts = qwen.adapter.forward, []

    def counting(embeddings, *steps):
        counts.append([step.count for step in steps])
        return forward(embeddings, *steps)

    expected = [stream.fork().ask(QUESTIONS[0], max_new_tokens=9) for stream in four[2:]]
    monkeypatch.setattr(qwen.adapter, "forward", counting)
    asking = [stream.begin_ask(QUESTIONS[0], max_new_tokens=9) for stream in four[2:]]
    while not all(task.request and task.request.tokens == 1 for task in asking):
        runner.step(asking)
    counts.clear()
    watching: dict[Stream, list[Any]] = {stream: [] for stream in four[:2]}
    images = {stream: pictures(40, seed) for seed, stream in enumerate(four[:2])}
    while not all(task.done for task in asking):
        for stream, tasks in watching.items():
            if not tasks or tasks[-1].done:
                tasks.append(stream.begin_watch(images[stream].pop()))
        qwen.step([*(tasks[-1] for tasks in watching.values()), *asking], max_tokens=size)
    assert [task.result() for task in asking] == expected
    blocks = [[tokens for tokens in count if tokens > 1] for count in counts]
    assert all(sum(count) <= size or len(block) == 1 for count, block in zip(counts, blocks, strict=True))
    assert all(count.count(1) == 2 for count in counts[:7]), "answers wait for frames"
    assert max(map(len, blocks)) == together, "frames wait for answers, or what would fit waits"
    runner.finish(*(tasks[-1] for tasks in watching.values()))
    assert all(task.result() is None for tasks in watching.values() for task in tasks)


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_call_that_is_cancelled_leaves_its_stream_as_it_was(qwen: Model, four: list[Stream], steps: int) -> None:
    """Whatever it waits for: the encoder, the question's logits or a token's."""
    before = [held(stream) for stream in four]
    expected = [stream.fork().ask(QUESTIONS[1], max_new_tokens=9) for stream in four]
    tasks = [stream.begin_ask(QUESTIONS[1], max_new_tokens=9, remember=True) for stream in four[:2]]
    others = [stream.begin_ask(QUESTIONS[1], max_new_tokens=9) for stream in four[2:]]
    for _ in range(steps):
        qwen.step([*tasks, *others])
    for task in tasks:
        assert not task.done
        task.cancel()
        with pytest.raises(InfinipotError, match="was cancelled"):
            task.result()
    while not all(task.done for task in others):
        qwen.step([*tasks, *others])
    assert [task.result() for task in others] == expected[2:]
    assert all(same(one, held(stream)) for one, stream in zip(before, four, strict=True))
    assert [stream.ask(QUESTIONS[1], max_new_tokens=9) for stream in four] == expected


def test_a_task_that_is_named_twice_goes_once(qwen: Model, four: list[Stream]) -> None:
    with four[0].fork() as fork:
        expected = fork.ask(QUESTIONS[0], max_new_tokens=3)
    task = four[0].begin_ask(QUESTIONS[0], max_new_tokens=3)
    while not task.done:
        qwen.step([task, task])
    assert task.result() == expected


def test_one_task_that_is_dropped_frees_its_stream(qwen: Model, four: list[Stream]) -> None:
    before = held(four[0])
    task = four[0].begin_ask(QUESTIONS[0])
    qwen.step([task])
    with pytest.raises(InfinipotError, match="middle of another call"):
        four[0].ask(QUESTIONS[0])
    second = four[0].begin_watch(pictures(1)[0])
    qwen.step([second])
    with pytest.raises(InfinipotError, match="middle of another call"):
        second.result()
    with pytest.raises(InfinipotError, match="not done"):
        task.result()
    del task
    assert four[0].ask(QUESTIONS[0], max_new_tokens=4)
    assert same(before, held(four[0]))


def test_a_call_that_fails_fails_alone(qwen: Model, four: list[Stream]) -> None:
    before = [held(stream) for stream in four]
    frames: list[tuple[Stream, Any]] = [(stream, picture) for stream, picture in zip(four, pictures(4), strict=True)]
    frames[1] = four[1], Frame(pictures(1)[0], 0.0)
    counts = [stream.stats().frames for stream in four]
    with pytest.raises(FrameError, match="in order of time"):
        qwen.watch(frames)
    assert [stream.stats().frames - count for stream, count in zip(four, counts, strict=True)] == [1, 0, 1, 1]
    assert same(before[1], held(four[1]))
    later = [(stream, Frame(pictures(1)[0], 100.0 * (stream is not four[1]))) for stream in four]
    outcomes = qwen.watch(later, return_exceptions=True)
    assert [type(each) for each in outcomes] == [NoneType, FrameError, NoneType, NoneType]
    expected = [stream.ask(QUESTIONS[0], max_new_tokens=3) for stream in four]
    questions = [(stream, "" if stream is four[1] else QUESTIONS[0]) for stream in four]
    answers = qwen.ask(questions, return_exceptions=True, max_new_tokens=3)
    assert [*answers[:1], *answers[2:]] == [*expected[:1], *expected[2:]]
    assert isinstance(answers[1], QuestionError)
    with pytest.raises(InfinipotError, match="its error was raised before"):
        raise_twice(four[1].begin_watch(frames[1][1]))


def raise_twice(task: Task) -> None:
    runner.finish(task)
    with pytest.raises(FrameError):
        task.result()
    task.result()


@pytest.mark.parametrize("part", ["forward", "encode"])
@pytest.mark.parametrize("countdown", [1, 3])
def test_what_goes_wrong_in_the_network_leaves_all_streams_as_they_were(
    qwen: Model, four: list[Stream], monkeypatch, part: str, countdown: int
) -> None:
    before = [held(stream) for stream in four]
    expected = [stream.fork().ask(QUESTIONS[2], max_new_tokens=5) for stream in four]
    pairs = [(stream, QUESTIONS[2]) for stream in four]
    with monkeypatch.context() as patch:
        patch.setattr(qwen.adapter, part, raising(getattr(qwen.adapter, part), countdown))
        if part == "encode" and countdown > 1:  # there is one run of the encoder
            assert qwen.ask(pairs, max_new_tokens=5) == expected
        else:
            with pytest.raises(NumericalError, match="on purpose"):
                qwen.ask(pairs, max_new_tokens=5, remember=True)
    assert all(same(one, held(stream)) for one, stream in zip(before, four, strict=True))
    with monkeypatch.context() as patch:
        fail_at(patch, qwen.adapter, "forward", countdown)
        with pytest.raises(Boom):  # as Ctrl-C does, it ends everything at once
            qwen.ask(pairs, max_new_tokens=5, remember=True)
    assert all(same(one, held(stream)) for one, stream in zip(before, four, strict=True))
    assert qwen.ask(pairs, max_new_tokens=5) == expected


def raising(method, countdown):
    """The method, whose `countdown`th call raises an error."""
    left = [countdown]

    def failing(*args):
        left[0] -= 1
        if not left[0]:
            raise NumericalError("on purpose")
        return method(*args)

    return failing


def test_streams_that_a_device_has_no_memory_for_together_go_one_by_one(
    qwen: Model, four: list[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in a pass of them all memory ends, nothing of it is left in the passes of each."""
    asked: dict[str, Any] = {"max_new_tokens": 3, "evidence": True}
    expected = [stream.fork().ask(QUESTIONS[2], **asked) for stream in four]
    forward, rotate, places = qwen.adapter.forward, Rotary.rotate, [2, 4]

    def full(embeddings: torch.Tensor, *steps: Any) -> torch.Tensor:
        with monkeypatch.context() as patch:
            if len(steps) > 1 and places:
                left = [places.pop()]

                def rotated(*given: Any) -> torch.Tensor:
                    left[0] -= 1
                    if left[0] < 0:
                        raise torch.OutOfMemoryError("CUDA out of memory")
                    return rotate(*given)

                patch.setattr(Rotary, "rotate", rotated)
            return forward(embeddings, *steps)

    monkeypatch.setattr(qwen.adapter, "forward", full)
    answers = qwen.ask([(stream, QUESTIONS[2]) for stream in four], **asked)
    assert not places, "several passes of all were tried"
    assert answers == expected
    for one, other in zip(answers, expected, strict=True):
        assert [span.time for span in one.evidence] == [span.time for span in other.evidence]
        assert [span.weight for span in one.evidence] == pytest.approx([span.weight for span in other.evidence])


@pytest.mark.parametrize(
    "lacking",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you")],
)
def test_a_task_that_a_device_has_no_memory_for_alone_fails_alone(lacking: RuntimeError) -> None:
    asked: list[int] = []

    def encode(patches: Sequence[Patch]) -> torch.Tensor:
        asked.append(len(patches))
        if len(patches) > 1 or patches[0].times == (1.0,):
            raise lacking
        return torch.full((1, 1), patches[0].times[0])

    adapter, stopwatch = cast(Adapter, SimpleNamespace(encode=encode)), Stopwatch()
    patches = [Patch(torch.zeros(4), 1, 1, (float(number),)) for number in range(3)]
    tasks: list[Task[Any]] = [Task(work(Encode(adapter, [patch], stopwatch))) for patch in patches]
    runner.finish(*tasks)
    assert (tasks[0].result().tolist(), tasks[2].result().tolist(), asked) == ([[0.0]], [[2.0]], [3, 1, 1, 1])
    with pytest.raises(type(lacking)):
        tasks[1].result()


def work(request: Encode) -> Generator[Request, Any, Any]:
    """A call that waits for one thing."""
    return (yield request)


def test_frames_of_one_size_are_prepared_by_one_call_for_all_streams(
    qwen: Model, four: list[Stream], monkeypatch
) -> None:
    """Those that fill a patch, and those that a question finds waiting for their other half."""
    patchify, calls = qwen.adapter.patchify, []

    def counting(clips, pixels=None):
        calls.append([(len(clip), clip[0].size) for clip in clips])
        return patchify(clips, pixels)

    sizes = [(64, 64)] * 3 + [(96, 64)]
    four[3].watch(Frame(pictures(1, size=sizes[3])[0], 99.0))
    monkeypatch.setattr(qwen.adapter, "patchify", counting)
    for moment in (100.0, 101.0):  # the first fills the patch of each, the second waits
        frames = [Frame(pictures(1, size=size)[0], moment) for size in sizes]
        qwen.watch(zip(four, frames, strict=True))
        qwen.ask([(stream, QUESTIONS[0]) for stream in four], max_new_tokens=1)
    full, half = ([[(frames, size)] * sizes.count(size) for size in set(sizes)] for frames in (2, 1))
    assert sorted(calls) == sorted(full + half)
