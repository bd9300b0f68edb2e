import math
import struct
import threading
import wave
from decimal import Decimal
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any

import av
import numpy as np
import psutil
import pytest

from infinipot.errors import SettingError, VideoError
from infinipot.video import open_video
from support.video_files import encode, gray, indices, times

has_x264 = "libx264" in av.codecs_available


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """30 pictures at 10 per second, a key picture each second."""
    return encode(tmp_path_factory.mktemp("clip") / "clip.mp4", [gray(i) for i in range(30)], g="10")


# --- what is taken from a file, and when


def test_the_first_and_the_last_picture_come_exactly(clip):
    frames = list(open_video(clip, fps=None))
    assert indices(frames) == list(range(30))
    assert times(frames) == [i / 10 for i in range(30)]
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8


def test_frames_are_taken_at_two_per_second_by_default(clip):
    frames = list(open_video(clip))
    assert indices(frames) == [0, 5, 10, 15, 20, 25]
    assert times(frames) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


def test_a_rate_above_the_source_repeats_pictures(clip):
    assert indices(open_video(clip, fps=20, end=0.5)) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_variable_rate_holds_each_picture_while_it_is_on_show(tmp_path):
    stamps = [0, 40, 80, 1700, 3200]
    video = encode(tmp_path / "screen.mkv", [gray(i) for i in range(5)], stamps=stamps)
    assert times(open_video(video, fps=None)) == [stamp / 1000 for stamp in stamps]
    assert indices(islice(open_video(video), 7)) == [0, 2, 2, 2, 3, 3, 3]


@pytest.mark.skipif(not has_x264, reason="FFmpeg without libx264")
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_pictures_coded_out_of_order_at_variable_rate_keep_their_times(tmp_path, ending):
    stamps = [0, 40, 80, 500, 520, 1700, 1800, 2500, 3200, 3240, 3300, 4000]
    pictures = [gray(i) for i in range(len(stamps))]
    video = encode(tmp_path / f"b.{ending}", pictures, codec="libx264", stamps=stamps, bf="3")
    frames = list(open_video(video, fps=None))
    assert indices(frames) == list(range(len(stamps)))
    assert times(frames) == [stamp / 1000 for stamp in stamps]


@pytest.mark.parametrize("first", [-300, 7200])
def test_time_0_is_the_first_picture(tmp_path, first):
    stamps = [first + 100 * i for i in range(6)]
    as_given = {"avoid_negative_ts": "disabled"}
    video = encode(tmp_path / "late.mkv", [gray(i) for i in range(6)], stamps=stamps, options=as_given)
    with av.open(str(video)) as container:
        assert next(container.decode(video=0)).time == pytest.approx(first / 1000)
    frames = list(open_video(video, fps=None))
    assert indices(frames) == [0, 1, 2, 3, 4, 5]
    assert times(frames) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.skipif(not has_x264, reason="FFmpeg without libx264")
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "h264"])
def test_pictures_coded_out_of_order_come_in_order(tmp_path, ending):
    """B-frames; and .h264 has no time stamps at all."""
    video = encode(tmp_path / f"b.{ending}", [gray(i) for i in range(30)], codec="libx264", bf="3")
    frames = list(open_video(video, fps=None))
    assert indices(frames) == list(range(30))
    assert times(frames) == pytest.approx([i / 10 for i in range(30)])


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "ts"])
@pytest.mark.parametrize("start", [0.05, 0.9, 1.0, 1.55, 2.9])
def test_starting_inside_is_skipping_the_frames_before(tmp_path, ending, start):
    video = encode(tmp_path / f"clip.{ending}", [gray(i) for i in range(30)], g="10")
    frames = list(open_video(video, fps=5, start=start))
    assert times(frames) == [round(start + k / 5, 6) for k in range(15) if start + k / 5 < 3]
    assert indices(frames) == [math.floor(time * 10) for time in times(frames)]
    every = list(open_video(video, fps=None, start=start))
    assert indices(every) == list(range(math.ceil(start * 10), 30))
    assert times(every) == [index / 10 for index in indices(every)]


