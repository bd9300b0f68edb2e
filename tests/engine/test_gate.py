"""The gate ahead of the model: what stands still is not given again, and nothing else is any different."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infinipot import Model, SettingError, Stream, policies
from infinipot.engine.gating import distances, otsu
from infinipot.models.pictures import picture_bytes
from support.faults import Boom, fail_at
from support.memories import held, same, slots
from support.models import build, pictures

ASK: dict[str, Any] = {"max_new_tokens": 3}
STILL = pictures(1, seed=3)[0]


def shown(cell: tuple[int, int] | None = None, still: np.ndarray = STILL, side: int = 16) -> np.ndarray:
    """A still picture, with something in one of its cells."""
    image = still.copy()
    if cell is not None:
        row, column = (side * each for each in cell)
        image[row : row + side, column : column + side] = 255 - still[row : row + side, column : column + side]
    return image


def watched(model: Model, images: list[np.ndarray], **settings: Any) -> Stream:
    stream = model.stream(**{"memory": 1500, "policy": "full", "positions": "native", "block": 2, **settings})
    for image in images:
        stream.watch(image)
    return stream


def scene(model: Model, *patches: np.ndarray) -> list[np.ndarray]:
    """Frames of which each temporal patch shows one picture."""
    return [image for image in patches for _ in range(model.adapter.patch_frames)]


def noisy(image: np.ndarray, seed: int, level: float = 3.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, level, image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


def places(stream: Stream, layer: int = 0) -> dict[tuple[int, int], tuple[float, ...]]:
    """Where each cell that a layer holds stands, by its patch and its cell, the same for all of its heads."""
    columns = slots(stream._state.memory, layer)
    found = {}
    for place in range(columns.cell.shape[1]):
        key = int(columns.patch[0, place]), int(columns.cell[0, place])
        if key[1] >= 0:
            found[key] = tuple(float(part[0, place]) for part in (columns.temporal, columns.base, columns.time))
    return found


def test_a_gate_that_lets_everything_through_changes_nothing(seeing: Model) -> None:
    images = [*pictures(5), STILL, STILL, STILL]
    with (
        watched(seeing, images, policy="infinipot-v") as plain,
        watched(seeing, images, policy="infinipot-v", gate=0) as gated,
    ):
        assert same(held(plain), held(gated))
        assert plain.ask("What?", **ASK) == gated.ask("What?", **ASK)
        assert gated.stats().gated_tokens == 0


def test_cells_that_are_given_stand_where_they_would_among_all(seeing: Model) -> None:
    other = shown(still=pictures(1, seed=4)[0])
    images = scene(seeing, STILL, STILL, shown((1, 2)), shown((1, 2)), STILL, STILL, STILL, other, other, other)
    with watched(seeing, images) as plain, watched(seeing, images, gate="otsu") as gated:
        every, given_ = places(plain), places(gated)
        assert given_.items() <= every.items()
        assert len(given_) < len(every) / 2
        numbers = {patch for patch, _ in given_}
        assert {0, 2, 4, 7} <= numbers <= {0, 2, 4, 7, 8, 9}
        ours, theirs = plain._state.memory, gated._state.memory
        assert (theirs.cursor.next, theirs.cursor.patch) == (ours.cursor.next, ours.cursor.patch)
        assert set(theirs.state.captions) <= numbers
        assert gated.stats().gated_tokens == len(every) - len(given_)
        assert gated.stats().time == plain.stats().time


def test_an_event_of_one_patch_is_given_and_so_is_its_end(qwen: Model) -> None:
    with watched(qwen, scene(qwen, STILL, STILL, shown((3, 0)), STILL, STILL, STILL), gate="otsu") as stream:
        assert set(places(stream)) == {
            *((0, cell) for cell in range(16)),
            *((patch, cell) for patch in (2, 3) for cell in (8, 9, 12, 13)),
        }


def test_an_event_of_one_frame_of_a_few_pixels_is_given(qwen: Model) -> None:
    event = STILL.copy()
    event[20:24, 36:40] = 255 - event[20:24, 36:40]
    with watched(qwen, [STILL, STILL, STILL, event, *[STILL] * 4], gate="otsu") as stream:
        around = (1, 2, 3, 5, 6, 7, 9, 10, 11)
        assert {(patch, cell) for patch in (1, 2) for cell in around} == {key for key in places(stream) if key[0]}


def test_a_gate_of_whole_patches_gives_all_of_a_patch_in_which_anything_changes(seeing: Model) -> None:
    """Of those in which nothing does it gives nothing, whatever a gate of cells would give of the others."""
    images = scene(seeing, STILL, STILL, shown((1, 2)), shown((1, 2)), STILL, STILL, STILL, STILL)
    with watched(seeing, images) as plain, watched(seeing, images, gate="patches") as gated:
        assert places(gated) == {key: place for key, place in places(plain).items() if key[0] in (0, 2, 4)}
        assert gated.stats().gated_tokens == len(places(plain)) - len(places(gated))


@pytest.mark.parametrize("spec", [kind.name for kind in policies.available() if kind.whole_patches])
def test_policies_that_take_patches_whole_take_whole_patches_of_a_gate(spec: str, qwen: Model) -> None:
    frames = scene(qwen, *(image for image in pictures(9) for _ in range(2)))
    settings = {"policy": spec, "reserve": 56, "dialogue": 0, "positions": "rebase"}
    with watched(qwen, frames, gate="patches", memory=300, **settings) as stream:
        assert stream.stats().gated_tokens == 9 * 16
        assert stream.ask("What?", **ASK)


def test_of_a_noisy_still_camera_nothing_is_encoded_again(qwen: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    smooth = np.kron(pictures(1, size=(8, 8))[0], np.ones((8, 8, 1), np.uint8))
    encoded, encode = [], qwen.adapter.encode
    monkeypatch.setattr(qwen.adapter, "encode", lambda patches: encoded.append(len(patches)) or encode(patches))
    with watched(qwen, [noisy(smooth, seed) for seed in range(40)], gate="otsu") as stream:
        stats = stream.stats()
        assert (sum(encoded), stats.patches, stats.gated_tokens) == (1, 20, 19 * 16)


def test_of_random_pictures_almost_nothing_is_left_out(seeing: Model) -> None:
    with watched(seeing, pictures(16), gate="otsu") as stream:
        assert stream.stats().gated_tokens <= 0.02 * len(places(stream))


def test_changes_too_slow_to_be_seen_from_patch_to_patch_add_up(qwen: Model) -> None:
    half = np.full((64, 64, 3), 60, np.uint8)
    images = [half.copy() for _ in range(60)]
    for number, image in enumerate(images):
        image[:16, :16] += number
    with watched(qwen, images, gate=0.05) as stream:
        given_ = [patch for patch, cell in places(stream) if cell == 0]
        assert len(given_) == 1 + 60 // 14
        assert {cell for patch, cell in places(stream) if patch} == {0, 1, 4, 5}


def test_a_place_is_given_again_after_a_while(qwen: Model) -> None:
    with watched(qwen, scene(qwen, *[STILL] * 140), gate="otsu", memory=600) as stream:
        assert sorted({patch for patch, _ in places(stream)}) == [0, 65, 130]


def test_other_frames_and_remembered_turns_open_with_a_whole_patch(seeing: Model) -> None:
    frames = seeing.adapter.patch_frames
    with watched(seeing, scene(seeing, STILL, STILL), gate="otsu", policy="infinipot-v", dialogue=200) as stream:
        cells = stream._state.pending.grid.cells
        stream.ask("What?", remember=True, **ASK)
        for _ in range(4 * frames):
            stream.watch(STILL)
        numbers = [patch for patch, _ in places(stream)]
        assert (numbers.count(2), max(numbers)) == (cells, 2)
        assert seeing.adapter.caption_limit == 0 or set(stream._state.memory.state.captions) == {0, 2}
        stream.ask("And now?", **ASK)
        for _ in range(2 * frames):
            stream.watch(pictures(1, size=(48, 96))[0])
        stream.watch(STILL)


@pytest.mark.parametrize("spec", [kind.name for kind in policies.available() if not kind.whole_patches])
def test_every_policy_copes_with_parts_of_patches(spec: str, qwen: Model) -> None:
    rng = np.random.default_rng(1)
    moving = [image for _ in range(7) for image in [shown(tuple(rng.choice([0, 3], 2)))] * 2]
    frames = scene(qwen, *pictures(3), *moving, *[STILL] * 2, *pictures(1, seed=9))
    memory = 1500 if spec == "full" else 190
    with watched(qwen, frames, policy=spec, memory=memory, reserve=100, dialogue=0, gate="otsu") as stream:
        stats = stream.stats()
        assert stats.peak_tokens <= stats.cap
        assert (stats.patches, stats.gated_tokens > 16 * 4) == (20, True)
        assert spec == "full" or stats.compressions
        assert isinstance(stream.ask("What?", **ASK), str)


def test_hours_of_stillness_stay_inside_the_trained_positions(seeing: Model) -> None:
    reach = seeing.adapter.position_range
    with watched(
        seeing, scene(seeing, *pictures(2)), positions="rebase", policy="infinipot-v", gate=0.9, memory=400, reserve=100
    ) as stream:
        time = 1.0 * len(pictures(4))
        for _ in range(150):
            time += reach / 250
            stream.watch(STILL, time)
        assert stream.stats().rebases or seeing.adapter.title == "Qwen2-VL"  # which counts one position a patch
        assert stream._state.memory.cursor.next + 100 <= reach
        stream.ask("What?", **ASK)


def test_saved_forked_and_interrupted_streams_go_on_as_if_nothing_had_been(
    seeing: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    frames = scene(
        seeing, STILL, *[image for _ in range(5) for image in [shown(tuple(rng.choice([0, 3], 2)))] * 2], STILL
    )
    settings = {"policy": "infinipot-v", "gate": "otsu", "block": 4}
    half = len(frames) // 2
    with watched(seeing, frames, **settings) as straight, watched(seeing, frames[:half], **settings) as stream:
        assert any(patch.places is not None for patch in stream._state.pending.patches)
        stream.save(tmp_path / "saved")
        with stream.fork() as forked, seeing.restore(tmp_path / "saved") as restored:
            for image in frames[half:]:
                with monkeypatch.context() as patch:
                    fail_at(patch, type(seeing.adapter), "forward", 1)
                    before = stream.stats().gated_tokens
                    try:
                        stream.watch(image)
                    except Boom:
                        assert stream.stats().gated_tokens == before
                        patch.undo()
                        stream.watch(image)
                forked.watch(image)
                restored.watch(image)
            for other in (stream, forked, restored):
                assert same(held(other), held(straight))
                assert other.stats().gated_tokens == straight.stats().gated_tokens > 0


def test_streams_side_by_side_do_what_each_does_alone(qwen: Model) -> None:
    clips = [scene(qwen, *[shown((number % 4, column % 3)) for column in range(6)]) for number in range(3)]
    alone = [watched(qwen, clip, gate="otsu") for clip in clips]
    streams = [watched(qwen, [], gate="otsu") for _ in clips]
    for images in zip(*clips, strict=True):
        qwen.watch(list(zip(streams, images, strict=True)))
    for one, other in zip(alone, streams, strict=True):
        assert places(one) == places(other)


def test_what_a_gate_takes_is_promised(qwen: Model) -> None:
    with watched(qwen, [STILL] * 4, gate="otsu") as stream:
        assert stream.stats().bytes == qwen.stream_bytes(1500, "full", gate="otsu", positions="native", block=2)
        shown_last = stream._state.pending.shown
        assert shown_last is not None
        taken = shown_last.pictures.nbytes
        assert 0 < taken <= stream.stats().bytes - qwen.stream_bytes(1500, "full", positions="native", block=2)
    cap = qwen.stream("1MiB", gate="otsu").stats().cap
    assert qwen.stream_bytes(cap, gate="otsu") <= 1 << 20 < qwen.stream_bytes(cap + 1, gate="otsu")


@pytest.mark.parametrize("gate", ["soon", "", -0.1, 1.5, float("nan"), True, "nan", object()])
def test_what_is_no_gate_is_told(gate: Any, qwen: Model) -> None:
    with pytest.raises(SettingError, match=r'^gate=.*give "patches", "otsu", a share') as told:
        qwen.stream(gate=gate)
    assert "\n" not in str(told.value)


def test_streams_that_no_gate_can_serve_say_so(qwen: Model) -> None:
    for spec in ("recent-frames", "infinipot-v-reference"):
        with pytest.raises(SettingError, match=f"policy '{spec}' needs whole patches"):
            qwen.stream(policy=spec, gate="otsu")
    with pytest.raises(SettingError, match=r"gate=0\.5 compares pictures, but the stream is of audio"):
        build("qwen2_5_omni", "audio").stream(gate=0.5)


def test_otsu_parts_two_heaps_and_takes_any_numbers() -> None:
    low, high = torch.rand(30) * 0.1, 0.7 + torch.rand(9) * 0.2
    threshold = otsu(torch.cat([high, low]))
    assert low.max() < threshold <= high.min()
    values = torch.rand(40)
    between = [
        len(low) * len(high) * float((low.mean() - high.mean()) ** 2)
        for cut in values.sort().values[1:]
        for low, high in [(values[values < cut], values[values >= cut])]
    ]
    cut = values.sort().values[1:][int(np.argmax(between))]
    assert int((values >= otsu(values)).sum()) == int((values >= cut).sum())
    assert (otsu(torch.zeros(5)), otsu(torch.ones(1))) == (0, 1)


def test_pictures_are_those_of_the_cells_that_the_encoder_sees(seeing: Model) -> None:
    """A bright spot in the middle of a cell changes the picture of that cell most."""
    adapter, dark = seeing.adapter, np.zeros((96, 96, 3), np.uint8)
    patch = adapter.patch_of([dark])
    assert adapter.pictures(patch).shape == (patch.tokens, picture_bytes(adapter.patch_frames) // 3, 3)
    assert adapter.pictures(patch).max() == 0
    for row, column in ((0, 0), (patch.rows - 1, 0), (patch.rows // 2, patch.columns - 1)):
        bright = dark.copy()
        top, left = int((row + 0.5) * 96 / patch.rows), int((column + 0.5) * 96 / patch.columns)
        bright[top - 2 : top + 3, left - 2 : left + 3] = 255
        apart = distances(adapter.pictures(adapter.patch_of([bright])), adapter.pictures(patch))
        assert int(apart.argmax()) == row * patch.columns + column
