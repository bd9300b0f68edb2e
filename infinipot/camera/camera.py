"""The public way in: `open_camera`, and the camera as whoever looks at it sees it."""

import math
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from infinipot.camera.address import Transport, find_camera, is_demo
from infinipot.camera.feed import Feed, Pictures
from infinipot.camera.health import Clock, Gap, Health
from infinipot.camera.process import DecoderProcess, Waits
from infinipot.camera.rate import Rate
from infinipot.errors import SettingError, VideoError
from infinipot.numbers import is_finite
from infinipot.reading import Closing
from infinipot.video.frame import Frame

if TYPE_CHECKING:
    from infinipot.camera.demo import World

PICTURE_PIXELS = 1920 * 1088  # of a picture that is kept
_EARLY = 0.25  # of a period: decoders send at the rate of who wants most, and not each picture takes as long

_feeds: dict[Hashable, Feed] = {}
_feeds_lock = threading.Lock()


class Camera(Closing, Iterator[Frame]):
    """The newest pictures of a camera, from now on.

    Iterating waits for the next one, and never ends but for a file that does, or `close`: a camera that is gone is
    tried again. Whoever is slow gets the newest picture next and misses those before it (see `dropped`). A frame's time
    counts from when the camera was opened, by a clock that nobody can set; `wall` says what time of the day it was.

    Attributes:
        name: its address, without its credentials.
        fps: frames a second at most, or None for all.
        end: the time at which it stops, in the camera's seconds, or infinity.
        dropped: pictures that came at this rate, but that nobody asked for before the next one came.
        world: what a demo camera shows, or None.
        duration, incomplete: None and False, as of a video that does not end.
    """

    duration = None
    incomplete = False

    def __init__(
        self, feed: Feed, fps: float | None, world: "World | None", release: Callable[["Camera"], None]
    ) -> None:
        self.name, self.fps, self.world, self.dropped = feed.name, fps, world, 0
        self.end = math.inf
        self._feed, self._release = feed, release
        self._rate = Rate(fps, _EARLY)
        self._frame: Frame | None = None
        self._over = self._closed = False
        self._changed = threading.Condition()
        self.on_gap: Callable[[Gap], object] | None = None
        """Called, by another thread, when a time without pictures begins and when it is over."""
        feed.join(self, fps)

    @property
    def newest(self) -> Frame | None:
        """The newest picture, whoever took it, or None before the first."""
        return self._feed.newest

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The newest times without a picture, oldest first; one that lasts has no end."""
        return self._feed.health().gaps

    def health(self) -> Health:
        """The camera's state: whether pictures come, and how late they are."""
        return self._feed.health()

    @property
    def speed(self) -> float:
        """The camera's seconds per second of real time: 1, except for demo cameras."""
        return self._feed.clock.speed

    def now(self) -> float:
        """The present in the camera's seconds."""
        return self._feed.clock.now()

    def wall(self, seconds: float) -> datetime:
        """The wall-clock time of a frame's time."""
        return self._feed.clock.wall(seconds)

    def next(self, timeout: float | None = None) -> Frame | None:
        """Waits for the next picture, for so many seconds at most; None where none came.

        Raises:
            StopIteration: a file is over, or the camera was closed.
        """
        left = (self.end - self.now()) / self._feed.clock.speed
        limit = left if timeout is None else min(timeout, left)
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._over, min(limit, threading.TIMEOUT_MAX))
            frame, self._frame = self._frame, None
            self._changed.notify_all()
        if (frame is None and (self._over or self.now() >= self.end)) or (frame is not None and frame.time >= self.end):
            raise StopIteration
        return frame

    def __next__(self) -> Frame:
        while (frame := self.next()) is None:  # a clock may be a little early
            pass
        return frame

    def close(self) -> None:
        """Stops looking; when nobody looks any more, the connection ends. May be called twice, and from any thread."""
        with self._changed:
            closed, self._closed = self._closed, True
            self._changed.notify_all()
        if not closed:
            self._release(self)
        self.finish()

    def __repr__(self) -> str:
        return f"<Camera {self.name}, {self._feed.health().state}>"

    # What the feed calls, from its own thread

    def offer(self, frame: Frame) -> None:
        """Takes a picture that is due: the one before it that nobody asked for is dropped."""
        if not self._rate.takes(frame.time):
            return
        with self._changed:
            self.dropped += self._frame is not None
            self._frame = frame
            self._changed.notify_all()

    def wait_taken(self) -> None:
        """Waits until the picture was asked for, or nobody looks any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is None or self._closed or self._over)

    def notice(self, gap: Gap) -> None:
        """Passes on that a time without pictures begins, or is over."""
        if self.on_gap is not None:
            self.on_gap(gap)

    def finish(self) -> None:
        """Is told that nothing more comes."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