@pytest.mark.skipif(not has_x264, reason="FFmpeg without libx264")
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_starting_inside_where_pictures_become_whole_bit_by_bit(tmp_path, ending):
    """Intra refresh: what the index calls key pictures cannot be decoded by themselves."""
    pictures = [gray(index) for index in range(30)]
    refreshed = {"g": "8", "bf": "0", "x264-params": "intra-refresh=1"}
    video = encode(tmp_path / f"camera.{ending}", pictures, "libx264", **refreshed)
    for start in (1.3, 1.8, 1.9):
        assert indices(open_video(video, fps=None, start=start)) == list(range(round(10 * start), 30))


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda stored: stored),
        ((0, 1, -1, 0), lambda stored: np.rot90(stored, -1)),  # clockwise: a phone held upright
        ((-1, 0, 0, -1), lambda stored: np.rot90(stored, 2)),
        ((0, -1, 1, 0), lambda stored: np.rot90(stored, 1)),
        ((-1, 0, 0, 1), lambda stored: stored[:, ::-1]),
        ((0, 1, 1, 0), lambda stored: stored.transpose(1, 0, 2)),
    ],
    ids=["upright", "clockwise", "upside down", "counterclockwise", "mirrored", "transposed"],
)
def test_pictures_are_turned_upright(tmp_path, matrix, shown):
    """The track header's matrix (a, b, c, d) shows a pixel at (ax + cy, bx + dy), y downwards."""
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:24, :32], stored[:24, 32:], stored[24:, :32] = 240, 160, 80
    video = encode(tmp_path / "phone.mp4", [stored])
    data = bytearray(video.read_bytes())
    a, b, c, d = (entry << 16 for entry in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    video.write_bytes(data)
    image = next(open_video(video)).image
    assert image.shape == shown(stored).shape
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - shown(stored)).mean() < 4


def test_a_video_tells_about_itself(clip):
    video = open_video(str(clip), fps=5)
    assert (video.name, video.fps, video.source_fps, video.incomplete) == (str(clip), 5, 10, False)
    assert video.duration == pytest.approx(3.0)
    assert "clip.mp4, 3.0 s, 5 fps" in repr(video)


# --- reading


def opened(path):
    return [file.path for file in psutil.Process().open_files() if file.path == str(path)]


def test_a_video_is_closed_at_its_end_and_by_with(clip):
    video = open_video(clip)
    assert opened(clip)
    assert len(list(video)) == 6
    assert not opened(clip)
    assert list(video) == []
    with open_video(clip) as video:
        next(video)
    assert not opened(clip)
    video.close()
    with pytest.raises(VideoError, match="closed"):
        next(video)


def test_a_video_that_is_dropped_is_closed(clip):
    for _ in open_video(clip):
        break
    assert not opened(clip)


def test_a_second_loop_goes_on_where_the_first_stopped(clip):
    video = open_video(clip)
    assert indices(islice(video, 2)) == [0, 5]
    assert indices(video) == [10, 15, 20, 25]


def test_an_interrupted_video_does_not_look_ended():
    def pictures():
        yield gray(0)
        yield gray(1)
        raise KeyboardInterrupt

    video = open_video(pictures())
    next(video)
    with pytest.raises(KeyboardInterrupt):
        next(video)
    with pytest.raises(VideoError, match="closed"):
        next(video)


