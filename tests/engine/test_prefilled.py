"""Patches that wait for their block: questions see them, and only the first one has the model run over them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from infinipot import InfinipotError, Model, Stream
from infinipot.engine import runner
from support.faults import Boom, fail_at
from support.memories import held, same
from support.models import build, give, given, logits, pictures

SMALL: dict[str, Any] = {"memory": 480, "reserve": 90, "dialogue": 70, "block": 4}
QUESTION, OTHER = "What colour was the circle?", "Which shape was red?"


@contextmanager
def counted(model: Model) -> Iterator[list[int]]:
    """Tokens that the model has run over inside: by the encoder, and by the decoder."""
    found, own = [0, 0], type(model.adapter)
    encode, forward = own.encode, own.forward

    def encoding(adapter, patches):
        found[0] += sum(patch.tokens for patch in patches)
        return encode(adapter, patches)

    def running(adapter, embeddings, *steps):
        found[1] += sum(step.count for step in steps)
        return forward(adapter, embeddings, *steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own, "encode", encoding)
        patch.setattr(own, "forward", running)
        yield found


def cost(model: Model, stream: Stream, question: str = QUESTION, **how: Any) -> tuple[int, int]:
    """Tokens that a question of one token's answer has the encoder and the decoder run over."""
    with counted(model) as found:
        stream.ask(question, max_new_tokens=1, **how)
    return found[0], found[1]


def first_asked(model: Model, twin: Stream, **how: Any) -> torch.Tensor:
    """Logits of a stream that nobody asked before."""
    with twin.fork() as fork:
        return logits(model, fork, **how)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=2e-4, rtol=1e-4)


def test_questions_run_over_what_waits_once_and_change_nothing(model: Model) -> None:
    """Of every family: each sees what the first one would, whatever was asked between frames, and the memory too."""
    cap = 768 if model.adapter.modality == "audio" else 700
    options: dict[str, Any] = {"modality": model.adapter.modality, "block": 3, "memory": cap}
    with model.stream(**options) as stream, model.stream(**options) as twin:
        waited = set()
        for content in given(model, 10):
            give(stream, content)
            give(twin, content)
            if not stream._state.pending.starts(stream._setup):
                continue
            first, again = cost(model, stream), cost(model, stream)
            assert close(logits(model, stream), first_asked(model, twin))
            assert same(held(stream), held(twin))
            if model.adapter.packs:
                assert again[0] == 0 < first[0], "what waits is encoded again"
                assert again[1] < first[1], "what waits is run over again"
                waited.add(len(stream._state.pending.patches))
        assert not model.adapter.packs or waited & {1, 2}


def test_a_question_pays_for_what_came_since_the_last_one(qwen: Model) -> None:
    with qwen.stream(**SMALL) as stream:
        for image in pictures(8):
            stream.watch(image)
        cells, alone = stream._state.pending.grid.cells, cost(qwen, stream)
        for number, image in enumerate(pictures(32, seed=1)):
            stream.watch(image)
            since = 0 if number % 8 == 7 else cells  # a block is full, or one patch is new, or half of it is
            assert cost(qwen, stream) == (since, since + alone[1])
            assert cost(qwen, stream, window=3.0) == alone == (0, alone[1])


def floating(kept: Any) -> list[torch.Tensor]:
    """The tensors of numbers with a fraction, such as embeddings, that are kept, at any depth."""
    if isinstance(kept, torch.Tensor):
        return [kept] if kept.is_floating_point() else []
    inside = kept if isinstance(kept, tuple) else ()
    if is_dataclass(kept):
        inside = tuple(getattr(kept, each.name) for each in fields(kept))
    return [found for each in inside for found in floating(each)]


def test_no_embedding_stays_for_what_need_not_be_run_over_again(model: Model) -> None:
    """Keys and values lie in slots that are there in any case; nothing else that is large stays on the device."""
    with model.stream(modality=model.adapter.modality, block=3, memory=700) as stream:
        for content in given(model, 13):
            give(stream, content)
        stream.ask(QUESTION, max_new_tokens=1)
        known = stream._state.prefilled
        assert bool(known) == (model.adapter.packs and bool(stream._state.pending.starts(stream._setup)))
        assert not floating(known)


