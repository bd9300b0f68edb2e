"""Without eviction, nothing changes: a stream against one forward of the transformers model over the whole prompt."""

import pytest
import torch

from support.adapters import OF_ONE_LENGTH
from support.models import build, given, pictures
from support.one_forward import (
    QUESTION,
    Clip,
    Recorder,
    about,
    close,
    first_logits,
    inputs_of,
    one_forward,
    rendered,
    right_positions,
    spoken,
    watch,
)


# One patch is a block of any size; a half-filled block and patch are left over of 13 frames, none by three of 18.
@pytest.mark.parametrize(("frames", "blocks"), [(1, (1,)), (2, (1, 3)), (13, (1, 8)), (18, (3, 8))])
def test_block_wise_prefill_gives_the_logits_of_one_forward(any_model, frames, blocks):
    clip = 0, given(any_model, frames, seed=frames)
    expected = one_forward(any_model, rendered(any_model, about(any_model, QUESTION)), [clip])
    for block in blocks:
        close(first_logits(any_model, clip, block=block), expected)


def test_frames_of_another_rate_stand_at_their_times(any_seeing):
    clip = 0, pictures(13)
    expected = one_forward(any_seeing, rendered(any_seeing, about(any_seeing, QUESTION)), [clip], fps=3.0)
    close(first_logits(any_seeing, clip, fps=3.0, block=2), expected)


def test_frames_that_are_not_square_keep_rows_and_columns_apart(any_seeing):
    clip = 0, pictures(6, size=(48, 96))
    expected = one_forward(any_seeing, rendered(any_seeing, about(any_seeing, QUESTION)), [clip])
    close(first_logits(any_seeing, clip, block=2), expected)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "qwen3_5", "internvl"])
def test_half_precision_is_as_exact_as_transformers(name):
    clip = 0, pictures(7)
    exact, half = build(name), build(name)
    half.adapter.model.to(torch.bfloat16)
    text = rendered(exact, about(exact, QUESTION))
    expected = one_forward(exact, text, [clip])
    theirs, ours = one_forward(half, text, [clip]).float(), first_logits(half, clip, block=2).float()
    assert 0 < (ours - expected).abs().max() < 2 * (theirs - expected).abs().max()


@pytest.mark.parametrize("frames", [4, 9])
def test_greedy_answers_are_those_of_generate(any_model, frames):
    def generated(clip: Clip) -> str:
        inputs = inputs_of(any_model, rendered(any_model, about(any_model, QUESTION)), [clip], 2.0)
        with right_positions(any_model, 2.0):
            ids = any_model.adapter.model.generate(**inputs, max_new_tokens=8, do_sample=False)
        return any_model.adapter.detokenize(ids[0, inputs["input_ids"].shape[1] :].tolist()).strip()

    clips = ((0, given(any_model, frames, seed)) for seed in range(frames, frames + 20))
    clip, expected = next((clip, said) for clip in clips if (said := generated(clip)))  # of some nothing is said
    with any_model.stream(memory=2048, policy="full", block=2) as stream:
        watch(stream, clip)
        assert stream.ask(QUESTION, max_new_tokens=8) == expected


def test_each_token_of_an_answer_gets_the_logits_of_one_forward(any_model, monkeypatch):
    clip = 0, given(any_model, 5)
    recorder = Recorder(any_model, monkeypatch)
    with any_model.stream(memory=2048, policy="full", block=2) as stream:
        watch(stream, clip)
        recorder.logits.clear()
        said = any_model.adapter.tokenize("red circle blue square")
        recorder.script = list(said)
        assert stream.ask(QUESTION, max_new_tokens=len(said)) == "red circle blue square"
    so_far = rendered(any_model, about(any_model, QUESTION))
    # The last token of the answer is not run over: the last logits are those behind the one before it.
    assert len(recorder.logits) == len(said)
    for index, logits in enumerate(recorder.logits):
        close(logits, one_forward(any_model, so_far, [clip], said=said[:index]))


@pytest.mark.parametrize("more", [0, 1, 4])
def test_a_remembered_conversation_gives_the_logits_of_one_forward(any_model, monkeypatch, more):
    """Two turns, with or without new frames between them, are the chat that the template would render."""
    # Some processors take several videos only if they are as long as each other.
    frames = more if more and any_model.adapter.model.config.model_type in OF_ONE_LENGTH else 5
    first, second = (0, given(any_model, frames, seed=1)), (frames, given(any_model, more, seed=2))
    recorder = Recorder(any_model, monkeypatch)
    with any_model.stream(memory=2048, policy="full", block=2, dialogue=128) as stream:
        watch(stream, first)
        said = any_model.adapter.tokenize(spoken(any_model, "red circle"), behind="x")
        recorder.script = [*said, min(any_model.adapter.stop_ids)]
        assert stream.ask(QUESTION, remember=True) == "red circle"
        watch(stream, second)
        recorder.logits.clear()
        stream.ask("Which shape was red?", max_new_tokens=1)
    follow_up = about(any_model, "Which shape was red?") if more else "Which shape was red?"
    text = rendered(any_model, about(any_model, QUESTION), "red circle", follow_up)
    close(recorder.logits[0], one_forward(any_model, text, [first, second] if more else [first]))
