"""Keys that are turned once for all tokens of an answer: the same answers, within a bound that is given back."""

from collections.abc import Iterator

import pytest
import torch

from infinipot import Model, SettingError, Stream
from infinipot.engine import runner
from infinipot.memory import LayerShape, turned
from support.faults import Boom, fail_at
from support.memories import held, same
from support.models import give, given, pictures
from support.plays import QUESTIONS

LIMIT = turned.LIMIT


@pytest.fixture
def watched(qwen: Model) -> Iterator[list[Stream]]:
    streams = [qwen.stream(memory=288, block=1 + number) for number in range(3)]
    for number, stream in enumerate(streams):
        for image in pictures(30, seed=number):
            stream.watch(image)
    yield streams
    qwen.adapter.scratch.limit = LIMIT
    assert qwen.adapter.scratch.taken == 0
    for stream in streams:
        assert stream._state.memory.turned is None
        stream.close()


def test_what_is_kept_is_what_would_be_turned_again(model: Model, monkeypatch) -> None:
    """Of every family, each layer's keys at each token, and so the logits, but for rounding.

    A CPU computes a few numbers at the end of a row in another way than those before them.
    """
    with model.stream(memory=512, modality=model.adapter.modality) as stream:
        for content in given(model, 30):
            give(stream, content)
        seen: dict[int, list[torch.Tensor]] = {}
        forward, shapes = model.adapter.forward, model.adapter.layer_shapes()
        for model.adapter.scratch.limit in (LIMIT, 0):
            made = seen.setdefault(model.adapter.scratch.limit, [])

            def noting(embeddings, *steps, made=made):
                logits = forward(embeddings, *steps)
                slots = [number for number, each in enumerate(shapes) if isinstance(each, LayerShape)]
                made.append(torch.cat([steps[0].read(layer)[0].flatten().clone() for layer in slots]))
                made.append(logits)
                return logits

            monkeypatch.setattr(model.adapter, "forward", noting)
            stream.ask(QUESTIONS[0], max_new_tokens=6, temperature=0)
        model.adapter.scratch.limit = LIMIT
        assert len(seen[LIMIT]) == len(seen[0]) > 2
        for one, other in zip(seen[LIMIT], seen[0], strict=True):
            torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-5)


def test_answers_that_find_no_room_are_the_same_and_the_bound_holds(
    qwen: Model, watched: list[Stream], monkeypatch
) -> None:
    pairs = [(stream, QUESTIONS[0]) for stream in watched]
    expected = [stream.ask(question, max_new_tokens=8) for stream, question in pairs]
    scratch, most = qwen.adapter.scratch, []
    forward = qwen.adapter.forward

    def noting(embeddings, *steps):
        most.append((scratch.taken, sum(step.memory.turned is not None for step in steps)))
        return forward(embeddings, *steps)

    monkeypatch.setattr(qwen.adapter, "forward", noting)
    for room in (0, 1, 2, 3):
        most.clear()
        scratch.limit = room * 288 * turned.key_bytes(watched[0]._state.memory)
        assert qwen.ask(pairs, max_new_tokens=8) == expected
        assert max(kept for _, kept in most) >= room, "there was room for more"
        assert all(taken <= scratch.limit for taken, _ in most)


def test_the_room_is_given_back_whatever_ends_an_answer(qwen: Model, watched: list[Stream], monkeypatch) -> None:
    before, expected = [held(stream) for stream in watched], watched[0].ask(QUESTIONS[0], max_new_tokens=6)
    task = watched[0].begin_ask(QUESTIONS[0], max_new_tokens=6)
    for _ in range(3):
        runner.step([task])
    assert qwen.adapter.scratch.taken > 0
    task.cancel()
    assert qwen.adapter.scratch.taken == 0
    with monkeypatch.context() as patch, pytest.raises(Boom):
        fail_at(patch, qwen.adapter, "forward", 3)
        watched[1].ask(QUESTIONS[0], max_new_tokens=6)
    assert qwen.adapter.scratch.taken == 0
    with monkeypatch.context() as patch:
        patch.setattr(turned, "TurnedKeys", lacking)
        assert watched[0].ask(QUESTIONS[0], max_new_tokens=6) == expected, "a device without room"
    assert all(same(one, held(stream)) for one, stream in zip(before, watched, strict=True))


def test_the_bound_is_set_in_bytes(qwen: Model) -> None:
    assert qwen.answer_scratch == LIMIT
    for wrong in (-1, "1GiB", 0.5, None):
        with pytest.raises(SettingError, match="give a whole number of bytes"):
            qwen.answer_scratch = wrong  # type: ignore[assignment]
    qwen.answer_scratch = LIMIT
    assert qwen.adapter.scratch.limit == LIMIT


def lacking(*args: object) -> None:
    raise torch.OutOfMemoryError("on purpose")
