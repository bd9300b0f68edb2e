"""Cameras: the newest picture, what happens when none comes, and that nothing is left behind."""

import errno
import itertools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infinipot
from infinipot.camera import Camera, Gap, Health, feed, health, is_camera, open_camera
from infinipot.camera.address import _WEBCAMS, find_camera
from infinipot.camera.camera import _feeds
from infinipot.camera.decoding import _reason
from infinipot.camera.feed import Feed
from infinipot.camera.health import Clock
from infinipot.camera.process import Over, Shot
from infinipot.errors import CameraError, SettingError, VideoError
from infinipot.video import Frame
from support.patience import until
from support.video_files import encode, gray
from support.web_camera import web_camera


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Two seconds at 25 pictures a second, of which the n-th is 4n bright."""
    path = tmp_path_factory.mktemp("camera") / "count.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(50):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * index + 20, np.uint8))
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path


def decoders() -> list[psutil.Process]:
    """The processes that decode cameras for this one."""
    return [each for each in psutil.Process().children() if "infinipot.camera.decoding" in " ".join(each.cmdline())]


class Script:
    """A camera that does what a list says: a number is a picture of that brightness, anything else is raised."""

    def __init__(self, *acts: int | Exception) -> None:
        self.acts, self.opened, self.stopped = list(acts), True, threading.Event()
        self.closed = 0

    def next(self) -> Shot:
        if self.acts:
            act = self.acts.pop(0)
            if isinstance(act, Exception):
                raise act
            time.sleep(0.002)
            return Shot(time.monotonic(), np.full((4, 4, 3), act, np.uint8))
        self.stopped.wait()
        raise Over

    def use_fps(self, fps) -> None: ...

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.closed += 1


class Looker:
    """Keeps all that a feed hands on."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.gaps: list[Gap] = []
        self.over = False

    def offer(self, frame: Frame) -> None:
        self.frames.append(frame)

    def notice(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def wait_taken(self) -> None:
        pass

    def finish(self) -> None:
        self.over = True


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(feed, "pause", lambda failures: 0.001)


def fed(*scripts: Script, frozen_after: float | None = None) -> tuple[Feed, Looker]:
    left = iter(scripts)
    made = Feed("camera", lambda fps: next(left), Clock(), frozen_after)
    looker = Looker()
    made.join(looker, None)
    made.start()
    return made, looker


def test_a_camera_that_fails_is_tried_again_and_the_gap_is_told_once_at_each_end(quick, caplog):
    scripts = Script(1, 2, VideoError("cable")), Script(VideoError("dark")), Script(VideoError("dark")), Script(3)
    with caplog.at_level(logging.WARNING):
        made, looker = fed(*scripts)
        assert until(lambda: len(looker.frames) == 3)
        made.close()
    (gap,) = made.health().gaps
    assert (gap.start, gap.end, gap.why) == (looker.frames[1].time, looker.frames[2].time, "dark")
    assert [told.end is None for told in looker.gaps] == [True, False]
    assert [record.getMessage().split(" (")[0][:24] for record in caplog.records] == [
        "camera: no picture since"[:24],
        "camera: no picture from "[:24],
    ]
    assert [script.closed for script in scripts] == [1] * 4, "every connection is given back"
    assert made.health().connections == 2


def test_whatever_goes_wrong_in_a_connection_does_not_end_the_camera(quick):
    made, looker = fed(Script(OSError("too many open files")), Script(1, ValueError("?")), Script(2))
    assert until(lambda: len(looker.frames) == 2)
    made.close()


def test_who_is_told_of_a_gap_and_fails_does_not_end_the_camera(quick, caplog):
    made, looker = fed(Script(1, VideoError("cable")), Script(2))
    looker.notice = lambda gap: [][0]
    assert until(lambda: len(looker.frames) == 2)
    made.close()
    assert [record.exc_info is not None for record in caplog.records].count(True) == 2, "at both ends of the gap"


def test_a_look_up_that_takes_long_holds_up_no_close(monkeypatch):
    monkeypatch.setattr(feed, "_PATIENCE", 0.01)
    looking, found, late = threading.Event(), threading.Event(), Script(1)

    def connect(fps: float | None) -> Script:
        looking.set()
        found.wait(30)
        return late

    made = Feed("camera", connect, Clock(), None)
    made.start()
    assert looking.wait(10)
    made.close()
    assert not late.closed
    found.set()
    assert until(lambda: late.closed == 1), "the connection that came too late is given back"
    assert made.health().state == "closed"


def test_a_picture_that_never_changes_is_a_gap_until_it_does(quick):
    same = [7] * 40  # 2 ms each
    made, looker = fed(Script(6, *same), Script(7, 7), Script(7), Script(8), frozen_after=0.03)
    assert until(lambda: looker.frames and looker.frames[-1].image[0, 0, 0] == 8)
    made.close()
    (gap,) = made.health().gaps
    assert gap.why == "the picture has not changed for 0.03 s"
    assert gap.end == looker.frames[-1].time
    assert made.health().connections == 4


def test_noise_is_no_frozen_picture(quick):
    made, looker = fed(Script(*range(60)), frozen_after=0.03)
    assert until(lambda: len(looker.frames) == 60)
    made.close()
    assert not made.health().gaps


def test_pauses_grow_to_a_minute_and_differ():
    for failures in range(40):
        drawn = [feed.pause(failures) for _ in range(50)]
        longest = min(60.0, 0.5 * 2.0 ** max(failures - 1, 0))
        assert longest / 2 <= min(drawn) < max(drawn) <= longest
    assert feed.pause(10**9) <= 60.0


def test_a_camera_that_always_breaks_off_soon_is_tried_less_and_less_often(monkeypatch):
    now, failures = [time.monotonic()], list[int]()

    class Lasting(Script):
        def next(self) -> Shot:
            now[0] += 0.5
            return super().next()._replace(instant=now[0])

    monkeypatch.setattr(feed, "monotonic", lambda: now[0])
    monkeypatch.setattr(feed, "pause", lambda count: failures.append(count) or 0.0)
    made, _ = fed(*(Lasting(*range(pictures), VideoError("cut")) for pictures in (3, 3, 18, 30, 3)), Script())
    assert until(lambda: len(failures) == 5)
    made.close()
    assert failures == [1, 2, 3, 0, 1]


def test_setting_the_clock_of_the_machine_moves_no_time(monkeypatch):
    made = Feed("camera", lambda fps: Script(), Clock(), None)
    clock, before = made.clock, made.clock.now()
    day = clock.wall(0.0)
    made._lose("gone", "cable")
    assert made.health().gaps[0].since == day
    month = timedelta(days=30)
    monkeypatch.setattr(health, "time", lambda: time.time() + month.total_seconds())
    assert 0 <= clock.now() - before < 1
    assert abs(clock.wall(0.0) - day - month) < timedelta(seconds=1), "a time of the day is by the clock as it is set"
    assert clock.wall(90.0) - clock.wall(0.0) == timedelta(seconds=90)
    assert made.health().gaps[0].since == clock.wall(0.0)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_gap_says_the_times_of_the_day(start, length):
    clock = Clock()
    gap = Gap(start, start + length, "why", clock.wall(start), clock.wall(start + length))
    begin, end = str(gap).removeprefix("no picture from ").removesuffix(" (why)").split(" to ")
    assert begin == f"{clock.wall(start):%H:%M:%S}"[: len(begin)]
    assert begin != end or length < 1 or length > 86400 - 60


def number_of(frame: Frame) -> int:
    """Which picture of the video it is, by its brightness."""
    return round((frame.image.mean() - 20) / 4)


def test_who_is_slow_gets_the_newest_and_misses_the_rest(video):
    with open_camera(video, fps=25) as camera:
        first = next(camera)
        assert until(lambda: camera.dropped >= 10)
        missed = camera.dropped
        assert number_of(next(camera)) > number_of(first) + missed, "it is newer than all that it missed"
        rest = list(camera)
    assert camera.health().state == "closed"
    assert [frame.time for frame in rest] == sorted({frame.time for frame in rest})
    assert rest[-1].image.mean() > 200, "the last picture comes too"


def test_a_file_is_played_at_its_own_pace_and_ends(video):
    begun = time.monotonic()
    with open_camera(video, fps=5) as camera:
        frames = list(camera)
        assert camera.health().state == "over"
    assert time.monotonic() - begun > 1.7
    assert 9 <= len(frames) + camera.dropped <= 11
    numbers = np.array([number_of(frame) for frame in frames])
    times = np.array([frame.time for frame in frames])
    assert np.corrcoef(numbers, times)[0, 1] > 0.99
    pictures_a_second, _ = np.polyfit(times, numbers, 1)
    assert 20 < pictures_a_second < 30


@pytest.mark.skipif("libx264" not in av.codecs_available, reason="FFmpeg without libx264")
def test_a_file_without_times_is_played_at_the_rate_that_it_declares(tmp_path):
    path = encode(tmp_path / "raw.h264", [gray(number) for number in range(20)], "libx264", rate=25, bf="3")
    with open_camera(path, fps=None) as camera:
        frames = list(camera)
    assert frames[-1].time - frames[0].time > 0.5
    assert len(frames) + camera.dropped == 20


@pytest.mark.parametrize("kept_open", [True, False])
def test_a_file_that_is_over_begins_anew_for_who_opens_it_next(video, kept_open):
    first = open_camera(video, fps=None)
    assert until(lambda: first.health().state == "over")
    with open_camera(video, fps=None) as second:
        if not kept_open:
            first.close()
        assert number_of(next(second)) < 10
        with open_camera(video, fps=None) as third:
            assert third.now() == pytest.approx(second.now(), abs=0.1), "those that are not over are shared"
    assert not kept_open or first.health().state == "over"
    first.close()
    assert not _feeds
    assert not decoders()


def test_a_camera_that_cannot_start_is_not_handed_to_the_next(video, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("no thread")))
        with pytest.raises(RuntimeError, match="no thread"):
            open_camera(video)
    with open_camera(video) as camera:
        assert next(camera).time >= 0


