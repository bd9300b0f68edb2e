"""Whoever closes or drops a video or a sound gets its threads and memory back at once: the collector is off here."""

import contextlib
import gc
import os
import sys
import weakref

import av
import numpy as np
import pytest

from infinipot.audio import open_audio
from infinipot.errors import AudioError, VideoError
from infinipot.video import open_video
from infinipot.video.file import FileSource
from support.video_files import gray, with_sound

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads as Linux does")

MANY = 20


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Pictures of a codec whose decoder has threads, and sound; a key picture each second."""
    pictures = [gray(index) for index in range(30)]
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return with_sound(path, pictures, "libx264" if "libx264" in av.codecs_available else "mpeg4", "aac", 3)


@pytest.fixture(autouse=True)
def without_collector():
    gc.disable()
    yield
    gc.enable()


def threads():
    return len(os.listdir("/proc/self/task"))


def closed(path):
    with open_video(path) as video:
        next(video)


def closed_and_kept(path, kept=[]):  # noqa: B006
    video = open_video(path)
    next(video)
    video.close()
    kept.append(video)


def at_its_end_and_kept(path, kept=[]):  # noqa: B006
    video = open_video(path)
    list(video)
    kept.append(video)


def half_way(path):
    for _ in open_video(path, fps=None):
        break


def every_frame_kept(path, kept=[]):  # noqa: B006
    kept.append(list(open_video(path, fps=None)))


def interrupted(path):
    video = open_video(path, fps=None)
    next(video)
    video._source.frame = lambda content, time: (_ for _ in ()).throw(KeyboardInterrupt)
    with contextlib.suppress(KeyboardInterrupt):
        next(video)


WAYS = {
    "opened": lambda path: open_video(path),
    "closed": closed,
    "closed and kept": closed_and_kept,
    "at its end": lambda path: list(open_video(path)),
    "at its end and kept": at_its_end_and_kept,
    "half-way": half_way,
    "every frame kept": every_frame_kept,
    "interrupted": interrupted,
    "spread": lambda path: list(open_video(path, frames=4)),
    "spread, half-way": lambda path: next(open_video(path, frames=4)),
    "from a second on": lambda path: list(open_video(path, start=1.5)),
    "from its last picture on": lambda path: list(open_video(path, start=2.9)),
    "from beyond its end on": lambda path: list(open_video(path, start=9)),
    "its length alone": lambda path: open_video(path).duration,
    "sound": lambda path: list(open_audio(path)),
    "sound, half-way": lambda path: next(open_audio(path)),
}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("state", ["damaged", "turned"])
def test_threads_are_given_back_at_once(clip, tmp_path, way, state):
    path = tmp_path / "clip.mp4"
    data = bytearray(clip.read_bytes())
    if state == "damaged":
        middle = data.index(b"mdat") + 200
        data[middle : middle + 100] = bytes(100)
    if state == "turned":
        place = data.index(b"tkhd") + 44
        data[place : place + 20] = b"".join(
            entry.to_bytes(4, "big", signed=True) for entry in (0, 1 << 16, 0, -1 << 16, 0)
        )
    path.write_bytes(data)

    def once():
        with contextlib.suppress(VideoError, AudioError):
            WAYS[way](path)

    once()
    before = threads()
    for _ in range(MANY):
        once()
    assert threads() <= before


@pytest.mark.parametrize("name", ["text.mp4", "none.mp4", "empty.mp4", "cut.mp4", "sound.mkv", "noise.ts"])
def test_what_cannot_be_opened_leaves_nothing(clip, tmp_path, name):
    data = clip.read_bytes()
    (tmp_path / "text.mp4").write_text("nothing to see here\n" * 50)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(data[: data.index(b"mdat") + 4] + bytes(2000) + data[data.rindex(b"moov") - 4 :])
    (tmp_path / "noise.ts").write_bytes(np.random.default_rng(0).bytes(100_000))
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        container.mux(sound.encode(None))
    before = threads()
    for _ in range(MANY):
        with pytest.raises(VideoError):
            list(open_video(tmp_path / name))
    assert threads() <= before


def test_no_reference_cycle_keeps_a_video(clip):
    for half in (True, False):
        video = open_video(clip, fps=None)
        first = next(video)
        if not half:
            list(video)
        source = video._source
        assert isinstance(source, FileSource)
        watched = [video, source, source._decoder, source._converter, video._parts]
        references = [weakref.ref(thing) for thing in watched]
        del video, source, first, watched
        assert [reference() for reference in references] == [None] * 5


def test_decoded_pictures_are_in_no_reference_cycle(clip):
    gc.collect()
    list(open_video(clip, fps=None))
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        left = [type(thing).__name__ for thing in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not {"VideoFrame", "SideDataContainer", "VideoReformatter", "InputContainer", "Packet"} & set(left)
