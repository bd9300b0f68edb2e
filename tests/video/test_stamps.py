"""Pictures come at their own times, as many as there are, whatever stamps and lengths a container declares."""

from fractions import Fraction
from itertools import count

import av
import numpy as np
import pytest

from infinipot.errors import VideoError
from infinipot.video import open_video, stamps
from infinipot.video.address import find_address
from infinipot.video.file import FileSource
from infinipot.video.sampling import LONGEST
from support.video_files import FILES, encode, gray, indices, times, with_sound

needs_x264 = pytest.mark.skipif("libx264" not in av.codecs_available, reason="FFmpeg without libx264")

SIXTY = [np.full((48, 64, 3), 4 * index, np.uint8) for index in range(60)]


def numbers(frames):
    """Which of `SIXTY` the frames show."""
    return [round(float(frame.image.mean()) / 4) for frame in frames]


def restamped(change):
    """For `encode`: `change(number, packet)` is called for each packet, in the order of coding."""
    numbers = count()

    def changed(packets, stream):
        for packet in packets:
            change(next(numbers), packet)
        return packets

    return changed


def tenths(frames):
    return [round(10 * frame.time, 3) for frame in frames]


# --- clocks that are wrong


@pytest.mark.parametrize("late", [37_600, 700, 100, 5, 0.4])
@pytest.mark.parametrize("number", [1, 30, 59])
def test_one_wrong_stamp_is_passed_over_and_told(tmp_path, caplog, late, number):
    def spike(packet_number, packet):
        if packet_number == number:
            packet.pts += round(late / packet.time_base)

    if number == 59 and late < LONGEST:
        pytest.skip("the last picture may come late")
    path = encode(tmp_path / "spike.mkv", SIXTY, change=restamped(spike))
    video = open_video(path, fps=None)
    frames = list(video)
    assert numbers(frames) == list(range(60))
    assert tenths(frames) == list(range(60))
    assert not video.incomplete
    assert caplog.text.count("the clock goes on from where it was") == 1
    assert f"{late:+.1f} s off" in caplog.text
    assert len(list(open_video(path))) == 12
    assert len(list(open_video(path, fps=None, frames=8))) == 8


@pytest.mark.parametrize(("codec", "options"), [("mpeg4", {}), ("libx264", {"g": "250", "bf": "3"})])
@pytest.mark.parametrize("late", [5, 100, 700])
def test_some_wrong_stamps_in_a_row_are_passed_over(tmp_path, caplog, late, codec, options):
    if codec not in av.codecs_available:
        pytest.skip(f"FFmpeg without {codec}")

    def spike(number, packet):
        if number in (30, 31, 32):
            packet.pts += round(late / packet.time_base)

    path = encode(tmp_path / "spikes.mkv", SIXTY, codec, change=restamped(spike), **options)
    frames = list(open_video(path, fps=None))
    assert sorted(numbers(frames)) == list(range(60))
    assert tenths(frames) == list(range(60))
    assert caplog.text.count(f"{late:+.1f} s off; the clock goes on from where it was") == 1
    assert evenly(path, 6.0)


@pytest.mark.parametrize("ending", ["mkv", "ts", "flv"])
def test_pictures_that_all_have_one_stamp_come_at_the_rate_that_is_declared(tmp_path, caplog, ending):
    def same(number, packet):
        packet.pts = packet.dts = 0

    path = encode(tmp_path / f"same.{ending}", SIXTY, "flv" if ending == "flv" else "mpeg4", change=restamped(same))
    frames = list(open_video(path, fps=None))
    assert numbers(frames) == list(range(60))
    assert tenths(frames) == list(range(60))
    assert caplog.text.count("the time stamp at 0.1 s is -0.1 s off") == 1
    assert numbers(open_video(path, start=3.3)) == [33, 38, 43, 48, 53, 58]
    assert evenly(path, 6.0)


