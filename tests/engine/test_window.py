"""A question about the newest seconds: what is older may hold anything, and nothing of it leaves."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infinipot import Model, QuestionError, Stream
from infinipot.memory import Window
from infinipot.memory.storage import Rows
from support.memories import held, same
from support.models import build, give, given, logits, pictures

SMALL: dict[str, Any] = {"memory": 400, "reserve": 70, "dialogue": 60, "block": 2}
SECOND = 1.0  # from one frame to the next


def watched(model: Model, count: int = 31, **settings: Any) -> Stream:
    """A stream whose memory was full several times, and of which nothing waits for its block in the end."""
    stream = model.stream(**{**SMALL, **settings})
    for number, content in enumerate(given(model, count + 8)):
        give(stream, content, SECOND * number)
        if number >= count and not stream._state.pending.starts(stream._setup):
            break
    return stream


def video(group: Rows, stream: Stream) -> tuple[Tensor, Tensor]:
    """Which slots held are the video's, and their seconds."""
    count = stream._state.memory.held
    return group.columns["patch"][:, :count] >= 0, group.columns["time"][:, :count]


def spoil(stream: Stream, before: float) -> int:
    """Overwrites what is held of the video from before a second; returns how many slots."""
    spoilt = 0
    for group in stream._state.memory.groups:
        seen, time = video(group, stream)
        old = seen & (time < before)
        for part in (group.keys, group.values):
            part[:, : old.shape[1]][old] = 7.0
        spoilt += int(old.sum())
    return spoilt


def test_what_is_out_of_the_window_may_hold_anything(seeing: Model) -> None:
    window = 6.0
    with watched(seeing) as stream:
        before = held(stream)
        narrow, wide = (logits(seeing, stream, window=seconds) for seconds in (window, 1e6))
        everything = logits(seeing, stream)
        assert torch.allclose(wide, everything, atol=1e-4)
        assert same(held(stream), before)
        with stream.fork() as other, torch.inference_mode():
            assert spoil(other, stream.stats().time - window) > 20
            if seeing.adapter.packs:  # a recurrent state has taken up all there was
                assert torch.equal(logits(seeing, other, window=window), narrow)
            assert not torch.allclose(logits(seeing, other), everything, atol=1e-3)


def test_the_newest_patch_is_seen_however_short_the_window_is() -> None:
    model = build("qwen2_5_vl")
    with watched(model) as stream, stream.fork() as other, torch.inference_mode():
        found, newest = logits(model, stream, window=1e-3), stream._state.memory.cursor.latest
        spoil(other, newest)
        assert torch.equal(logits(model, other, window=1e-3), found)
        spoil(other, newest + 1)
        assert not torch.allclose(logits(model, other, window=1e-3), found, atol=1e-4)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "internvl"])
def test_frames_that_wait_see_the_past_whether_or_not_the_question_behind_them_does(name: str) -> None:
    """So the same question has the same answer, whatever waits for its block."""
    model, found = build(name), []
    for block in (1, 4):
        with model.stream(memory=700, reserve=70, dialogue=40, block=block) as stream:
            for number, image in enumerate(pictures(14)):
                stream.watch(image, SECOND * number)
            assert bool(stream._state.pending.patches) == (block > 1)
            found.append(logits(model, stream, window=4.0))
            everything = logits(model, stream)
            assert not stream.stats().compressions
    assert torch.allclose(found[0], found[1], atol=1e-4)
    assert not torch.allclose(found[0], everything, atol=1e-3)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "internvl"])
def test_a_turn_that_is_remembered_leaves_the_video_as_it_is(name: str) -> None:
    model = build(name)
    with watched(model) as stream, stream.fork() as other:
        stream.ask("What?", remember=True, max_new_tokens=1)
        other.ask("What?", remember=True, max_new_tokens=1, window=3.0)
        assert stream.stats().turns == other.stats().turns == 1
        for one, two in zip(stream._state.memory.groups, other._state.memory.groups, strict=True):
            (cells, _), (same_cells, _) = video(one, stream), video(two, other)
            assert torch.equal(cells, same_cells)
            for part, twin in ((one.keys, two.keys), (one.values, two.values)):
                assert torch.allclose(part[:, : cells.shape[1]][cells], twin[:, : cells.shape[1]][cells], atol=1e-5)


def test_evidence_lies_in_the_window() -> None:
    model = build("qwen2_5_vl")
    with watched(model) as stream:
        begun = stream.stats().time - 5.0
        assert min(span.start for span in stream.ask("What?", evidence=True, max_new_tokens=4).evidence) < begun
        spans = stream.ask("What?", evidence=True, max_new_tokens=4, window=5.0).evidence
        assert spans
        assert min(span.start for span in spans) >= begun - 1


def test_of_what_a_gate_left_out_the_newest_token_shows_the_present() -> None:
    """Nothing changes for a minute: what the cells show now is what they showed when they were last given."""
    model, image = build("qwen2_5_vl"), pictures(1)[0]
    streams = [model.stream(**SMALL, gate=gate) for gate in (None, "patches")]
    for stream in streams:
        for number in range(60):
            stream.watch(image, float(number))
    plain, gated = streams
    assert gated.stats().gated_tokens > 100 > plain.stats().gated_tokens
    assert gated._state.pending.tokens(gated._setup) == 0
    with gated.fork() as other, torch.inference_mode():
        found = logits(model, other, window=2.0)
        spoil(other, 59.0)
        assert not torch.allclose(logits(model, other, window=2.0), found, atol=1e-3)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_hidden_is_what_is_too_old_and_of_a_gated_stream_not_what_was_given_last(seed: int, whole: bool) -> None:
    random = np.random.default_rng(seed)
    patch, cell = random.integers(-1, 9, (3, 40)), random.integers(-1, 7, (3, 40))
    cell[patch < 0] = -1
    time = 2.0 * patch
    for gated, looked in ((range(0), 9), (range(2, 5), 9), (range(0), 3), (range(2, 5), 3)):
        found = Window(8.0, looked, gated, whole).hidden(*(torch.from_numpy(each) for each in (patch, cell, time)))
        for row, slot in np.ndindex(3, 40):
            of_cell = np.isin(cell, [*gated]) if whole else cell == cell[row, slot]  # whichever row holds it
            present = cell[row, slot] in gated and patch[row, slot] == patch[of_cell].max()
            expected = 0 <= patch[row, slot] < looked and time[row, slot] < 8.0 and not present
            assert bool(found[row, slot]) == expected


@pytest.mark.parametrize("window", [0, -1.0, float("nan"), float("inf"), "4", True])
def test_a_window_that_is_no_time_is_refused(window: object) -> None:
    with watched(build("qwen2_5_vl"), 3) as stream, pytest.raises(QuestionError, match="window="):
        stream.ask("What?", window=window)  # type: ignore[arg-type]


def test_a_gated_stream_that_remembers_turns_can_be_asked_about_its_newest_seconds(qwen: Model) -> None:
    with watched(qwen, 6, gate="otsu") as stream:
        stream.ask("What?", max_new_tokens=2, remember=True)
        wide, everything = logits(qwen, stream, window=1e6), logits(qwen, stream)
        assert torch.allclose(wide, everything, atol=1e-4)