def test_a_camera_that_is_looked_at_seldom_is_not_taken_for_gone(video):
    with open_camera(video, fps=0.7, loop=True, no_frame_timeout=0.5) as camera:
        times = [next(camera).time for _ in range(3)]
        assert camera.health().connections == 1
        assert not camera.gaps
    assert min(np.diff(times)) > 1


def test_streams_of_one_address_share_a_decoder(video):
    with open_camera(video, fps=2, loop=True) as one, open_camera(video, fps=10, loop=True) as other:
        assert len(decoders()) == 1
        seen = {id(frame.image) for frame in itertools.islice(other, 8)}
        assert id(next(one).image) in seen or one.dropped
        other.close()
        assert next(one).time > 0
        assert len(decoders()) == 1
    assert not decoders()
    assert not _feeds


def test_no_more_pictures_are_decoded_than_somebody_looks_at():
    """Who looked at all of them for a minute is not to be paid for by those who stay, for months."""
    told: list[float | None] = []
    script = Script(1)
    script.use_fps = told.append  # type: ignore
    rates: list[float | None] = []

    def connect(fps: float | None) -> Script:
        rates.append(fps)
        if len(rates) == 1:
            made.join(early, 3.0)  # while it is being opened
        return script

    made, early, looker, fast, every = Feed("camera", connect, Clock(), None), Looker(), Looker(), Looker(), Looker()
    made.join(looker, 2.0)
    made.start()
    assert until(lambda: looker.frames)
    for step in (lambda: made.leave(early), lambda: made.join(fast, 30.0), lambda: made.join(every, None)):
        step()
    for each in (fast, every, looker):
        made.leave(each)
    made.close()
    assert rates == [2.0]
    assert told == [3.0, 2.0, 30.0, None, 2.0]


