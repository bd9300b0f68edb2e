"""Streams share a model and nothing else: from any number of threads, each prompt and answer is the one it is alone."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from transformers import AddedToken

from infinipot import Model
from infinipot.models.tokens import Encoder
from support.models import build, give, given

THREADS = 5
QUESTIONS = ("What colour was the circle?", "Which shape was red?", "How many shapes have appeared so far?")
TEXTS = ("what", " red", "  ", "\n", "é", "e\u0301", "你好", "🙂", "12.5 seconds", "<", "|>", "/s", "Ａ", "▁", "\x00")
# Of every kind that a checkpoint may add: what is taken off around them, whether they are found in the text as it is
# normalised, whether inside words, and whether they are special.
ADDED = [
    AddedToken("<left>", lstrip=True, special=True),
    AddedToken("<right>", rstrip=True, special=True),
    AddedToken("<Norm>", normalized=True, special=True),
    AddedToken("<plain>", special=False),
    AddedToken("word", single_word=True, special=False),
]


def together(work: Callable[[int], Any]) -> list[Any]:
    """What each of several threads makes, all of them begun at once."""
    ready = threading.Barrier(THREADS)

    def begin(number: int) -> Any:
        ready.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


def prompts(model: Model, seed: int, count: int = 200) -> list[list[int]]:
    """Questions with special tokens in them, as text and as part of the conversation."""
    adapter, drawn = model.adapter, random.Random(seed)
    special = [str(token) for token in adapter.processor.tokenizer.get_added_vocab()]
    texts = ["".join(drawn.choices([*TEXTS, *special], k=5)) for _ in range(count)]
    return [adapter.tokenize(text, plain=number % 2 == 0) for number, text in enumerate(texts)]


@pytest.fixture(scope="module", params=["qwen2_5_vl", "llava_next_video", "llava_next_video_mistral", "smolvlm"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """One of each kind: byte by byte, spaces as letters with a fallback to bytes, old and new, digit by digit."""
    tokenizer = build(request.param).adapter.processor.tokenizer
    copy = type(tokenizer)(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    )
    copy.add_tokens(ADDED)
    return copy


def test_ids_are_those_of_the_tokenizer_itself(tokenizer):
    encoder = Encoder(tokenizer)
    known = [str(token) for token in tokenizer.get_added_vocab()]

    @settings(max_examples=200)
    @over(
        st.lists(st.one_of(st.sampled_from([*TEXTS, *known]), st.text(max_size=4)), max_size=8),
        st.booleans(),
        st.booleans(),
    )
    def check(parts, split, begin):
        text = "".join(parts)
        theirs = tokenizer(text, add_special_tokens=begin, split_special_tokens=split).input_ids
        assert encoder(text, split=split, begin=begin) == theirs

    check()


def test_ids_that_are_kept_are_nobodys_to_change(tokenizer):
    encoder = Encoder(tokenizer)
    for text in ("Is there a shape now?", "Is there a shape now? " * 200):
        first = encoder(text, split=True, begin=False)
        expected = list(first)
        first.clear()
        assert encoder(text, split=True, begin=False) == expected
        assert encoder(text, split=True, begin=True) == tokenizer(text, split_special_tokens=True).input_ids
    kept = cast(Any, encoder._encode_again).cache_info().currsize
    assert kept == 2, "long texts are not kept"


def test_prompts_made_in_several_threads_are_those_made_in_one(any_model):
    assert together(lambda number: prompts(any_model, number)) == [prompts(any_model, n) for n in range(THREADS)]


def conversation(model: Model, seed: int) -> list[str]:
    """A stream watched for a while, with questions in between, some of which try to end their turn."""
    with model.stream(memory=600, reserve=90, dialogue=90, system=f"Be brief, {seed}.") as stream:
        answers: list[str] = []
        for number, content in enumerate(given(model, 10, seed)):
            give(stream, content)
            if number % 5 == 4:
                question = QUESTIONS[(number + seed) % 3] + "<|im_end|></s>" * (seed % 2)
                answers.append(stream.ask(question, max_new_tokens=3, remember=number == 4))
        return answers


def test_streams_in_several_threads_answer_as_each_does_alone(model):
    alone = [conversation(model, seed) for seed in range(THREADS)]
    assert together(lambda seed: conversation(model, seed)) == alone


def test_a_stream_leaves_no_state_on_what_is_shared(model, monkeypatch):
    """Nobody sets anything on the network, its parts, the processor, its parts or the tokenizer, nor calls that."""
    network, processor = model.adapter.model, model.adapter.processor
    shared = {id(part) for part in network.modules()}
    shared |= {id(processor), *(id(part) for part in vars(processor).values())}
    touched: list[str] = []

    def watching(kind: type) -> None:
        setter: Any = kind.__setattr__

        def noted(self, name, value):
            if id(self) in shared:
                touched.append(f"{type(self).__name__}.{name}")
            setter(self, name, value)

        monkeypatch.setattr(kind, "__setattr__", noted)

    for kind in {type(part) for part in (*network.modules(), processor, *vars(processor).values())}:
        if kind.__module__.startswith(("torch.", "transformers.")):
            watching(kind)
    monkeypatch.setattr(type(processor.tokenizer), "_encode_plus", lambda *args, **kwargs: touched.append("tokenizer"))
    conversation(model, seed=0)
    assert not touched


def test_system_messages_are_not_kept(qwen):
    """A server that gives every stream a system message of its own would keep them all."""
    before = {name: repr(value) for name, value in vars(qwen.adapter).items()}
    for number in range(50):
        qwen.adapter.chat(f"You are number {number}.")
    assert {name: repr(value) for name, value in vars(qwen.adapter).items()} == before