def test_a_fork_has_what_its_stream_was_asked_on(qwen: Model) -> None:
    with qwen.stream(**SMALL) as stream:
        for image in pictures(37):
            stream.watch(image)
        expected = stream.ask(QUESTION, max_new_tokens=6)
        with stream.fork() as fork:
            assert cost(qwen, fork) == cost(qwen, stream)
            assert torch.equal(logits(qwen, fork), logits(qwen, stream))
            assert fork.ask(QUESTION, max_new_tokens=6) == expected
            for image in pictures(2, seed=1):
                fork.watch(image)
            assert cost(qwen, fork)[0] > 0
        assert cost(qwen, stream)[0] == 0, "a fork changed its stream"


def test_nothing_is_allocated_for_what_stays(qwen: Model) -> None:
    """Its keys and values lie in slots of the memory, which are promised already; of embeddings nothing is left."""
    with qwen.stream(**SMALL) as stream:
        for image in pictures(5):
            stream.watch(image)
        size = stream.stats().bytes
        cost(qwen, stream)
        assert len(stream._state.prefilled) == 3
        assert not floating(stream._state.prefilled)
        assert stream.stats().bytes == size
        assert stream.stats().peak_tokens <= stream.stats().cap


@torch.inference_mode()
def test_what_something_else_was_written_to_is_run_over_again(qwen: Model) -> None:
    with qwen.stream(**SMALL) as stream, qwen.stream(**SMALL) as twin:
        for image in pictures(12):
            stream.watch(image)
            twin.watch(image)
        cost(qwen, stream)
        memory = stream._state.memory
        assert memory.intact == 2 * stream._state.pending.grid.cells
        with memory.transaction() as transaction:
            transaction.text(20)
            memory.step(transaction)
        assert memory.intact == 0
        assert close(logits(qwen, stream), first_asked(qwen, twin))


def test_a_stream_that_is_answering_can_be_forked_between_two_steps(model: Model) -> None:
    """The fork is what the stream was before the question, and begins behind what that has run over."""
    options: dict[str, Any] = {"modality": model.adapter.modality, "block": 3, "memory": 700, "policy": "infinipot-v"}
    with model.stream(**options) as stream:
        for content in given(model, 17):
            give(stream, content)
        before = held(stream)
        expected = [stream.fork().ask(text, max_new_tokens=5) for text in (QUESTION, OTHER)]
        task = stream.begin_ask(QUESTION, max_new_tokens=5)
        while not task.request or getattr(task.request, "phase", "") != "answer" or task.request.tokens > 1:
            runner.step([task])
        with pytest.raises(InfinipotError, match="another call"):
            stream.fork()
        with stream.fork_amid() as fork:
            assert same(held(fork), before)
            assert fork.ask(OTHER, max_new_tokens=5) == expected[1]
            assert cost(model, fork)[0] == 0 or not model.adapter.packs
            runner.finish(task)
            assert task.result() == expected[0]
        assert same(held(stream), before)


def test_a_stream_is_forked_amid_questions_alone(qwen: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a frame's call a stream is neither what it was nor what it will be."""
    own, refused = type(qwen.adapter), []
    with qwen.stream(**SMALL) as stream:
        forward = own.forward

        def running(adapter, embeddings, *steps):
            with pytest.raises(InfinipotError, match="no question is being answered"):
                stream.fork_amid()
            refused.append(True)
            return forward(adapter, embeddings, *steps)

        monkeypatch.setattr(own, "forward", running)
        for image in [*pictures(7), *pictures(1, size=(32, 64))]:
            stream.watch(image)
        assert refused
        with pytest.raises(InfinipotError, match="no question is being answered"):
            stream.fork_amid()


moves = st.lists(
    st.one_of(
        st.tuples(st.just("watch"), st.integers(1, 5)),
        st.tuples(st.just("resize"), st.just(0)),
        st.tuples(st.just("ask"), st.sampled_from(["plain", "window", "look", "evidence", "stop"])),
        st.tuples(st.just("remember"), st.booleans()),
        st.tuples(st.just("fork"), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 3)),
        st.tuples(st.just("fail"), st.sampled_from(["watch", "ask", "remember"])),
    ),
    min_size=4,
    max_size=9,
)
HOW: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"window": 2.0},
    "look": {"look_again": 2},
    "evidence": {"evidence": True},
    "stop": {"repetition_penalty": 1.7},
}


