"""Cameras at length: on a real RTSP server that is cut off again and again, and eight at once on the embedded model.

The first prints how long pictures stayed away, and threads, descriptors and memory before and after; the second memory
of the process and of its decoders, how late pictures were, and how many were dropped. What a decoder of its own costs
is printed first: the time until it is there, its memory, and the time that its pictures take on their way.

    python perf/cameras.py [--reconnects 50] [--minutes 10]
"""

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import infinipot
from infinipot.camera import Camera
from infinipot.camera.feed import STEADY
from support import rtsp

TIMEOUT, CAMERAS, MEMORY = 2.0, 8, 512
MIB = 1 << 20


def decoders() -> list[psutil.Process]:
    """The processes that decode cameras."""
    return [each for each in psutil.Process().children() if "infinipot.camera.decoding" in each.cmdline()]


def cost(server: rtsp.RtspServer) -> None:
    """Prints what a decoding process costs."""
    begun = time.monotonic()
    with infinipot.open_camera(server.address, fps=None) as camera:
        first = time.monotonic() - begun
        late = [-next(camera).time + camera.now() for _ in range(60)]
        (decoder,) = decoders()
        used = decoder.memory_info().rss / MIB
        share = decoder.cpu_percent(1.0)
    middle, most = 1000 * statistics.median(late), 1000 * max(late)
    print(f"first picture after {1000 * first:.0f} ms; {used:.0f} MiB, {share:.0f}% of a core for 320 x 240 at 15 fps")
    print(f"a picture is {middle:.1f} ms on its way from the decoder, {most:.0f} at the most")


def reconnect(server: rtsp.RtspServer, times: int) -> None:
    """Cuts a camera off again and again, in turn by dropping its clients and by killing it."""
    process = psutil.Process()
    with infinipot.open_camera(server.address, fps=5, open_timeout=3, no_frame_timeout=TIMEOUT) as camera:
        next(camera)
        before = process.num_fds(), threading.active_count(), process.memory_info().rss
        for number in range(times):
            newer = camera.health().pictures + 20
            if number % 2:
                server.kill()
                server.start()
            else:
                server.say("cut")
            wait_until(partial(lost_or_past, camera, newer))
            wait_until(lambda: camera.health().state == "live")
            time.sleep(STEADY + 0.2)  # so that the next pause is as short
        after = process.num_fds(), threading.active_count(), process.memory_info().rss
        away = [gap.end - gap.start for gap in camera.gaps if gap.end is not None]
    middle, grown = statistics.median(away), (after[2] - before[2]) / MIB
    print(f"{len(away)} gaps in {times} cuts: pictures stayed away {middle:.1f} s, {max(away):.1f} at the most")
    print(f"descriptors {before[0]} to {after[0]}, threads {before[1]} to {after[1]}, memory {grown:+.1f} MiB")


def lost_or_past(camera: Camera, pictures: int) -> bool:
    """Whether a camera is away, or has had more pictures than so many since."""
    health = camera.health()
    return health.state != "live" or health.pictures > pictures


def wait_until(condition: Callable[[], object]) -> None:
    """Waits for half a minute at the most."""
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def watch(minutes: float) -> None:
    """Watches eight cameras side by side."""
    servers = [rtsp.RtspServer() for _ in range(CAMERAS)]
    model = infinipot.load("embedded")
    lags: list[float] = []
    cameras: list[Camera] = []
    try:
        cameras = [infinipot.open_camera(server.address, fps=2) for server in servers]
        streams = [model.stream(MEMORY, fps=2) for _ in cameras]
        end, memory = time.monotonic() + 60 * minutes, list[float]()
        while time.monotonic() < end:
            for camera, stream in zip(cameras, streams, strict=True):
                frame = camera.next(timeout=0.05)
                if frame is not None:
                    stream.watch(frame)
                    lags.append(camera.now() - frame.time)
            if len(memory) < (60 * minutes - (end - time.monotonic())) / 10:
                memory.append(sum(each.memory_info().rss for each in [psutil.Process(), *decoders()]) / MIB)
    finally:
        for camera in cameras:
            camera.close()
        for server in servers:
            server.kill()
    lags.sort()
    frames, dropped = len(lags), sum(camera.dropped for camera in cameras)
    third = max(1, len(memory) // 3)
    print(f"{CAMERAS} cameras for {minutes:g} minutes: {frames} frames watched, {dropped} dropped", end="; ")
    print(f"watched {1000 * lags[frames // 2]:.0f} ms after they came, {lags[-1]:.2f} s at the most")
    early, late = statistics.mean(memory[:third]), statistics.mean(memory[-third:])
    print(f"memory with decoders {early:.0f} MiB early on, {late:.0f} late")


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reconnects", type=int, default=50, help="times that the camera is cut off")
    parser.add_argument("--minutes", type=float, default=10, help="that eight cameras are watched for")
    given = parser.parse_args()
    if rtsp.missing():
        sys.exit(rtsp.missing())
    with rtsp.RtspServer() as server:
        cost(server)
        reconnect(server, given.reconnects)
    watch(given.minutes)


if __name__ == "__main__":
    main()