@needs_x264
@pytest.mark.parametrize("late", [5, 100, 700])
@pytest.mark.parametrize("b_pictures", ["0", "3"])
def test_one_wrong_stamp_makes_a_video_no_longer(tmp_path, late, b_pictures):
    """Where all pictures need the first one, so that they are put in order together."""

    def spike(packet_number, packet):
        if packet_number == 30:
            packet.pts += round(late / packet.time_base)

    path = encode(tmp_path / "spike.mkv", SIXTY, "libx264", change=restamped(spike), g="250", bf=b_pictures)
    assert evenly(path, 6.0)


@pytest.mark.parametrize("by", [37_600, 95_443, 601])
@pytest.mark.parametrize("ending", ["mkv", "mp4", "ts"])
def test_a_clock_that_jumps_ahead_for_good_goes_on_from_where_it_was(tmp_path, caplog, by, ending):
    def jump(number, packet):
        if number >= 30:
            packet.pts += round(by / packet.time_base)
            packet.dts += round(by / packet.time_base)

    path = encode(tmp_path / f"jump.{ending}", SIXTY, change=restamped(jump))
    video = open_video(path, fps=None)
    frames = list(video)
    assert numbers(frames) == list(range(60))
    assert tenths(frames) == pytest.approx(list(range(60)), abs=1e-3)
    assert not video.incomplete
    assert caplog.text.count("goes on from where it was") == 1
    assert numbers(open_video(path, fps=None, frames=4)) == [0, 20, 39, 59]
    if ending != "mp4":  # which declares what its pictures last
        assert open_video(path).duration == pytest.approx(6.0, abs=0.11)


@pytest.mark.parametrize("ending", ["ts", "mpg"])
def test_a_clock_that_begins_anew_goes_on_from_where_it_was(tmp_path, caplog, ending):
    codec = {"ts": "mpeg4", "mpg": "mpeg1video"}[ending]
    pictures, rate = [gray(index) for index in range(25)], {"ts": 10, "mpg": 25}[ending]
    part = encode(tmp_path / f"part.{ending}", pictures, codec, rate).read_bytes()
    (tmp_path / f"glued.{ending}").write_bytes(2 * part)
    video = open_video(tmp_path / f"glued.{ending}", fps=None)
    frames = list(video)
    assert open_video(tmp_path / f"glued.{ending}").duration == pytest.approx(50 / rate, abs=0.11)
    assert indices(frames) == [*range(25), *range(25)]
    assert times(frames) == pytest.approx([number / rate for number in range(50)], abs=0.09)
    assert "goes on from where it was" in caplog.text
    evenly = indices(open_video(tmp_path / f"glued.{ending}", fps=None, frames=8))
    assert len(evenly) == 8
    assert evenly[0] == 0
    assert evenly[-1] >= 22  # a picture or two from the last: the packets of MPEG-PS do not all have times


def test_a_picture_may_stay_for_minutes(tmp_path, caplog):
    stamps = [0, 100, 200, 300_000, 300_100, 800_000]
    path = encode(tmp_path / "slides.mkv", [gray(index) for index in range(6)], stamps=stamps)
    assert times(open_video(path, fps=None)) == [stamp / 1000 for stamp in stamps]
    assert not caplog.records


@pytest.mark.parametrize(("ending", "every"), [("mkv", 1800), ("mp4", 1800)])
def test_the_pictures_of_a_time_lapse_stay_long(tmp_path, caplog, ending, every):
    stamps = [1000 * every * index for index in range(10)]
    path = encode(tmp_path / f"lapse.{ending}", SIXTY[:10], rate=Fraction(1, every), stamps=stamps)
    frames = list(open_video(path, fps=None))
    assert numbers(frames) == list(range(10))
    assert times(frames) == pytest.approx([every * index for index in range(10)], abs=1e-3)
    assert not caplog.records


# --- pictures coded out of order in containers that stamp the order of coding