def test_a_decoder_that_hangs_is_ended_and_replaced(video):
    with open_camera(video, fps=10, loop=True, no_frame_timeout=0.4) as camera:
        next(camera)
        (decoder,) = decoders()
        os.kill(decoder.pid, signal.SIGSTOP)
        hung = camera.now()
        assert until(lambda: camera.gaps and camera.gaps[-1].end is not None, 5.4)
        assert camera.gaps[-1].why == "no picture within 0.4 s"
        assert next(camera).time > hung
        assert not decoder.is_running()


def test_a_decoder_does_not_outlive_its_parent(video):
    with open_camera(video, loop=True) as camera:
        (decoder,) = decoders()
        source: Any = camera._feed._source
        source._process.stdin.close()  # what the end of this process would do
        assert until(lambda: not decoder.is_running() or decoder.status() == psutil.STATUS_ZOMBIE)


def test_nothing_is_left_behind(video):
    process = psutil.Process()
    with open_camera(video):
        pass
    before = process.num_fds(), threading.active_count()
    for _ in range(5):
        open_camera(video, wait=False).close()
        with open_camera(video) as camera:
            next(camera)
    assert (process.num_fds(), threading.active_count()) == before
    assert not decoders()


def test_giving_up_while_a_camera_opens_leaves_nothing_behind(monkeypatch):
    def interrupted(feed: Feed, timeout: float | None) -> Health:
        raise KeyboardInterrupt

    monkeypatch.setattr(Feed, "wait", interrupted)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        open_camera("rtsp://127.0.0.1:9/live")
    assert not _feeds
    assert threading.active_count() == threads
    assert not decoders()


