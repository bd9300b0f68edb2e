"""A second look: the last frames beside the memory, for one question."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from infinipot import CapError, Model, QuestionError, SettingError, Stream
from infinipot.engine import looking
from infinipot.engine.requests import Encode, Prepare, Request
from infinipot.memory import Window
from support.memories import held, same
from support.models import build, pictures

ASK: dict[str, Any] = {"max_new_tokens": 3}


def watched(model: Model, images: list[np.ndarray], **settings: Any) -> Stream:
    given: dict[str, Any] = {"memory": 700, "reserve": 200, "dialogue": 100, "positions": "native", "look_again": 4}
    stream = model.stream(**{**given, "policy": "infinipot-v", "block": 2, **settings})
    for image in images:
        stream.watch(image)
    return stream


def seeing_packs(model: Model) -> Model:
    if not model.adapter.packs:
        pytest.skip("keeps a recurrent state")
    return model


@pytest.mark.parametrize("frames", [4, 7, 8])
def test_a_second_look_leaves_the_memory_as_it_was(frames: int, seeing: Model) -> None:
    with watched(seeing_packs(seeing), pictures(frames)) as stream:
        before, stats = held(stream), stream.stats()
        plain = stream.ask("What?", **ASK)
        stream.ask("What?", look_again=4, **ASK)
        assert same(held(stream), before)
        assert stream.ask("What?", **ASK) == plain
        after = stream.stats()
        assert after.seconds["look_again"] > stats.seconds["look_again"] == 0
        assert after.tokens == stats.tokens < after.peak_tokens - 4
        with watched(seeing, pictures(frames), look_again=0) as other:
            assert other.ask("What?", **ASK) == plain
            assert same(held(other), before)


def test_it_sees_the_prompt_and_itself_and_nothing_of_the_past(seeing: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same frames behind two pasts have the same keys and values; the question behind them sees both."""
    found, steps, step = [], [], type(seeing_packs(seeing).adapter).forward

    def forward(adapter, embeddings, *given):
        logits = step(adapter, embeddings, *given)
        steps.append(given[0])
        if given[0].ahead is not None:
            own = slice(given[0].start, given[0].end)
            group = given[0].memory.groups[0]
            found.append(torch.cat([group.keys[:, own].flatten(), group.values[:, own].flatten()]))
        return logits

    monkeypatch.setattr(type(seeing.adapter), "forward", forward)
    last = pictures(4, seed=5)
    for seed in (1, 2):
        with watched(seeing, [*pictures(4, seed=seed), *last]) as stream:
            steps.clear()
            stream.ask("What?", look_again=4, max_new_tokens=1)
            asked = steps[-1]
            assert asked.ahead is None
            assert asked.end > steps[-2].end > stream.stats().tokens
    assert torch.equal(*found)


