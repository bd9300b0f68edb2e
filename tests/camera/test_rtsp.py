"""Cameras on a real RTSP server: what such cameras do, short; `perf/cameras.py` does it at length."""

import signal
import threading
import time

import psutil
import pytest

from infinipot.camera import feed, open_camera
from support import rtsp

pytestmark = pytest.mark.skipif(bool(rtsp.missing()), reason=rtsp.missing())

TIMEOUT = 0.8


def seen(camera, seconds: float) -> list:
    """The frames of so many seconds."""
    frames, end = [], time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if (frame := camera.next(timeout=left)) is not None:
            frames.append(frame)
    return frames


def becomes(camera, state: str) -> bool:
    """Waits until a camera is in a state; whether it was so within the time-out and 30 s."""
    end = time.monotonic() + TIMEOUT + 30
    while camera.health().state != state:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_a_camera_that_falls_silent_freezes_loses_packets_changes_size_and_is_killed(monkeypatch):
    monkeypatch.setattr(feed, "STEADY", 0.2)  # so that pauses stay short
    with (
        rtsp.RtspServer() as server,
        open_camera(server.address, fps=10, open_timeout=10, no_frame_timeout=TIMEOUT, frozen_after=0.6) as camera,
    ):
        assert seen(camera, 0.5)[-1].image.shape == (240, 320, 3)
        server.say("drop 0.2")
        assert seen(camera, 0.6), "pictures go on with what is left of them"
        server.say("drop 0")
        server.say("still")
        assert becomes(camera, "frozen")
        server.say("moving")
        assert becomes(camera, "live")
        server.process.send_signal(signal.SIGSTOP)
        assert becomes(camera, "gone")
        server.process.send_signal(signal.SIGCONT)
        assert becomes(camera, "live")
        before = psutil.Process().num_fds(), threading.active_count()
        server.kill()
        assert becomes(camera, "gone")
        server.start("160", "120")
        assert becomes(camera, "live")
        assert seen(camera, 0.5)[-1].image.shape == (120, 160, 3)
        assert (psutil.Process().num_fds(), threading.active_count()) == before
        frozen, silent, killed = camera.gaps[-3:]
        assert "not changed" in frozen.why
        assert silent.end is not None
        assert frozen.end is not None
        assert killed.start >= silent.end > silent.start >= frozen.end
    assert not [child for child in psutil.Process().children() if "decoding" in " ".join(child.cmdline())]
