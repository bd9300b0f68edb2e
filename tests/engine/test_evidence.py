"""What an answer rests on: where the event was, at no change of the answer or the memory."""

import copy
import pickle
import weakref
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

import infinipot
from infinipot import Model
from infinipot.embedded.world import Clip
from infinipot.engine import asking
from infinipot.engine.evidence import Answer, Gaze, Looked
from infinipot.memory import Step
from infinipot.memory.observation import Seen
from support.models import pictures


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(10_001, 64, 2.0, 6, cast="varied")


@pytest.fixture(scope="module")
def stream(clip: Clip):
    with infinipot.load("embedded").stream(300, fps=2) as stream:
        for frame in clip:
            stream.watch(frame)
        yield stream


def about_one_event(clip: Clip) -> list:
    asked = clip.every_question(63.5, np.random.default_rng(0), plain=True)
    return [question for question in asked if question.kind in ("colour", "shape", "where")]


def test_the_heaviest_span_is_where_the_event_was(clip: Clip, stream) -> None:
    near = []
    for question in about_one_event(clip):
        answer = stream.ask(question.text, evidence=True)
        if answer == question.answer:
            (event,) = question.about
            span = answer.evidence[0]
            assert span.end - span.start <= 8
            near.append(span.start <= event.end + 1 and span.end >= event.start - 1)
    assert len(near) > 8
    assert np.mean(near) >= 0.9


def test_looking_changes_neither_the_answer_nor_the_memory(clip: Clip, stream) -> None:
    before = {name: part.clone() for name, part in stream._state.memory.stored().items()}
    for question in about_one_event(clip)[:4]:
        answer = stream.ask(question.text, evidence=True)
        assert answer == stream.ask(question.text)
        assert not stream.ask(question.text).evidence
    after = stream._state.memory.stored()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_are_shares_and_times_are_those_of_what_is_held(stream) -> None:
    contents = stream.contents()
    held = {patch.time for patch in contents.patches}
    answer = stream.ask("How many shapes have appeared so far?", evidence=True)
    weights = [span.weight for span in answer.evidence]
    assert weights == sorted(weights, reverse=True)
    assert 0 < sum(weights) <= 1 + 1e-6
    for span in answer.evidence:
        assert span.time in held
        assert span.start <= span.time < span.end
        assert span.cells.shape == contents.patches[0].cells.shape
        assert span.cells.sum() == pytest.approx(1, abs=1e-3)
        assert span.as_dict()["cells"] == np.round(span.cells.astype(float), 4).tolist()


def test_a_span_lasts_as_long_as_its_frames_were_apart_whatever_the_rate_of_the_stream(clip: Clip) -> None:
    with infinipot.load("embedded").stream(300) as stream:
        for frame in clip:
            stream.watch(frame.image, 3 * frame.time)
        held = {patch.time for patch in stream.contents().patches}
        spans = stream.ask("How many shapes have appeared so far?", evidence=True).evidence
    assert spans
    assert all(min(abs(span.end - 3 - time) for time in held) < 1e-6 for span in spans)


def test_evidence_is_of_the_moment_of_the_answer_whenever_it_is_looked_at(clip: Clip) -> None:
    with infinipot.load("embedded").stream(300, fps=2) as stream:
        frames = list(clip)
        for frame in frames[:100]:
            stream.watch(frame)
        early, late = (stream.ask("Is there a shape now?", evidence=True) for _ in range(2))
        told = [span.as_dict() for span in early.evidence]
        for frame in frames[100:]:
            stream.watch(frame)
    assert [span.as_dict() for span in late.evidence] == told


def unread(stream) -> tuple[Answer, weakref.ref[Gaze]]:
    """An answer whose evidence was not read, and a reference to the tensors that it holds."""
    answer = stream.ask("Is there a shape now?", evidence=True)
    return answer, weakref.ref(answer._gaze)


def test_an_answer_holds_tensors_only_until_its_evidence_is_read(stream) -> None:
    answer, gaze = unread(stream)
    assert gaze() is not None
    told = answer.evidence
    assert told
    assert gaze() is None
    assert answer.evidence is told