def test_no_module_of_the_folder_that_it_is_started_in_stands_in_for_a_package(video, tmp_path, monkeypatch):
    (tmp_path / "av.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    with open_camera(video) as camera:
        assert next(camera).time >= 0


def test_closing_wakes_whoever_waits():
    with open_camera("rtsp://127.0.0.1:9/live", wait=False) as camera:
        found: list[object] = []
        waiting = threading.Thread(target=lambda: found.extend(camera))
        waiting.start()
        time.sleep(0.1)
        camera.close()
        waiting.join(5)
        assert not waiting.is_alive()
        assert not found


@pytest.mark.parametrize(
    "address",
    ["rtsp://me:s3cret@127.0.0.1:9/live?token=s3cret", "http://me:s3cret@127.0.0.1:9/s.mjpg?key=s3cret"],
)
def test_no_message_shows_a_password(address, caplog, capfd):
    with pytest.raises(VideoError) as refused:
        open_camera(address)
    with open_camera(address, wait=False) as camera:
        assert until(lambda: camera.gaps)
        shown = [str(refused.value), repr(camera), camera.name, str(camera.health().as_dict()), caplog.text]
        shown += [" ".join(child.cmdline()) for child in decoders()]
        shown += [thread.name for thread in threading.enumerate()]
    assert "s3cret" not in "".join([*shown, *capfd.readouterr()])
    assert "refused" in str(refused.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("missing.mp4", "no such file"),
        (None, "NoneType is not a camera; give an address or a path"),
        ("demo://still?sped=2", "no setting 'sped'"),
        ("demo://still?seed=x", "seed must be a number"),
        ("demo://night", "still, moving, cuts"),
        ("demo://still?minutes=0.1&events=6", "do not fit"),
    ],
)
def test_an_address_that_cannot_be_is_told_at_once(address, said):
    with pytest.raises(VideoError, match=said):
        open_camera(address)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"transport": "tpc"}, "'tcp' or 'udp'"),
        ({"no_frame_timeout": 0}, "no_frame_timeout must be a finite number above 0"),
        ({"fps": -1}, "fps must be a finite number above 0"),
    ],
)
def test_an_option_that_cannot_be_is_told_at_once(option, said):
    with pytest.raises(SettingError, match=said):
        open_camera("rtsp://camera/", **option)