@needs_x264
@pytest.mark.parametrize(("codec", "options"), [("libx264", {"bf": "3"}), ("mpeg4", {"bf": "2"})])
def test_pictures_coded_out_of_order_in_avi_have_their_own_times(tmp_path, codec, options):
    path = encode(tmp_path / "b.avi", SIXTY, codec, **options)
    frames = list(open_video(path, fps=None))
    assert numbers(frames) == list(range(60))
    assert tenths(frames) == list(range(60))
    assert numbers(open_video(path, fps=10)) == list(range(60))
    assert numbers(open_video(path, fps=10, start=3.3)) == list(range(33, 60))
    assert numbers(open_video(path, fps=None, frames=4)) == [0, 20, 39, 59]


# --- lengths that are not those of the pictures


def evenly(path, length):
    """Eight frames lie evenly over `length` seconds, the first and the last picture among them."""
    video = open_video(path, fps=None, frames=8)
    found = [frame.time for frame in video]
    last = list(open_video(path, fps=None))[-1].time
    assert not video.incomplete
    assert found[0] == 0
    assert found[-1] == pytest.approx(last, abs=0.05)
    np.testing.assert_allclose(found, np.linspace(0, last, 8), atol=0.1)
    assert last == pytest.approx(length, abs=0.11)
    assert open_video(path).duration == pytest.approx(length, abs=0.11)
    return True


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("long.mkv", "mpeg4", "pcm_s16le"),
        ("long.webm", "libvpx", "libopus"),
        ("long.flv", "flv", "libmp3lame"),
        ("long.mp4", "mpeg4", "aac"),
        ("long.wmv", "msmpeg4", "wmav2"),
        ("long.ts", "mpeg4", "mp2"),
        ("long.avi", "mpeg4", "pcm_s16le"),
    ],
)
def test_a_sound_that_is_longer_than_the_pictures_does_not_count(tmp_path, caplog, name, codec, sound):
    if not {codec, sound} <= av.codecs_available:
        pytest.skip(f"FFmpeg without {codec} or {sound}")
    path = with_sound(tmp_path / name, [gray(index) for index in range(30)], codec, sound, 20)
    assert evenly(path, 3.0)
    video = open_video(path)
    assert len(list(video)) == 6
    assert not video.incomplete
    assert not caplog.records


def test_subtitles_beyond_the_pictures_do_not_count(caplog):
    assert evenly(FILES / "subs.mkv", 3.0)
    video = open_video(FILES / "subs.mkv")
    assert len(list(video)) == 6
    assert not video.incomplete
    assert not caplog.records


@pytest.mark.parametrize("ending", ["mkv", "webm", "flv", "ts", "mp4"])
@pytest.mark.parametrize("late", [5, 3600])
def test_a_clock_that_begins_late_does_not_count(tmp_path, caplog, ending, late):
    codec = {"webm": "libvpx", "flv": "flv"}.get(ending, "mpeg4")
    stamps = [1000 * late + 100 * index for index in range(60)]
    path = encode(tmp_path / f"late.{ending}", SIXTY, codec, stamps=stamps, options={"avoid_negative_ts": "disabled"})
    assert evenly(path, 6.0)
    video = open_video(path)
    assert len(list(video)) == 12
    assert not video.incomplete
    assert not caplog.records


def test_a_raw_stream_that_declares_next_to_nothing_has_all_its_pictures(caplog):
    with av.open(str(FILES / "m1.m1v")) as container:
        assert (container.duration or 0) < 1000  # microseconds: what the file is here for
    assert evenly(FILES / "m1.m1v", 6.0)
    video = open_video(FILES / "m1.m1v", fps=None)
    assert times(video) == pytest.approx([number / 25 for number in range(150)])
    assert not caplog.records


@needs_x264
def test_the_length_counts_pictures_that_are_shown_last_and_coded_before_others(tmp_path):
    path = encode(tmp_path / "a.ts", SIXTY, "libx264", bf="3", g="250")
    assert open_video(path).duration == pytest.approx(6.0, abs=0.01)