def test_a_copy_of_an_answer_has_its_text_and_evidence_and_no_tensors(stream) -> None:
    for duplicate in (copy.copy, copy.deepcopy, lambda answer: pickle.loads(pickle.dumps(answer))):
        answer, gaze = unread(stream)
        made = duplicate(answer)
        assert gaze() is None
        assert (type(made), made) == (Answer, answer)
        assert vars(made) == {**vars(answer), "_spans": made.evidence}
        assert [span.as_dict() for span in made.evidence] == [span.as_dict() for span in answer.evidence] != []
    assert type(str(answer)) is str


def test_token_ids_that_are_kept_of_an_answer_do_not_keep_its_tensors(stream) -> None:
    answer, gaze = unread(stream)
    other = f"{answer} {answer!r}"  # a text that was not kept before
    facts: dict[str, Any] = {"tokens": 1, "prompt_tokens": 1, "finish_reason": "stop"}
    stream._setup.adapter.tokenize(Answer.of(other, **facts, gaze=answer._gaze))
    del answer
    assert gaze() is None


def test_heads_count_by_how_much_and_how_sharply_they_look_at_the_video(stream) -> None:
    memory = stream._state.memory
    group, rows = memory.place(0)
    cells = (group.columns["cell"][rows, : memory.held] >= 0)[0].nonzero()[:, 0]
    text = (group.columns["cell"][rows, : memory.held] < 0)[0].nonzero()[:, 0]
    looks = torch.zeros(len(group.columns["cell"][rows]), 2, memory.held)
    sharp, even = int(cells[7]), cells
    looks[:, 0, sharp] = 0.9
    looks[:, 0, text[0]] = 0.1
    looks[:, 1, even] = 1 / len(even)
    gaze, seen = Gaze(1.0), Looked.of(group, cast(Step, SimpleNamespace(end=memory.held)))
    seen.add(rows, looks)
    gaze._grids, gaze._looked = memory.grids, [seen]
    assert gaze.spans()[0].time == float(group.columns["time"][rows, sharp][0])
    assert gaze.spans()[0].weight > 0.8


def test_places_are_as_many_as_patches_are_held_however_long_the_stream_is() -> None:
    patch = torch.tensor([[31_536_000, 4, 31_536_000, 9, -1], [4, 4, 70, 9, 9]])
    cell = torch.tensor([[0, 1, 2, -1, -1], [3, 0, 0, 1, 2]])
    places, count = Looked(patch, cell, patch.float())._places()
    assert places.tolist() == [[4, 1, 4, 0, 0], [1, 1, 3, 2, 2]]
    assert count == 5


def test_packed_answers_bring_the_same_evidence(clip: Clip) -> None:
    model, questions = infinipot.load("embedded"), ["Is there a shape now?", "How many shapes have appeared so far?"]
    with model.stream(300, fps=2) as one, model.stream(200, fps=2) as other:
        for frame in list(clip)[:60]:
            one.watch(frame)
            other.watch(frame)
        alone = [stream.ask(text, evidence=True) for stream, text in zip((one, other), questions, strict=True)]
        together = model.ask(zip((one, other), questions, strict=True), evidence=True)
    for first, second in zip(alone, together, strict=True):
        assert [(span.start, span.end) for span in first.evidence] == [
            (span.start, span.end) for span in second.evidence
        ]
        assert [span.weight for span in first.evidence] == pytest.approx(
            [span.weight for span in second.evidence], abs=1e-4
        )


def test_it_is_worked_out_of_the_attention_of_each_layer_in_every_family(
    seeing: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers with a recurrent state lie between those that look, so that a layer's number is not that of its rows."""
    seen: list[torch.Tensor] = []
    gazes: list[Gaze] = []

    class Watched(Gaze):
        def __init__(self, seconds: float) -> None:
            super().__init__(seconds)
            gazes.append(self)

        def __call__(self, each: Seen) -> None:
            super().__call__(each)
            seen.extend(weights[:, :, 0].clone() for weights in each.weights(torch.tensor([each.step.count - 1])))

    monkeypatch.setattr(asking, "Gaze", Watched)
    with seeing.stream(700, block=2, positions="native") as stream:
        for picture in pictures(8):
            stream.watch(picture)
        answer = stream.ask("What?", max_new_tokens=1, evidence=True)
        held = {patch.time for patch in stream.contents().patches}
    (looked,) = gazes[0]._looked
    worked_out = torch.cat([looks for _, looks in looked.looks])  # which is weighed when somebody wants to see it
    torch.testing.assert_close(worked_out, torch.cat(seen), rtol=1e-4, atol=1e-6)
    assert {span.time for span in answer.evidence} <= held
