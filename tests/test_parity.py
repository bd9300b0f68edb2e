"""Without eviction, nothing changes: a stream against one forward of the transformers model over the whole prompt."""

import numpy as np
import pytest
import torch
from conftest import pictures

from infinipot import Model


def rendered(model: Model, *parts: str | list[dict]) -> str:
    """The conversation by the checkpoint's own template; user turns are texts or lists of content."""
    roles = ["user", "assistant"] * len(parts)
    messages = [
        {"role": role, "content": part if isinstance(part, list) else [{"type": "text", "text": part}]}
        for role, part in zip(roles, parts, strict=False)
    ]
    return model.family.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def about_video(question: str) -> list[dict]:
    return [{"type": "video"}, {"type": "text", "text": question}]


def positions_token_by_token(ids: list[int], video_token: int, grids: list, per_second: float | None, fps: float):
    """The models' rule, one token at a time: text counts on, a cell stands at (time, row, column) of its span."""
    positions: list[tuple[int, int, int]] = []
    spans, token = iter(grids), 0
    while token < len(ids):
        start = max((max(position) for position in positions), default=-1) + 1
        if ids[token] != video_token:
            positions.append((start, start, start))
            token += 1
            continue
        patches, rows, columns = next(spans)
        for patch in range(patches):
            seconds = patch * 2 / fps
            time = patch if per_second is None else int(seconds * per_second)
            positions += [
                (start + time, start + row, start + column) for row in range(rows) for column in range(columns)
            ]
        token += patches * rows * columns
    return torch.tensor(positions).T


def one_forward(model: Model, text: str, clips: list[list[np.ndarray]], fps: float) -> torch.Tensor:
    """Logits behind the prompt, `[vocab]`, by transformers' own processor and forward."""
    family = model.family
    inputs = family.processor(
        text=[text],
        videos=[torch.from_numpy(np.stack(clip)).permute(0, 3, 1, 2) for clip in clips],
        do_sample_frames=False,
        cap_pixels_per_frame=False,
        return_tensors="pt",
    )
    grids = [(t, h // 2, w // 2) for t, h, w in inputs["video_grid_thw"].tolist()]
    per_second = family.position_rule().tokens_per_second
    ids = inputs["input_ids"][0].tolist()
    positions = positions_token_by_token(ids, family.processor.video_token_id, grids, per_second, fps)
    with torch.inference_mode():
        return family.model(
            input_ids=inputs["input_ids"],
            pixel_values_videos=inputs["pixel_values_videos"],
            video_grid_thw=inputs["video_grid_thw"],
            position_ids=positions[:, None],
        ).logits[0, -1]


class Recorder:
    """Keeps the logits of every forward of a model's family, and can put words into its mouth."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.logits: list[torch.Tensor] = []
        self.script: list[int] = []
        forward = model.family.forward

        def recording(*args, **kwargs):
            self.logits.append(forward(*args, **kwargs))
            if not self.script:
                return self.logits[-1]
            return torch.nn.functional.one_hot(torch.tensor(self.script.pop(0)), len(self.logits[-1])).float()

        monkeypatch.setattr(model.family, "forward", recording)


@pytest.mark.parametrize("frames", [1, 2, 13, 18])
@pytest.mark.parametrize("block", [1, 2, 3, 8])
@pytest.mark.parametrize("fps", [2.0, 3.0])
def test_block_wise_prefill_gives_the_logits_of_one_forward(model, monkeypatch, frames, block, fps):
    clip = pictures(frames, seed=frames)
    question = "What colour was the circle?"
    recorder = Recorder(model, monkeypatch)
    with model.stream(memory=2048, policy="full", block=block, fps=fps) as stream:
        for image in clip:
            stream.watch(image)
        recorder.logits.clear()
        stream.ask(question, max_new_tokens=1)
    expected = one_forward(model, rendered(model, about_video(question)), [clip], fps)
    torch.testing.assert_close(recorder.logits[0], expected, atol=1e-4, rtol=0)


def test_frames_that_are_not_square_keep_rows_and_columns_apart(model, monkeypatch):
    clip = pictures(6, size=(48, 96))
    recorder = Recorder(model, monkeypatch)
    with model.stream(memory=2048, policy="full", block=2) as stream:
        for image in clip:
            stream.watch(image)
        recorder.logits.clear()
        stream.ask("Which shape was red?", max_new_tokens=1)
    expected = one_forward(model, rendered(model, about_video("Which shape was red?")), [clip], 2.0)
    torch.testing.assert_close(recorder.logits[0], expected, atol=1e-4, rtol=0)


def test_each_token_of_an_answer_gets_the_logits_of_one_forward(model, monkeypatch):
    clip = pictures(5)
    recorder = Recorder(model, monkeypatch)
    with model.stream(memory=2048, policy="full", block=2) as stream:
        for image in clip:
            stream.watch(image)
        recorder.logits.clear()
        recorder.script = model.family.tokenize("red circle blue square")
        answer = stream.ask("What came?", max_new_tokens=len(recorder.script))
    so_far = rendered(model, about_video("What came?"))
    torch.testing.assert_close(recorder.logits[0], one_forward(model, so_far, [clip], 2.0), atol=1e-4, rtol=0)
    # The last token of the answer is not run over: the logits are those behind the one before it.
    so_far += answer.removesuffix(" square")
    torch.testing.assert_close(recorder.logits[-1], one_forward(model, so_far, [clip], 2.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("more", [0, 1, 4])
def test_a_remembered_conversation_gives_the_logits_of_one_forward(model, monkeypatch, more):
    """Two turns, with or without new frames between them, are the chat that the template would render."""
    first, second = pictures(5, seed=1), pictures(more, seed=2)
    recorder = Recorder(model, monkeypatch)
    with model.stream(memory=2048, policy="full", block=2, dialogue=128) as stream:
        for image in first:
            stream.watch(image)
        recorder.script = [*model.family.tokenize("red circle"), min(model.family.stop_ids)]
        assert stream.ask("What colour was the circle?", remember=True) == "red circle"
        for image in second:
            stream.watch(image)
        recorder.logits.clear()
        stream.ask("Which shape was red?", max_new_tokens=1)
    follow_up = about_video("Which shape was red?") if second else "Which shape was red?"
    text = rendered(model, about_video("What colour was the circle?"), "red circle", follow_up)
    clips = [first, second] if second else [first]
    torch.testing.assert_close(recorder.logits[0], one_forward(model, text, clips, 2.0), atol=1e-4, rtol=0)