class Pair:
    """A stream that is asked in all ways, and one with the same past that is never asked itself."""

    def __init__(self, model: Model, policy: str, gate: str | None) -> None:
        self.model, self.frames, self.size = model, 0, (64, 64)
        how = {**SMALL, "policy": policy, "gate": gate, "look_again": 2, "pixels": (1024, 4096)}
        self.stream, self.twin = model.stream(**how), model.stream(**how)

    def image(self) -> Any:
        self.frames += 1
        return pictures(1, seed=self.frames // 3, size=self.size)[0]  # some stand still

    def watch(self, count: int) -> None:
        for _ in range(count):
            image = self.image()
            self.stream.watch(image)
            self.twin.watch(image)

    def resize(self, _: int) -> None:
        self.size = (64, 64) if self.size == (32, 64) else (32, 64)
        self.watch(1)

    def ask(self, kind: str) -> None:
        how = HOW[kind]
        assert close(logits(self.model, self.stream, **how), first_asked(self.model, self.twin, **how)), kind
        with self.twin.fork() as fork:
            one, other = (each.ask(QUESTION, max_new_tokens=5, **how) for each in (self.stream, fork))
            assert one == other
            assert self.stream.stats().asked_tokens == fork.stats().asked_tokens
        looked = [[(span.start, span.end, round(span.weight, 2)) for span in each.evidence] for each in (one, other)]
        assert looked[0] == looked[1]

    def remember(self, cut: bool) -> None:
        how: dict[str, Any] = {"max_new_tokens": 4, "remember": True, **({"stop": ["e", "a", "t"]} if cut else {})}
        assert self.stream.ask(OTHER, **how) == self.twin.ask(OTHER, **how)

    def fork(self, _: int) -> None:
        before, self.stream = self.stream, self.stream.fork()
        before.close()

    def leave(self, steps: int) -> None:
        task = self.stream.begin_ask(OTHER, max_new_tokens=6)
        for _ in range(steps):
            runner.step([task])
        task.cancel()

    def fail(self, what: str) -> None:
        image = self.image()
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, self.model.adapter, "forward", 1)
            try:
                if what == "watch":
                    self.stream.watch(image)
                else:
                    self.stream.ask(OTHER, max_new_tokens=3, remember=what == "remember")
            except Boom:
                pass
        if what == "watch":
            self.twin.watch(image)
            if self.stream.stats().frames < self.twin.stats().frames:
                self.stream.watch(image)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@drawn(moves, st.sampled_from(["infinipot-v", "snapkv", "merged", "adakv"]), st.sampled_from([None, "patches", "otsu"]))
def test_whatever_happens_between_questions_each_is_answered_like_the_first(qwen: Model, moves, policy, gate) -> None:
    pair = Pair(qwen, policy, gate)
    pair.watch(6)
    pair.ask("plain")
    for name, argument in moves:
        getattr(pair, name)(argument)
        assert same(held(pair.stream), held(pair.twin))
    pair.ask("plain")
    pair.watch(9)
    pair.ask("evidence")
    assert same(held(pair.stream), held(pair.twin))


def test_streams_that_re_base_answer_as_those_that_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions are re-assigned between two frames of a block: keys that were made before are of no use then."""
    model = build("qwen2_5_vl")
    monkeypatch.setattr(type(model.adapter), "position_range", 400)
    small: dict[str, Any] = {"memory": 300, "reserve": 60, "dialogue": 0, "policy": "infinipot-v"}
    between = 0
    with model.stream(**small) as stream, model.stream(**small) as twin:
        for number, image in enumerate(pictures(150)):
            before, known = stream.stats().rebases, stream._state.prefilled
            stream.watch(image, 8.0 * number)
            twin.watch(image, 8.0 * number)
            between += bool(known and stream._state.prefilled is known and stream.stats().rebases > before)
            if number > 120:
                assert close(logits(model, stream), first_asked(model, twin))
        assert same(held(stream), held(twin))
        assert stream.stats().rebases > 2
        assert between, "no re-basing found anything prefilled"