def test_an_address_is_read_and_shown_without_its_secrets(tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    encode(tmp_path / "clip.mkv", [gray(i) for i in range(30)], g="10")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"127.0.0.1:{server.server_port}"
        with open_video(f"http://me:secret@{base}/clip.mkv?key=secret") as video:
            assert video.name == f"http://{base}/clip.mkv"
            assert indices(video) == [0, 5, 10, 15, 20, 25]
        assert indices(open_video(f"http://{base}/clip.mkv", start=2)) == [20, 25]
        assert indices(open_video(f"http://{base}/clip.mkv", fps=None, frames=4)) == [0, 10, 19, 29]
        with pytest.raises(VideoError, match="cannot be opened") as caught:
            open_video(f"http://me:secret@{base}/none.mkv?key=secret")
        assert "secret" not in str(caught.value)
        assert caught.value.__suppress_context__  # FFmpeg's own error shows the whole address
        server.shutdown()


# --- files that are no video, or not all of it


def test_what_is_no_video_is_said_in_one_line_with_its_name(tmp_path, clip):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.txt").write_text("nothing to see here\n" * 50)
    (tmp_path / "notes.mp4").write_text("nothing to see here\n" * 50)
    with wave.open(str(tmp_path / "song.wav"), "wb") as song:
        song.setparams((1, 2, 8000, 0, "NONE", ""))
        song.writeframes(bytes(16000))
    data = clip.read_bytes()
    (tmp_path / "no-index.mp4").write_bytes(data[: data.index(b"moov") - 4])
    strange = encode(tmp_path / "strange.mkv", [gray(0)])
    strange.write_bytes(strange.read_bytes().replace(b"V_MPEG4/", b"V_MPEG9/"))
    for name, says in {
        "missing.mp4": "no such file",
        "": "is a directory",
        "empty.mp4": "is empty",
        "notes.txt": "only text",
        "notes.mp4": "cannot be opened",
        "song.wav": "only audio",
        "no-index.mp4": "or is cut short",
        "strange.mkv": "no decoder",
    }.items():
        with pytest.raises(VideoError, match=says) as caught:
            open_video(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif("libmp3lame" not in av.codecs_available, reason="FFmpeg without libmp3lame")
def test_a_songs_cover_is_no_video(tmp_path):
    with av.open(str(tmp_path / "song.mp3"), "w") as container:
        sound, cover = container.add_stream("libmp3lame", rate=8000), container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        attached: Any = av.stream.Disposition.attached_pic.value  # PyAV 15 wants the number
        cover.disposition = attached
        container.mux(cover.encode(av.VideoFrame.from_ndarray(gray(3), format="rgb24")))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        samples.rate = 8000
        container.mux([*cover.encode(None), *sound.encode(samples), *sound.encode(None)])
    with pytest.raises(VideoError, match="only audio"):
        open_video(tmp_path / "song.mp3")


def noise_clip(path, **options):
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    return encode(path, list(noise), g="5", options=options)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_cut_file_gives_what_is_there_and_a_warning(tmp_path, caplog, ending):
    whole = noise_clip(tmp_path / f"whole.{ending}", **({"movflags": "faststart"} if ending == "mp4" else {}))
    data = whole.read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(data[: len(data) * 6 // 10])
    video, expected = open_video(tmp_path / f"cut.{ending}", fps=None), list(open_video(whole, fps=None))
    frames = list(video)
    assert 15 <= len(frames) <= 26
    assert times(frames) == times(expected)[: len(frames)]
    assert all(np.array_equal(f.image, e.image) for f, e in zip(frames[:-1], expected, strict=False))
    assert video.incomplete
    assert "ended after " in caplog.text
    assert "of the 4.0 s" in caplog.text


def test_a_whole_file_gives_no_warning(clip, caplog):
    video = open_video(clip)
    assert len(list(video)) == 6
    assert not video.incomplete
    assert not caplog.records


def test_damaged_data_are_skipped(tmp_path, caplog):
    data = bytearray(noise_clip(tmp_path / "clip.mkv").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    (tmp_path / "clip.mkv").write_bytes(data)
    video = open_video(tmp_path / "clip.mkv", fps=None)
    frames = list(video)
    assert 20 <= len(frames) <= 40
    assert times(frames)[-1] == 3.9
    assert times(frames) == sorted(times(frames))


def test_a_file_without_a_picture_that_decodes_is_an_error(tmp_path):
    data = noise_clip(tmp_path / "clip.mp4", movflags="faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(VideoError, match=r"cut\.mp4: none of its pictures"):
        open_video(tmp_path / "cut.mp4")


# --- arguments


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf, "2", 1j])
def test_rates_that_cannot_be_are_refused(clip, rate):
    with pytest.raises(SettingError, match="fps must be a finite number above 0"):
        open_video(clip, fps=rate)
    with pytest.raises(SettingError, match="source_fps must be a finite number above 0"):
        open_video([gray(0)], source_fps=rate)


@pytest.mark.parametrize("time", [-1, math.nan, math.inf, "2", -math.inf, Decimal("nan"), Decimal("snan")])
def test_limits_that_cannot_be_are_refused(clip, time):
    with pytest.raises(SettingError, match="start must be a finite number"):
        open_video(clip, start=time)
    if time is math.inf:
        return  # the end of the video
    with pytest.raises(SettingError, match="end must be a finite number"):
        open_video(clip, end=time)


@pytest.mark.parametrize("kind", [Decimal, Fraction, np.float32, np.float64, np.int16, int])
def test_times_are_numbers_of_any_kind(clip, kind):
    expected = times(open_video(clip, fps=4.0, start=1.0, end=2.0))
    assert times(open_video(clip, fps=kind(4), start=kind(1), end=kind(2))) == expected
    assert times(open_video(clip, fps=kind(4), start=kind(1), frames=3)) == times(
        open_video(clip, fps=4.0, start=1.0, frames=3)
    )


@pytest.mark.parametrize("end", [math.inf, np.float32("inf"), Decimal("inf")])
def test_infinity_is_the_end_of_a_video(clip, end):
    assert times(open_video(clip, end=end)) == times(open_video(clip))


def test_ranges_without_pictures_are_refused(clip):
    with pytest.raises(SettingError, match="end=1 is not after start=2"):
        open_video(clip, start=2, end=1)
    with pytest.raises(VideoError, match=r"clip\.mp4 holds no pictures from 9 s on"):
        next(open_video(clip, start=9))


def test_the_rate_of_the_source_belongs_to_arrays(clip):
    with pytest.raises(SettingError, match="source_fps is for arrays"):
        open_video(clip, source_fps=10)
    with pytest.raises(SettingError, match="give source_fps"):
        open_video([gray(0)], fps=None)


def test_a_most_number_of_frames_is_spread_from_the_first_picture_to_the_last(tmp_path):
    video = encode(tmp_path / "clip.mp4", [gray(i) for i in range(31)])
    assert indices(open_video(video, fps=None, frames=4)) == [0, 10, 20, 30]
    assert indices(open_video(video, fps=5, frames=4)) == [0, 10, 20, 30]
    assert times(open_video(video, fps=None, frames=4)) == [0, 1, 2, 3]
    assert indices(open_video(video, fps=5, frames=16)) == list(range(0, 31, 2))  # no more than fps asks for
    assert indices(open_video(video, fps=None, frames=100)) == list(range(31))
    assert indices(open_video(video, fps=None, frames=1)) == [0]
    assert indices(open_video(video, fps=None, frames=3, start=1, end=2.1)) == [10, 15, 20]


def test_as_many_frames_as_fps_gives_are_those_of_fps_whatever_a_length_is_in_floating_point(tmp_path):
    video = encode(tmp_path / "clip.mp4", [gray(i) for i in range(30)])
    assert (3.0 - 2.4) * 5 > 3
    assert indices(open_video(video, fps=5, frames=3, start=2.4)) == [24, 26, 28]


@pytest.mark.parametrize("frames", [0, -1, 2.5, "8"])
def test_a_number_of_frames_that_cannot_be_is_an_error(tmp_path, frames):
    with pytest.raises(SettingError, match="whole number, at least 1"):
        open_video([gray(0)], fps=2, frames=frames)


def test_frames_cannot_be_spread_over_a_video_of_unknown_length():
    with pytest.raises(VideoError, match="how long it is"):
        next(open_video(iter([gray(0)]), fps=2, frames=8))