def open_camera(
    address: str | os.PathLike[str],
    fps: float | None = 2.0,
    *,
    transport: Transport = "tcp",
    open_timeout: float = 10.0,
    no_frame_timeout: float = 20.0,
    frozen_after: float | None = 60.0,
    pixels: int = PICTURE_PIXELS,
    loop: bool = False,
    wait: bool = True,
    check: Callable[[str], str] | None = None,
) -> Camera:
    """Opens a camera and returns its newest pictures as they come.

    Whoever opens the same address with the same options again shares the connection, its time and its decoder, which
    runs in a process of its own: one that hangs is ended and replaced. A camera that stops, fails or freezes is tried
    again without end, after pauses that grow to a minute.

    Args:
        address: `rtsp://user:password@host/path`; `http://` for MJPEG and HLS; `/dev/video0` or `webcam://0` for a
            camera of this machine; a file, played at its own pace as if it happened now; or `demo://still`,
            `demo://moving` or `demo://cuts` for the synthetic world, with `?seed=`, `minutes=`, `events=`, `speed=`.
        fps: frames a second at most, or None for all that come.
        transport: what carries RTSP: "tcp", or "udp".
        open_timeout: seconds in which it has to answer.
        no_frame_timeout: seconds without a picture after which it is tried again.
        frozen_after: seconds of an unchanged picture after which it is tried again, too, since noise makes each picture
            of a working camera another one; None for a source that may stand still, such as a screen. Files and demo
            cameras always may.
        pixels: of a picture at most; larger ones are made smaller.
        loop: whether a file begins again at its end.
        check: is called with the address before each connection. It returns the address to connect to, or raises a
            `VideoError` to forbid it: so rules can look at what a name stands for at that moment.
        wait: returns with the first picture, or raises why there is none; else returns at once and goes on trying.

    Raises:
        VideoError: the address is none of a camera, or no picture came (with `wait`).
        SettingError: an option is not possible.
    """
    if not isinstance(address, str | os.PathLike):
        raise VideoError(f"an object of type {type(address).__name__} is not a camera; give an address or a path")
    location = os.fspath(address)
    fps = None if fps is None else _above_zero("fps", fps)
    waits = Waits(_above_zero("open_timeout", open_timeout), _above_zero("no_frame_timeout", no_frame_timeout))
    frozen_after = None if frozen_after is None else _above_zero("frozen_after", frozen_after)
    pixels = int(_above_zero("pixels", pixels))
    world = _world(location)
    key = (location, transport, waits, frozen_after, pixels, loop, check, world and object())

    def make() -> Feed:
        if world is not None:
            return _demo_feed(location, world)
        place = find_camera(location, transport, waits.silence)

        def connect(rate: float | None) -> Pictures:
            checked = place if check is None else find_camera(check(location), transport, waits.silence)
            return DecoderProcess(replace(checked, name=place.name), waits, rate, pixels, loop)

        return Feed(place.name, connect, Clock(), None if place.file else frozen_after)

    camera = _view(key, fps, world, make)
    if wait:
        try:
            health = camera._feed.wait(None)
        except BaseException:  # Ctrl-C
            camera.close()
            raise
        if health.connections == 0 and health.state in ("gone", "over"):
            camera.close()
            raise VideoError(f"{camera.name} cannot be watched ({health.trouble or 'it holds no pictures'})")
    return camera


def _world(location: str) -> "World | None":
    """The world that a demo camera shows; None for any other camera."""
    if not is_demo(location):
        return None
    from infinipot.camera.demo import World  # draws: needs what no other camera does

    return World.of(location)


def _demo_feed(location: str, world: "World") -> Feed:
    from infinipot.camera.demo import DemoSource

    clock = Clock(world.speed)
    clock.limit = 0.0 if world.waits else math.inf  # until it is looked at
    return Feed(location, lambda fps: DemoSource(world, clock), clock, None, waits=world.waits)


def _view(key: Hashable, fps: float | None, world: "World | None", make: Callable[[], Feed]) -> Camera:
    """Returns a camera that looks at a feed, which is made unless somebody looks at it already and it is not over."""

    def release(camera: Camera) -> None:
        with _feeds_lock:
            last = feed.leave(camera)
            if last and _feeds.get(key) is feed:  # not one that began after this one was over
                del _feeds[key]
        if last:
            feed.close()

    with _feeds_lock:
        shared = _feeds.get(key)
        feed = make() if shared is None or shared.over else shared
        camera = Camera(feed, fps, world, release)
        if feed is not shared:
            feed.start()
            _feeds[key] = feed
    return camera


def _above_zero(name: str, value: object) -> float:
    if not is_finite(value) or value <= 0:
        raise SettingError(f"{name} must be a finite number above 0, not {value!r}")
    return float(value)