@pytest.mark.parametrize(
    ("address", "camera"),
    [
        ("rtsp://a/b", True),
        ("RTSPS://a/b", True),
        ("http://a/live.m3u8?x=1", True),
        ("http://a/video.mjpg", True),
        ("http://a.cgi", False),
        ("http://me:p\uff20w@a/street.mp4", False),
        ("https://a/street.mp4", False),
        ("street.mp4", False),
        ("/dev/video0", True),
        ("/dev/stdin", False),
        ("demo://still", True),
        (b"x", False),
    ],
)
def test_which_addresses_are_cameras(address, camera):
    assert is_camera(address) is camera


def test_rtsp_goes_over_tcp_and_gives_up_by_the_option_that_ffmpeg_heeds():
    options = dict(find_camera("rtsp://a/b", "tcp", 3.0).options)
    assert options["rtsp_transport"] == "tcp"
    assert options["timeout"] == "3000000"


@pytest.mark.parametrize(
    ("system", "given", "opened"),
    [
        ("linux", "/dev/video3", ("/dev/video3", "v4l2", {})),
        ("linux", "/dev/v4l/by-id/usb-Cam-index0", ("/dev/v4l/by-id/usb-Cam-index0", "v4l2", {})),
        ("linux", "webcam://", ("/dev/video0", "v4l2", {})),
        ("linux", "WEBCAM://2", ("/dev/video2", "v4l2", {})),
        ("linux", "webcam:///dev/video1", ("/dev/video1", "v4l2", {})),
        ("linux", "v4l2:///dev/video1", ("/dev/video1", "v4l2", {})),
        ("darwin", "webcam://1", ("1", "avfoundation", {"framerate": "30"})),
        ("darwin", "avfoundation://FaceTime HD", ("FaceTime HD", "avfoundation", {"framerate": "30"})),
        ("darwin", "v4l2:///dev/video1", "v4l2 cameras cannot be opened here; webcam://0 opens the first one"),
        ("linux", "avfoundation://0", "avfoundation cameras cannot be opened here; webcam://0 opens the first one"),
        ("win32", "webcam://0", "cameras of win32 cannot be opened here$"),
    ],
)
def test_cameras_of_this_machine_are_opened_as_its_system_has_them(monkeypatch, system, given, opened):
    monkeypatch.setattr("sys.platform", system)
    assert is_camera(given)
    if isinstance(opened, str):
        with pytest.raises(VideoError, match=opened):
            open_camera(given)
    else:
        place = find_camera(given, "tcp", 3.0)
        assert (place.target, place.format, dict(place.options), place.file) == (*opened, False)


def test_a_device_is_watched_by_its_format(monkeypatch):
    """FFmpeg's drawn pictures come from a device, too: they stand for one that this machine may not have."""
    monkeypatch.setitem(_WEBCAMS, sys.platform, "lavfi")
    with open_camera("webcam://testsrc2=size=64x48:rate=25", fps=None) as camera:
        first = next(iter(camera))
        moved = any(not np.array_equal(frame.image, first.image) for frame in itertools.islice(camera, 50))
    assert (first.size, moved) == ((48, 64), True)


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("v4l2", "/dev/video97", "no such camera: this machine has "),
        ("avfoundation", "webcam://0", "this build of PyAV cannot open avfoundation devices"),
        ("lavfi", "webcam://nothing=1", r"cannot be watched \([^()]+\)$"),
    ],
)
def test_a_device_that_cannot_be_watched_is_told_in_one_line(monkeypatch, kind, given, said):
    monkeypatch.setitem(_WEBCAMS, sys.platform, kind)
    with pytest.raises(VideoError, match=said) as refused:
        open_camera(given)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fault", "said"),
    [(errno.EBUSY, "in use by another program"), (errno.EACCES, "users of a group"), (errno.ENOENT, "no such camera")],
)
def test_why_a_device_cannot_be_opened_is_told(fault, said):
    with pytest.raises(av.FFmpegError) as raised:
        av.error.err_check(-fault)
    assert said in _reason(raised.value, "v4l2")


