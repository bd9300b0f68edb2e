"""A stream, and transformers' own forward over the whole prompt, as tests compare them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from transformers.video_utils import VideoMetadata

from infinipot import Stream
from infinipot.model import Model
from support.adapters import POSITIONS, TEXTS
from support.models import give

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

    def counted(rule, input_ids, video_grid_thw, **kwargs):
        positions = rule(network.config, input_ids[0].tolist(), video_grid_thw.tolist(), fps)
        return positions.unsqueeze(1), positions.max().view(1, 1) + 1 - positions.shape[1]

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        if rule is not None:
            patch.setattr(network.model, "get_rope_index", partial(counted, rule))
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