@pytest.mark.parametrize(
    ("name", "codec", "rate"), [("a.mpg", "mpeg1video", 25), ("a.vob", "mpeg2video", 25), ("a.m2v", "mpeg2video", 25)]
)
@pytest.mark.parametrize("b_pictures", ["0", "2"])
def test_program_streams_have_all_their_pictures_in_order(tmp_path, caplog, name, codec, rate, b_pictures):
    path = encode(tmp_path / name, SIXTY, codec, rate, bf=b_pictures)
    video = open_video(path, fps=None)
    frames = list(video)
    found = numbers(frames)
    assert found == sorted(set(found))
    assert len(found) >= 59  # FFmpeg's writer gives two pictures one time
    assert times(frames) == pytest.approx([number / rate for number in found], abs=0.05)
    assert not video.incomplete
    assert evenly(path, 60 / rate)
    assert not caplog.records


@pytest.mark.parametrize("ending", ["mkv", "ts", "avi", "mp4", "flv"])
def test_any_number_of_frames_up_to_that_of_the_pictures_comes(tmp_path, ending):
    path = encode(tmp_path / f"a.{ending}", [gray(index) for index in range(30)], "flv" if ending == "flv" else "mpeg4")
    for frames in (1, 2, 7, 8, 29, 30, 31):
        assert len(list(open_video(path, fps=None, frames=frames))) == min(frames, 30)
        assert len(list(open_video(path, fps=5, frames=frames))) == min(frames, 15)
    assert len(list(open_video(path, fps=None, frames=8, start=1, end=2))) == 8


@pytest.mark.parametrize("duration", [0.0, 0.001])
def test_the_last_picture_counts_however_short_it_is_said_to_stay(monkeypatch, tmp_path, duration):
    """As in an AVI file of a thousand pictures a second, most of which repeat the one before."""
    path = encode(tmp_path / "a.mkv", SIXTY)
    told = [(stamp, duration) for stamp, _ in stamps.stamps_of(find_address(str(path), "video", VideoError))]
    monkeypatch.setattr("infinipot.video.file.stamps_of", lambda *_: (each for each in told))
    monkeypatch.setattr(FileSource, "_shown_for", lambda *_: duration)
    assert numbers(open_video(path, fps=None, frames=4)) == [0, 20, 39, 59]


def test_the_length_of_a_file_that_is_gone_is_what_it_declared(tmp_path):
    path = encode(tmp_path / "a.mkv", SIXTY)
    video = open_video(path)
    path.unlink()
    assert video.duration == pytest.approx(6.0)
    assert len(list(video)) == 12


@pytest.mark.parametrize("ending", ["mkv", "ts", "mp4", "avi"])
def test_frames_are_spread_over_what_there_is_of_a_file_that_is_cut(tmp_path, ending):
    options = {"movflags": "faststart"} if ending == "mp4" else {}
    noise = list(np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8))
    path = encode(tmp_path / f"a.{ending}", noise, g="5", options=options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    video = open_video(path, fps=None, frames=8)
    found = times(video)
    assert len(found) == 8
    assert 1.5 < found[-1] < 2.6
    assert video.incomplete or ending == "ts"  # which declares nothing


def test_a_length_that_cannot_be_is_not_known(tmp_path, monkeypatch):
    """Of an address that is not looked into again, whose pictures begin behind what it declares."""
    path = encode(tmp_path / "a.mkv", SIXTY, stamps=[5000 + 100 * index for index in range(60)])
    video = open_video(path)
    source = video._source
    assert isinstance(source, FileSource)
    monkeypatch.setattr(source, "_address", source._address.__class__(source.name, str(path)))
    monkeypatch.setattr(source, "_declared", source._declared._replace(length=2.0, begin=0.0))
    assert video.duration is None


@pytest.mark.parametrize("missing", [(11,), (11, 21, 31), (7, 8)])
def test_pictures_without_stamps_make_a_video_no_longer(missing):
    """Transport streams leave them out now and then: the others say where they belong."""
    group = [(None if number in missing else number / 10, 0.1) for number in range(40)]
    whole = [number / 10 for number in range(40) if number not in missing]
    assert [stamp for stamp, _ in stamps._in_order(group)] == whole
    assert [stamp for stamp, _ in stamps._in_order([(None, 0.1)] * 5)] == [None] * 5
    assert [stamp for stamp, _ in stamps._in_order([(0.0, 0.1), (None, 0.1)])] == [0.0, None]
