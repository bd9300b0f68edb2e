"""Settings that nobody gave fit each other, for every family with what its checkpoints on the hub bring."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

from infinipot import CapError, Frame, Model
from support.models import SEEING, build

# Least and most pixels in the processors of published checkpoints: an image's for the first, a whole video's for the
# others. Families that are not here take frames of one size only.
IMAGES, VIDEOS = (
    {"shortest_edge": 3136, "longest_edge": 12_845_056},
    {"shortest_edge": 4096, "longest_edge": 25_165_824},
)
PUBLISHED = {
    **dict.fromkeys(["qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "qwen2_5_omni_thinker"], IMAGES),
    **dict.fromkeys(["qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"], VIDEOS),
}
RATIOS = [(3, 4), (9, 16), (1, 1), (16, 9), (1, 199), (199, 1), (2, 3), (1, 30)]
sizes = st.one_of(
    st.sampled_from([(height * 12, width * 12) for height, width in RATIOS]),
    st.sampled_from([(480, 640), (720, 1280), (1080, 1920), (64, 64), (2, 2)]),
    st.tuples(st.integers(2, 900), st.integers(2, 900)),
)


@pytest.fixture(scope="module", params=SEEING)
def published(request: pytest.FixtureRequest) -> Iterator[Model]:
    """A family with the settings and the room for positions that its checkpoints on the hub have."""
    model = build(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.adapter), "position_range", 32_768)
        if size := PUBLISHED.get(request.param):
            model.adapter.processor.video_processor.size = size
            if hasattr(model.adapter.processor, "videos_kwargs"):
                model.adapter.processor.videos_kwargs = {"size": size}
        yield model


def watched(model: Model, size: tuple[int, int], **options: Any) -> int:
    """Cells of the first frame of a stream that is opened so."""
    with model.stream(**options) as stream:
        stream.watch(Frame(np.zeros((*size, 3), np.uint8), 0.0))
        return stream._state.pending.grid.cells


def test_a_frame_of_any_size_fits_where_nothing_is_said(published):
    @settings(max_examples=25)
    @given(sizes)
    def check(size):
        if max(size) <= 199 * min(size):  # no processor takes more
            assert 0 < watched(published, size) <= 768

    check()


@pytest.mark.parametrize("memory", [1024, 2048, 4096, 8192])
def test_frames_give_way_to_a_memory_that_was_given(published, memory):
    """A frame of HD fits any memory that has room for the least that the family has for a frame of a video."""
    there = watched(published, (720, 960), memory=memory)
    assert there <= 768
    assert there > 0.8 * min(768, watched(published, (720, 960))) or memory < 4096


@pytest.mark.parametrize("size", [(64, 64), (2, 300), (30, 470), (400, 9), (17, 1700)])
def test_small_frames_that_are_enlarged_fit_a_small_memory_too(size):
    """With the least of transformers' own processor for videos, 128 tokens."""
    model = build("qwen2_5_vl")
    least = {"shortest_edge": 128 * model.adapter.cell_pixels, "longest_edge": 768 * model.adapter.cell_pixels}
    model.adapter.processor.video_processor.size = least
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.adapter), "position_range", 32_768)
        for memory in range(850, 1100, 25):
            assert 40 < watched(model, size, memory=memory) <= 250


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
def test_frames_of_one_number_of_pixels_are_those_of_the_processor(name):
    """Of a checkpoint whose least and most are alike, so that all frames have about as many tokens."""
    model = build(name)
    processor = model.adapter.processor.video_processor
    processor.size = {"shortest_edge": 24 * model.adapter.cell_pixels, "longest_edge": 24 * model.adapter.cell_pixels}
    for size in ((24, 30), (90, 60), (300, 500)):
        image = np.zeros((*size, 3), np.uint8)
        video = torch.from_numpy(image).permute(2, 0, 1).expand(2, -1, -1, -1)
        options = {"do_sample_frames": False, "cap_pixels_per_frame": False, "return_tensors": "pt"}
        tokens = int(processor(videos=[video], **options)["video_grid_thw"].prod()) // processor.merge_size**2
        assert watched(model, size, memory=700) == tokens
    assert 0 < watched(model, (2, 300), memory=400) <= 3 * 24, "strips and small memories fit, too"


def test_a_memory_gives_way_to_frames_that_were_given(published):
    if not published.adapter.cell_pixels:
        pytest.skip("its frames are of one size")
    pixels = 1, 1500 * published.adapter.cell_pixels
    assert 1300 < watched(published, (1080, 1440), pixels=pixels) <= 1500
    with published.stream() as usual, published.stream(pixels=pixels) as larger:
        assert 4096 <= usual.stats().cap < larger.stats().cap


def test_what_was_given_is_strict_and_the_error_names_what_would_work(published):
    adapter = published.adapter
    if not adapter.cell_pixels:
        pytest.skip("its frames are of one size")
    asked = {"memory": 4096, "pixels": (1, 1500 * adapter.cell_pixels)}
    with pytest.raises(CapError, match="--max-pixels") as caught:
        watched(published, (1080, 1440), **asked)
    message = str(caught.value)
    found = re.search(r"pixels=\((\d+), (\d+)\)", message)
    assert found
    least, most = map(int, found.groups())
    assert f"--min-pixels {least} --max-pixels {most}" in message
    assert watched(published, (1080, 1440), **asked | {"pixels": (least, most)}) > 600
    memory = int(message.split()[-1])
    watched(published, (1080, 1440), **asked | {"memory": memory})
    with pytest.raises(CapError):
        watched(published, (1080, 1440), **asked | {"memory": memory - 1})


def test_the_range_of_a_frame_is_that_of_transformers_video_processors():
    for kind, side in ((Qwen2VLVideoProcessor, 28), (Qwen3VLVideoProcessor, 32)):
        assert kind.size == {"shortest_edge": 128 * side**2, "longest_edge": 768 * side**2}


def test_a_ceiling_of_the_checkpoint_that_is_lower_stays(qwen):
    """It is the checkpoint's own for videos."""
    assert qwen.adapter.frame_pixels() == (64 * 64, 4 * 64 * 64)
    assert watched(qwen, (720, 1280)) <= 64


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_hd_video_is_watched_and_asked_about_with_nothing_but_defaults(name):
    model = build(name)
    model.adapter.processor.video_processor.size = PUBLISHED[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.adapter), "position_range", 32_768)
        with model.stream() as stream:
            for number in range(12):
                stream.watch(Frame(np.full((720, 960, 3), 20 * number, np.uint8), number / 2))
            stats = stream.stats()
            assert stats.compressions > 0
            assert stats.peak_tokens <= stats.cap < 5000
            assert stream.ask("What?", max_new_tokens=2) is not None
