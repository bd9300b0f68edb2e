"""Without eviction, nothing changes: a stream against one forward of the transformers model over the whole prompt."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from adapters import OF_ONE_LENGTH, POSITIONS, TEXTS
from conftest import give, given, pictures
from transformers.video_utils import VideoMetadata

from infinipot import Model, Stream

QUESTION = "What colour was the circle?"


def rendered(model: Model, *parts: str | list[dict]) -> str:
    """The conversation by the checkpoint's own template; user turns are texts or lists of content."""
    roles = ["user", "assistant"] * len(parts)
    messages = [
        {"role": role, "content": part if isinstance(part, list) else [{"type": "text", "text": part}]}
        for role, part in zip(roles, parts, strict=False)
    ]
    return model.adapter.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def about(model: Model, question: str) -> list[dict]:
    return [{"type": model.adapter.modality}, {"type": "text", "text": question}]


def spoken(model: Model, words: str) -> str:
    """An answer as the model says it: behind the space, if any, that the template puts ahead of an answer."""
    conversation = rendered(model, about(model, QUESTION), words)
    return conversation[len(rendered(model, about(model, QUESTION))) : conversation.index(words) + len(words)]


Clip = tuple[int, list[np.ndarray]]  # the number of its first frame in the stream, and its frames, or pieces of sound


def inputs_of(model: Model, text: str, clips: Sequence[Clip], fps: float) -> dict[str, Any]:
    """What transformers' own processor makes of a conversation and its clips."""
    adapter, videos, metadata = model.adapter, [], []
    if adapter.modality == "audio":
        sounds = [np.concatenate(pieces) for _, pieces in clips]
        return dict(adapter.processor(text=[text], audio=sounds, sampling_rate=16_000, return_tensors="pt"))
    for start, frames in clips:
        # A processor that takes no single frame is given it twice, which is what it makes of an odd last frame.
        shown = frames if len(frames) > 1 else frames * adapter.patch_frames
        numbers = [start + min(index, len(frames) - 1) for index in range(len(shown))]
        videos.append(torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2))
        metadata.append(VideoMetadata(total_num_frames=start + len(frames), fps=fps, frames_indices=numbers))
    with pytest.MonkeyPatch.context() as patch:
        if say := TEXTS.get(adapter.model.config.model_type):
            say(patch, adapter.processor, [start for start, _ in clips])
        made = adapter.processor(
            # Where the template brackets a video whose patches bring brackets of their own, models know only theirs.
            text=[text.replace(adapter.placeholder, adapter.processor.video_token)],
            videos=videos,
            video_metadata=metadata,
            do_sample_frames=False,
            fps=fps,
            cap_pixels_per_frame=False,
            return_tensors="pt",
        )
    return {name: value for name, value in made.items() if isinstance(value, torch.Tensor)}


@contextmanager
def right_positions(model: Model, fps: float) -> Iterator[None]:
    """Inside, transformers' model has the positions that it was trained with, also where it would count others."""
    network = model.adapter.model
    rule = POSITIONS.get(network.config.model_type)

    def counted(input_ids, video_grid_thw, **kwargs):
        positions = rule(network.config, input_ids[0].tolist(), video_grid_thw.tolist(), fps)
        return positions.unsqueeze(1), positions.max().view(1, 1) + 1 - positions.shape[1]

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        if rule is not None:
            patch.setattr(network.model, "get_rope_index", counted)
        yield


def one_forward(
    model: Model, text: str, clips: Sequence[Clip], fps: float = 2.0, said: Sequence[int] = ()
) -> torch.Tensor:
    """Logits behind the prompt, or tokens `said` behind it, `[vocab]`, by transformers' own processor and forward."""
    inputs = inputs_of(model, text, clips, fps)
    for name, tokens in (
        ("input_ids", said),
        ("attention_mask", [1] * len(said)),
        ("mm_token_type_ids", [0] * len(said)),
    ):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], inputs[name].new_tensor([tokens])], -1)
    with right_positions(model, fps):
        return model.adapter.model(**inputs).logits[0, -1]


def watch(stream: Stream, clip: Clip, fps: float = 2.0) -> None:
    start, frames = clip
    for number, content in enumerate(frames, start):
        give(stream, content, number / fps if stream._setup.adapter.modality == "video" else None)


class Recorder:
    """Keeps the logits of every forward of a model's family, and can put words into its mouth."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.logits: list[torch.Tensor] = []
        self.script: list[int] = []
        forward = model.adapter.forward

        def recording(*args, **kwargs):
            self.logits.append(forward(*args, **kwargs)[0])
            if not self.script:
                return self.logits[-1][None]
            return torch.nn.functional.one_hot(torch.tensor(self.script.pop(0)), len(self.logits[-1])).float()[None]

        monkeypatch.setattr(model.adapter, "forward", recording)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def first_logits(model: Model, clip: Clip, fps: float = 2.0, **options: Any) -> torch.Tensor:
    """Logits behind the prompt of a question about a clip that was watched in blocks."""
    with pytest.MonkeyPatch.context() as patch, model.stream(memory=2048, policy="full", **options) as stream:
        watch(stream, clip, fps)
        recorder = Recorder(model, patch)
        stream.ask(QUESTION, max_new_tokens=1)
        return recorder.logits[0]


@pytest.mark.parametrize("frames", [1, 2, 13, 18])
@pytest.mark.parametrize("block", [1, 3, 8])
def test_block_wise_prefill_gives_the_logits_of_one_forward(any_model, frames, block):
    clip = 0, given(any_model, frames, seed=frames)
    expected = one_forward(any_model, rendered(any_model, about(any_model, QUESTION)), [clip])
    close(first_logits(any_model, clip, block=block), expected)


def test_frames_of_another_rate_stand_at_their_times(any_seeing):
    clip = 0, pictures(13)
    expected = one_forward(any_seeing, rendered(any_seeing, about(any_seeing, QUESTION)), [clip], fps=3.0)
    close(first_logits(any_seeing, clip, fps=3.0, block=2), expected)


def test_frames_that_are_not_square_keep_rows_and_columns_apart(any_seeing):
    clip = 0, pictures(6, size=(48, 96))
    expected = one_forward(any_seeing, rendered(any_seeing, about(any_seeing, QUESTION)), [clip])
    close(first_logits(any_seeing, clip, block=2), expected)


@pytest.mark.parametrize("frames", [4, 9])
def test_greedy_answers_are_those_of_generate(any_model, frames):
    clip = 0, given(any_model, frames, seed=frames)
    inputs = inputs_of(any_model, rendered(any_model, about(any_model, QUESTION)), [clip], 2.0)
    with right_positions(any_model, 2.0):
        generated = any_model.adapter.model.generate(**inputs, max_new_tokens=8, do_sample=False)
    with any_model.stream(memory=2048, policy="full", block=2) as stream:
        watch(stream, clip)
        answer = stream.ask(QUESTION, max_new_tokens=8)
    expected = any_model.adapter.detokenize(generated[0, inputs["input_ids"].shape[1] :].tolist()).strip()
    assert expected
    assert answer == expected


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
