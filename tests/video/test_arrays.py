import weakref
from itertools import count, islice

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from infinipot.errors import FrameError, VideoError
from infinipot.video import as_frame, open_video
from support.video_files import gray, indices, times

CLIP = np.stack([gray(i) for i in range(8)])


@pytest.mark.parametrize(
    "pictures",
    [
        CLIP,
        torch.from_numpy(CLIP),
        torch.from_numpy(CLIP).permute(0, 3, 1, 2),
        list(CLIP),
        [Image.fromarray(picture) for picture in CLIP],
    ],
    ids=["array", "tensor THWC", "tensor TCHW", "list", "PIL"],
)
def test_arrays_of_every_kind_give_frames(pictures):
    video = open_video(pictures, fps=2)
    assert (video.name, video.duration, video.source_fps) == ("frames", 4.0, 2.0)
    assert indices(video) == list(range(8))
    assert times(open_video(pictures, fps=2)) == [i / 2 for i in range(8)]
    assert indices(open_video(pictures, fps=2, source_fps=4)) == [0, 2, 4, 6]
    assert indices(open_video(pictures, fps=4, source_fps=2, start=1, end=2)) == [2, 2, 3, 3]
    assert times(open_video(pictures, fps=None, source_fps=4)) == [i / 4 for i in range(8)]


def test_an_endless_iterator_is_read_as_needed_and_let_go():
    made = []

    def pictures():
        for index in count():
            picture = gray(index % 30)
            made.append(weakref.ref(picture))
            yield picture

    video = open_video(pictures(), fps=2, source_fps=10)
    assert video.duration is None
    for frame in islice(video, 50):
        made.append(weakref.ref(frame.image))
        assert sum(reference() is not None for reference in made) <= 3


def test_an_iterator_may_reuse_its_buffer():
    def pictures(buffer):
        for index in range(8):
            buffer[:] = 8 * index
            yield buffer

    for buffer in (gray(0), torch.from_numpy(gray(0))):
        assert indices(open_video(pictures(buffer), fps=1, source_fps=4)) == [0, 4]


def test_an_animation_read_by_pil_gives_its_own_pictures(tmp_path):
    first, *others = (Image.fromarray(picture) for picture in CLIP)
    first.save(tmp_path / "clip.gif", save_all=True, append_images=others)
    with Image.open(tmp_path / "clip.gif") as animation:
        assert indices(open_video(ImageSequence.Iterator(animation))) == list(range(8))


def test_only_pictures_that_are_sampled_are_converted(monkeypatch):
    converted = []
    monkeypatch.setattr("infinipot.video.arrays.as_frame", lambda *args: converted.append(args) or as_frame(*args))
    assert len(list(open_video(CLIP, fps=1, source_fps=4))) == len(converted) == 2


@pytest.mark.parametrize("pictures", [[], iter([]), np.zeros((0, 4, 4, 3), np.uint8)])
def test_no_pictures_is_an_error(pictures):
    with pytest.raises(VideoError, match="holds no pictures"):
        next(open_video(pictures))


def test_a_bad_picture_is_a_frame_error():
    video = open_video([gray(0), gray(1).astype(np.int32)])
    next(video)
    with pytest.raises(FrameError, match="int32"):
        next(video)


@pytest.mark.parametrize("source", [None, 3, b"clip.mp4", {"a": 1}, gray(0), torch.zeros(4), Image.new("RGB", (4, 4))])
def test_what_is_no_series_of_pictures_is_refused(source):
    with pytest.raises(VideoError, match="video"):
        open_video(source)