def test_all_that_a_second_look_takes_counts_as_one(qwen: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    phases: list[tuple[type, str]] = []

    def noted(requests: Sequence[Request]) -> Sequence[Any]:
        phases.extend((type(request), request.phase) for request in requests)
        return run[type(requests[0])](requests)

    run: dict[type, Any] = {kind: kind.run for kind in (Prepare, Encode)}
    with watched(qwen, pictures(8)) as stream:
        for kind in run:
            monkeypatch.setattr(kind, "run", staticmethod(noted))
        stream.ask("What?", look_again=4, max_new_tokens=1)
    assert phases == [(Prepare, "look_again"), (Encode, "look_again")]


def test_an_answer_depends_on_what_is_looked_at(qwen: Model) -> None:
    drawn: dict[str, Any] = {
        "max_new_tokens": 6,
        "temperature": 3.0,
        "seed": 1,
    }  # so that any change of the logits shows
    with watched(qwen, pictures(8)) as stream:
        answers = {stream.ask("What?", look_again=look, **drawn) for look in (0, 2, 4)}
        answers.add(stream.ask("What?", look_again=4, look_pixels=(6400, 6400), **drawn))
        assert len(answers) > 1
        task = stream.begin_ask("What?", look_again=4, **drawn)
        while not task.done:
            qwen.step([task])
        assert task.result() == stream.ask("What?", look_again=4, **drawn)


def test_a_remembered_turn_remembers_no_second_look(seeing: Model) -> None:
    with watched(seeing_packs(seeing), pictures(6)) as stream:
        before = stream.stats()
        stream.ask("What?", look_again=4, remember=True, **ASK)
        after = stream.stats()
        waiting = stream._state.memory.cursor.patch - before.patches
        room = waiting * (stream._state.pending.grid.cells + seeing.adapter.caption_limit)
        assert after.turns == 1
        assert after.video_tokens <= before.video_tokens + room
        stream.ask("And?", look_again=4, **ASK)
        for image in pictures(3, seed=2):
            stream.watch(image)
        stream.ask("And?", look_again=4, **ASK)


def test_what_does_not_fit_says_what_would(qwen: Model) -> None:
    with watched(qwen, pictures(4), reserve=64) as stream:
        before = held(stream)
        with pytest.raises(CapError, match="the second look takes 200 tokens") as told:
            stream.ask("What?", look_again=4, look_pixels=(25600, 25600), **ASK)
        assert same(held(stream), before)
        assert "\n" not in str(told.value)
    enough = int(re.findall(r"reserve=(\d+)", str(told.value))[0])
    for reserve, fits in ((enough, True), (enough - 1, False)):
        with watched(qwen, pictures(4), reserve=reserve) as stream:
            if fits:
                stream.ask("What?", look_again=4, look_pixels=(25600, 25600), **ASK)
                continue
            with pytest.raises(CapError):
                stream.ask("What?", look_again=4, look_pixels=(25600, 25600), **ASK)


def test_more_than_is_kept_or_no_number_is_told(qwen: Model) -> None:
    with watched(qwen, pictures(2)) as stream:
        with pytest.raises(QuestionError, match=r"look_again=5: the stream keeps 4 .* open it with look_again=5"):
            stream.ask("What?", look_again=5)
        with pytest.raises(QuestionError, match="look_again='two': the stream keeps 4"):
            stream.ask("What?", look_again=cast(Any, "two"))
    with pytest.raises(SettingError, match="look_again=-1: give a whole number"):
        qwen.stream(look_again=-1)
    with pytest.raises(SettingError, match="layers with a recurrent state"):
        build("qwen3_5").stream(look_again=2)
    with pytest.raises(
        SettingError, match="look_again=2 is for frames, but this stream listens to sound: leave look_again out"
    ):
        build("qwen2_5_omni", "audio").stream(look_again=2)


def test_the_ring_is_bounded_promised_and_a_copy(qwen: Model) -> None:
    with watched(qwen, [], look_again=3) as stream:
        buffer = np.zeros((64, 64, 3), np.uint8)
        for number in range(6):
            buffer[:] = number
            stream.watch(buffer)
        large = np.zeros((1200, 1600, 3), np.uint8)
        recent = stream._state.pending.recent
        assert [int(frame.image[0, 0, 0]) for frame in recent] == [3, 4, 5]
        kept = looking.recent_after(stream._setup, recent, type(recent[0])(large, 9.0))
        assert len(kept) == 3
        assert kept[-1].image.size <= 3 * stream._setup.picture_pixels < large.size
        own: dict[str, Any] = {"reserve": 200, "dialogue": 100, "positions": "native", "block": 2}
        assert stream.stats().bytes == qwen.stream_bytes(700, look_again=3, **own)
        assert stream.stats().bytes - qwen.stream_bytes(700, **own) == 3 * 3 * stream._setup.picture_pixels


def test_the_size_of_a_kept_frame_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only the processor knows the one size that frames are resized to."""
    with watched(build("llava_onevision"), pictures(1)) as stream:
        adapter, prepared = type(stream._setup.adapter), []
        patchify = adapter.patchify
        monkeypatch.setattr(adapter, "patchify", lambda *given: prepared.extend(given[1]) or patchify(*given))
        for picture in pictures(3):
            stream.watch(picture)
            assert stream.stats().bytes
        assert len(prepared) == 3, "the frames and nothing else"


def test_saved_and_forked_streams_look_at_the_same(qwen: Model, tmp_path: Path) -> None:
    with watched(qwen, pictures(7)) as stream:
        stream.save(tmp_path / "saved")
        answer = stream.ask("What?", look_again=4, max_new_tokens=8)
        with stream.fork() as forked, qwen.restore(tmp_path / "saved") as restored:
            assert {each.ask("What?", look_again=4, max_new_tokens=8) for each in (forked, restored)} == {answer}


@pytest.mark.parametrize("pixels", [(10**12, 10**12), (0, 9), (9, 3), (9,), ("a", "b"), 600_000, {9: 9, 10: 10}])
def test_frames_too_large_to_be_looked_at_are_refused_before_one_is_resized(pixels: Any, qwen: Model) -> None:
    with watched(qwen, pictures(2)) as stream, pytest.raises(QuestionError, match="look_pixels="):
        stream.ask("What?", look_again=2, look_pixels=pixels)


def test_a_size_of_no_second_look_is_refused(qwen: Model) -> None:
    with watched(qwen, pictures(1)) as stream:
        for asked in (stream.ask, stream.begin_ask, stream.answer_limit):
            with pytest.raises(QuestionError, match="give look_again, too"):
                asked("What?", look_pixels=(64, 64))


@pytest.mark.parametrize("larger", [None, (6400, 6400)])
@pytest.mark.parametrize("gate", [None, "patches"])
def test_what_is_looked_at_again_is_of_its_own_moment_and_seen_through_any_window(
    gate: str | None, larger: tuple[int, int] | None, seeing: Model
) -> None:
    """Whether it has the grid of the frames or one of its own, whose cells are not those of another."""
    if larger and not seeing_packs(seeing).adapter.cell_pixels:
        pytest.skip("frames have one size")
    found: list[tuple[torch.Tensor, ...]] = []
    window = Window.hidden

    def hidden(self: Window, *columns: torch.Tensor) -> torch.Tensor:
        found.append((*columns, window(self, *columns)))
        return found[-1][-1]

    with watched(seeing_packs(seeing), pictures(8), gate=gate) as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Window, "hidden", hidden)
        answer = stream.ask("What?", look_again=4, look_pixels=larger, evidence=True, window=0.6, **ASK)
        memory, newest = stream._state.memory, stream.stats().time
    number, cell, time, unseen = found[0]
    again = number >= memory.cursor.patch
    times = {newest - second for second in (1.5, 1.0, 0.5, 0.0)[:: seeing.adapter.patch_frames]}
    assert set(time[again].tolist()) == times
    assert not unseen[again].any()
    assert unseen[~again].any()
    known = sum(grid.cells for grid in memory.grids)
    assert bool((cell[again & (cell >= 0)] >= known).all()) == bool(larger)
    assert all(span.time <= newest and span.cells.sum() == pytest.approx(1, abs=1e-3) for span in answer.evidence)