def test_a_system_that_cannot_wait_for_decoders_is_told_at_once(monkeypatch, video):
    monkeypatch.delattr("select.poll")
    with pytest.raises(VideoError, match="watched on Linux and macOS"):
        open_camera(video)


@pytest.fixture
def served(tmp_path) -> Iterator[str]:
    with web_camera(tmp_path) as address:
        yield address


def test_a_camera_that_sends_one_jpeg_after_another(served):
    with open_camera(f"{served}/live.mjpg", fps=10) as camera:
        frames = list(itertools.islice(camera, 6))
    assert frames[0].image.shape == (64, 64, 3)
    assert len({int(frame.image.mean()) for frame in frames}) == 6


def test_a_camera_that_its_address_does_not_tell_is_no_video(served):
    assert not is_camera(f"{served}/video")
    with pytest.raises(CameraError, match=r"/video is a camera's: .*open_camera"):
        infinipot.open_video(f"{served}/video")
    with open_camera(f"{served}/video") as camera:
        assert next(camera).image.shape == (64, 64, 3)


def test_a_playlist(served, tmp_path, video):
    with av.open(str(video)) as source, av.open(str(tmp_path / "live.m3u8"), "w", format="hls") as out:
        stream = out.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in source.decode(video=0):
            out.mux(stream.encode(picture.reformat(format="yuv420p")))
        out.mux(stream.encode())
    with open_camera(f"{served}/live.m3u8", fps=10) as camera:
        frames = list(camera)
        assert camera.health().state == "over", "this one has an end"
    assert len(frames) > 12
    assert frames[-1].time - frames[0].time > 1.5, "it is played at its own pace"


def test_a_world_faster_than_life_waits_for_who_watches_it_and_so_does_its_clock():
    with open_camera("demo://still?speed=2000", fps=None) as camera:
        camera.end, times = 20.0, []
        for frame in camera:
            times.append(frame.time)
            if len(times) % 10 == 0:
                time.sleep(0.02)  # forty seconds of it
            assert frame.time <= camera.now() <= frame.time + 0.5 + 1e-6
        assert times == pytest.approx([number / 2 for number in range(40)])
        assert camera.dropped == 0


@pytest.mark.parametrize("taken", [0, 3])
def test_a_camera_that_waits_for_nobody_any_more_is_closed_at_once(taken: int):
    camera = open_camera("demo://still?speed=2000", fps=None)
    list(itertools.islice(camera, taken))
    time.sleep(0.05)
    begun = time.monotonic()
    camera.close()
    assert time.monotonic() - begun < 5
    assert not camera._feed._thread.is_alive()


def test_a_demo_camera_knows_the_truth():
    with open_camera("demo://moving?speed=200&minutes=1&seed=10003", fps=None) as camera:
        frame = next(itertools.islice(camera, 100, None))
        world = camera.world
        assert world is not None
        assert frame.time * 2 == round(frame.time * 2), "frames come at the world's own times"
        assert np.array_equal(frame.image, world.clip.draw([frame.time])[0][0])
        for question in world.questions(frame.time):
            assert world.answer(question.text.upper(), frame.time) == question.answer
        assert world.answer("Who is there?", frame.time) is None


def test_the_public_names_need_no_tensor_library_to_decode():
    import subprocess
    import sys

    code = "import sys, infinipot.camera.decoding; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert infinipot.open_camera is open_camera
    assert infinipot.Camera is Camera
    assert Health.__dataclass_fields__.keys() >= {"state", "lag", "gaps"}
