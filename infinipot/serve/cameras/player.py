"""Watches cameras for streams: a thread each, which gives its stream the newest picture once the last was watched."""

import asyncio
import logging
import threading
from collections import Counter
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import get_args

from infinipot.camera import Camera, open_camera
from infinipot.camera.camera import PICTURE_PIXELS
from infinipot.camera.health import State
from infinipot.serve.cameras.rules import CameraRules
from infinipot.serve.lane import FrameJob, GoneError
from infinipot.serve.logs import event
from infinipot.serve.media.picture import Picture
from infinipot.serve.settings import Limits
from infinipot.serve.streams.protocol import CameraState, SourceState
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import Served
from infinipot.video.thumbnails import small_picture

logger = logging.getLogger(__name__)
_GAPS = 20  # that clients are told of


@dataclass(slots=True, eq=False)
class WatchedCamera:
    """A camera that is watched for a stream.

    Attributes:
        camera: that is open.
        offset: seconds of the stream at which the camera's time begins. It moves on where others gave the stream later
            frames, so that the camera goes on behind them.
        stopping: set when it is to end.
    """

    camera: Camera
    offset: float
    stopping: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def state(self) -> CameraState:
        """The state of the camera, with times in seconds of the stream."""
        health = self.camera.health()
        return CameraState(
            state=health.state,
            trouble=health.trouble,
            lag_seconds=health.lag,
            width=health.width,
            height=health.height,
            pictures=health.pictures,
            dropped=self.camera.dropped,
            connections=health.connections,
            begun=self.camera.wall(-self.offset * self.camera.speed).isoformat(),
            speed=self.camera.speed,
            gaps=[
                {**gap.as_dict(), "start": gap.start + self.offset, "end": gap.end and gap.end + self.offset}
                for gap in health.gaps[-_GAPS:]
            ],
            demo=self.camera.world is not None,
        )


class CameraPlayer:
    """The cameras that are watched now.

    Args:
        streams: of the server.
        rules: what may be watched.
        limits: of the server.
    """

    def __init__(self, streams: Streams, rules: CameraRules, limits: Limits) -> None:
        self.rules, self._streams, self._limits = rules, streams, limits
        self._watched: dict[Served, WatchedCamera] = {}

    def play(self, served: Served, address: str) -> None:
        """Watches a camera for a stream until it is stopped."""
        loop, shown = asyncio.get_running_loop(), self.rules.check(address)
        camera = open_camera(
            address,
            fps=served.config.fps,
            no_frame_timeout=self._limits.camera_seconds,
            frozen_after=self._limits.frozen_seconds or None,
            pixels=min(self._limits.frame_pixels, PICTURE_PIXELS),
            wait=False,
            check=self.rules.resolve,
        )
        watched = self._watched[served] = WatchedCamera(camera, served.live_from())
        served.source = SourceState(address=shown, state="playing", camera=watched.state())
        watched.thread = threading.Thread(
            target=self._run, args=(served, watched, loop), name=f"watching {served.id}", daemon=True
        )
        watched.thread.start()

    def of(self, served: Served) -> WatchedCamera | None:
        """The camera that is watched for a stream, once its reported state is up to date."""
        watched = self._watched.get(served)
        if watched is not None and served.source is not None:
            served.source.camera = watched.state()
        return watched

    def states(self) -> dict[str, int]:
        """The number of cameras in each state."""
        counts = Counter(each.camera.health().state for each in list(self._watched.values()))
        return {state: counts[state] for state in get_args(State)}

    def lag(self) -> float:
        """Seconds since the newest picture of the camera that is watched and has had none for the longest."""
        healths = [each.camera.health() for each in list(self._watched.values())]
        return max((each.lag or 0.0 for each in healths if each.state not in ("over", "closed")), default=0.0)

    async def stop(self, served: Served) -> None:
        """Stops watching for a stream."""
        watched = self._watched.pop(served, None)
        if watched is not None:
            watched.stopping.set()
            await asyncio.to_thread(watched.camera.close)

    async def close(self) -> None:
        """Stops everything at once, since a camera whose name is being looked up takes seconds to close."""
        watched = list(self._watched.values())
        self._watched.clear()
        for each in watched:
            each.stopping.set()
        threads, loop = ThreadPoolExecutor(max(len(watched), 1), "closing"), asyncio.get_running_loop()
        try:
            await asyncio.gather(*(loop.run_in_executor(threads, each.camera.close) for each in watched))
        finally:
            threads.shutdown(wait=False)

    def _run(self, served: Served, watched: WatchedCamera, loop: asyncio.AbstractEventLoop) -> None:
        source = served.source
        assert source is not None
        try:
            for frame in watched.camera:
                if watched.stopping.is_set():
                    return
                small = small_picture(frame.image, int(self._limits.thumbnail_bytes))
                self._give(served, watched, Picture(frame.image, frame.time, small), loop)
            if not watched.stopping.is_set():  # one that is stopped with the server goes on with it
                source.state, served.plays = "ended", None
        except (GoneError, CancelledError):
            return
        except Exception as error:
            if watched.stopping.is_set() or loop.is_closed():
                return
            source.state, source.error = "failed", " ".join(str(error).split())
            event(logger, "a camera failed", logging.ERROR, stream=served.id, why=source.error)
        finally:
            if source.state != "ended":  # what is over decodes nothing any more, and is told to be over
                watched.camera.close()

    def _give(self, served: Served, watched: WatchedCamera, frame: Picture, loop: asyncio.AbstractEventLoop) -> None:
        """Has the stream watch a frame, and waits until it has: so at most one frame is queued.

        A frame that gives way to those of a client, cannot be taken, or meets an error of the model, such as a device
        that is full for a moment, is counted and told by the stream, and the camera goes on with the next one.

        Raises:
            GoneError: the stream was closed.
        """
        pushed: Future[FrameJob] = asyncio.run_coroutine_threadsafe(self._push(served, watched, frame), loop)
        job = pushed.result()
        with suppress(CancelledError):
            if isinstance(error := job.watched.exception(), GoneError):
                raise error

    async def _push(self, served: Served, watched: WatchedCamera, frame: Picture) -> FrameJob:
        if served.time is not None and frame.time + watched.offset <= served.time:
            watched.offset = served.live_from() - frame.time
        return self._streams.push(served, frame.at(frame.time + watched.offset))
