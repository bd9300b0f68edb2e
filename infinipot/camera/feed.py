"""One connection to a camera for all who look at it: a thread that keeps it going and hands its pictures on.

Knows when to give up and when to try again; nothing of how pictures are decoded.
"""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Protocol

from infinipot.camera.health import Clock, Gap, Health, State
from infinipot.camera.process import Over, Shot
from infinipot.camera.still import Still
from infinipot.errors import VideoError
from infinipot.video.frame import Frame

logger = logging.getLogger(__name__)

STEADY = 10.0
"""Seconds of pictures after which the pauses begin anew. A camera that always breaks off sooner is tried less and less
often, since each time starts a process."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0  # seconds before a camera is tried again
_REMEMBERED = 100  # gaps
_PATIENCE = 2.0  # seconds that the thread is given to end: where it looks up a name, nothing can interrupt it


class Pictures(Protocol):
    """One connection to a camera."""

    opened: bool

    def next(self) -> Shot:
        """Waits for the next picture; raises `Over` or `VideoError`."""

    def use_fps(self, fps: float | None) -> None:
        """Changes how many pictures a second are wanted."""

    def stop(self) -> None:
        """Ends it at once, from any thread: whoever waits in `next` gets an error."""

    def close(self) -> None:
        """Releases all resources."""


class Watcher(Protocol):
    """A consumer of a camera's pictures. Called by the feed's thread."""

    def offer(self, frame: Frame) -> None:
        """Accepts or drops a picture."""

    def wait_taken(self) -> None:
        """Waits until what was offered was taken, or never will be."""

    def notice(self, gap: Gap) -> None:
        """Is told when a time without pictures begins, and again when it is over."""

    def finish(self) -> None:
        """There is nothing more to come."""


class Feed:
    """Keeps a camera going until it is closed.

    Args:
        name: of the camera, for messages.
        connect: opens one connection at a number of pictures a second; raises `VideoError` where that cannot be.
        clock: that of its pictures.
        frozen_after: seconds of the same picture after which it is taken for frozen, or None.
        waits: whether the next picture is fetched once all have taken the last one, rather than when it is due.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[float | None], Pictures],
        clock: Clock,
        frozen_after: float | None,
        *,
        waits: bool = False,
    ) -> None:
        self.name, self.clock, self._waits = name, clock, waits
        self._connect, self._frozen_after = connect, frozen_after
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._watchers: tuple[Watcher, ...] = ()
        self._rates: dict[Watcher, float] = {}  # that they want, infinity for all pictures
        self._source: Pictures | None = None
        self._closed = threading.Event()
        self._state: State = "opening"
        self._trouble = ""
        self._newest: Frame | None = None
        self._still = Still(frozen_after)
        self._pictures = self._connections = 0
        self._gaps: deque[Gap] = deque(maxlen=_REMEMBERED)
        self._thread = threading.Thread(target=self._run, name=f"camera {name}", daemon=True)

    def start(self) -> None:
        """Starts the thread, which connects."""
        self._thread.start()

    def join(self, watcher: Watcher, fps: float | None) -> None:
        """Adds a watcher, who wants so many pictures a second; None for all."""
        with self._changing_rate():
            self._watchers = (*self._watchers, watcher)
            self._rates[watcher] = inf if fps is None else fps
        if self._state == "over":
            watcher.finish()

    def leave(self, watcher: Watcher) -> bool:
        """Removes a watcher; returns whether there is none any more."""
        with self._changing_rate():
            self._watchers = tuple(each for each in self._watchers if each is not watcher)
            self._rates.pop(watcher, None)
            return not self._watchers

    @contextmanager
    def _changing_rate(self) -> Iterator[None]:
        """Tells the connection of another rate afterwards: no more pictures are decoded than somebody looks at."""
        with self._lock:
            before = self._fps
            yield
            now, source = self._fps, self._source if self._watchers else None
        if now != before and source is not None:
            source.use_fps(now)

    @property
    def _fps(self) -> float | None:
        """Pictures a second that whoever looks most often wants; None for all."""
        most = max(self._rates.values(), default=0.0)
        return None if most == inf else most

    def close(self) -> None:
        """Ends the connection and the thread, which may still wait for a look-up, after which it ends by itself."""
        self._closed.set()
        with self._lock:
            source = self._source
        if source is not None:
            source.stop()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)
        self._turn("closed", "")

    @property
    def over(self) -> bool:
        """Whether nothing more comes, since what was played has ended."""
        return self._state == "over"

    @property
    def newest(self) -> Frame | None:
        """The newest picture, or None before the first."""
        return self._newest

    def health(self) -> Health:
        """The state of the camera."""
        with self._lock:
            newest = self._newest
            lag = None if newest is None else max(0.0, self.clock.now() - newest.time) / self.clock.speed
            height, width = newest.image.shape[:2] if newest is not None else (0, 0)
            gaps = tuple(
                self._gap(each.start, each.end, each.why) for each in self._gaps
            )  # the clock may have been set
            return Health(self._state, self._trouble, lag, width, height, self._pictures, self._connections, gaps)

    def wait(self, timeout: float | None) -> Health:
        """Waits until it is known whether pictures come, or a number of seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._state != "opening", timeout)
        return self.health()

    def _run(self) -> None:
        pauses = 0
        while not self._closed.is_set():
            begun = monotonic()
            try:
                self._follow()
            except Over:
                if not self._closed.is_set():
                    self._finish()
                return
            except VideoError as error:
                self._lose("frozen" if isinstance(error, _FrozenError) else "gone", str(error))
            except Exception as error:  # such as that no process can be started: the next one may be
                self._lose("gone", f"{type(error).__name__} in its decoder")
                logger.debug("%s", self.name, exc_info=True)
            pauses = 0 if self._was_steady(begun) else pauses + 1
            self._closed.wait(pause(pauses))

    def _was_steady(self, begun: float) -> bool:
        newest = self._newest
        return newest is not None and newest.time - self.clock.at(begun) >= STEADY * self.clock.speed

    def _follow(self) -> None:
        """Hands the pictures of one connection on until it ends, of whatever cause."""
        rate = self._fps
        source = self._connect(rate)
        try:
            with self._lock:
                self._source, now = source, self._fps
            if now != rate:  # somebody came, or left, meanwhile
                source.use_fps(now)
            if self._closed.is_set():
                return
            counted = False
            while True:
                shot = source.next()
                if not counted:
                    counted = True
                    self._connections += 1
                self._take(shot)
        finally:
            with self._lock:
                self._source = None
            source.close()

    def _take(self, shot: Shot) -> None:
        """Hands a picture on, unless it is the one that has been there all the time."""
        if self._still.frozen(shot):
            raise _FrozenError(f"the picture has not changed for {self._frozen_after:g} s")
        frame = Frame(shot.image, self.clock.at(shot.instant))
        if self._newest is not None and frame.time <= self._newest.time:
            return
        with self._lock:
            self._newest = frame
            self._pictures += 1
            watchers = self._watchers
        if self._state != "live":
            self._regain(frame.time)
        for watcher in watchers:
            watcher.offer(frame)
        for watcher in watchers if self._waits else ():
            watcher.wait_taken()

    def _lose(self, state: State, why: str) -> None:
        """Begins a gap, unless one lasts."""
        if self._closed.is_set():
            return
        lasting = bool(self._gaps) and self._gaps[-1].end is None
        start = self._newest.time if self._newest is not None else 0.0
        gap = self._gap(start, None, why)
        with self._lock:
            if lasting:
                self._gaps[-1] = gap
            else:
                self._gaps.append(gap)
        self._turn(state, why)
        if not lasting:
            self._tell(gap)

    def _regain(self, time: float) -> None:
        """Ends a gap, where there is one."""
        self._turn("live", "")
        if not self._gaps or self._gaps[-1].end is not None:
            return
        begun = self._gaps[-1]
        gap = self._gap(begun.start, time, begun.why)
        with self._lock:
            self._gaps[-1] = gap
        self._tell(gap)

    def _gap(self, start: float, end: float | None, why: str) -> Gap:
        return Gap(start, end, why, self.clock.wall(start), None if end is None else self.clock.wall(end))

    def _tell(self, gap: Gap) -> None:
        logger.warning("%s: %s", self.name, gap)
        for watcher in self._watchers:
            try:
                watcher.notice(gap)
            except Exception:  # a fault of whoever is told, which must not end the camera for all
                logger.exception("%s: told of a gap, on_gap failed", self.name)

    def _finish(self) -> None:
        self._turn("over", "")
        for watcher in self._watchers:
            watcher.finish()

    def _turn(self, state: State, trouble: str) -> None:
        with self._changed:
            self._state, self._trouble = state, trouble
            self._changed.notify_all()


def pause(failures: int) -> float:
    """Seconds to wait before a camera is tried again that failed so often in a row: twice as long each time, up to a
    minute, and never the same for all, so that cameras that a switch took down together do not come back together.
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(max(failures - 1, 0), 10))
    return random.uniform(0.5, 1.0) * longest


class _FrozenError(VideoError):
    """The same picture came for too long."""
