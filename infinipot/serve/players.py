"""Plays sources into streams: as fast as they are watched, or at their own pace."""

import asyncio
import logging
import time

from infinipot.camera.feed import STEADY, pause
from infinipot.errors import InfinipotError
from infinipot.serve.cameras.player import CameraPlayer
from infinipot.serve.errors import ApiError, report
from infinipot.serve.lane import GoneError
from infinipot.serve.logs import event
from infinipot.serve.media.decoders import CameraFoundError, DecodedVideo
from infinipot.serve.media.picture import Picture
from infinipot.serve.media.sources import Sources
from infinipot.serve.streams.protocol import SourceState
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import Served
from infinipot.video.address import public_name

logger = logging.getLogger(__name__)
_MOST = 1 << 62  # frames of a source that may be without end


class Players:
    """The sources that are played now.

    Args:
        streams: of the server.
        sources: opens addresses.
        cameras: watches those that are cameras.

    Attributes:
        cameras: the same.
    """

    def __init__(self, streams: Streams, sources: Sources, cameras: CameraPlayer) -> None:
        self._streams, self._sources, self.cameras = streams, sources, cameras
        self._playing: dict[Served, asyncio.Task[None]] = {}

    def check(self, address: str) -> None:
        """Raises `ApiError` for an address that is not played."""
        (self.cameras.rules if self.cameras.rules.takes(address) else self._sources).check(address)

    def play(self, served: Served, address: str, *, realtime: bool = False, resumed: bool = False) -> None:
        """Plays a source into a stream until it ends or is stopped.

        Args:
            served: the stream.
            address: of the source.
            realtime: whether it is played at its own pace.
            resumed: whether it was played before, and goes on behind the stream's last frame.
        """
        served.plays = address, realtime
        if self.cameras.rules.takes(address):
            self.cameras.play(served, address)
            return
        served.source = SourceState(address=self._sources.check(address), state="opening")
        playing = asyncio.create_task(self._play(served, address, realtime, resumed))
        self._playing[served] = playing
        playing.add_done_callback(lambda _: self._playing.pop(served, None))

    def resume(self, served: Served, address: str, *, realtime: bool) -> None:
        """Plays a source on from where its stream was saved.

        One that may not be played, such as where the server's rules are others than they were, is told of, and waits
        for a start at which it may be.
        """
        try:
            self.play(served, address, realtime=realtime, resumed=True)
        except Exception as error:
            message = report(error, stream=served.id).message
            served.source = SourceState(address=public_name(address), state="failed", error=message)
            event(logger, "a source is not played on", logging.WARNING, stream=served.id, why=str(error))

    async def stop(self, served: Served) -> None:
        """Stops what is played into a stream."""
        if (playing := self._playing.get(served)) is not None:  # first, since it may find that it plays a camera
            playing.cancel()
            await asyncio.wait({playing})
        await self.cameras.stop(served)

    async def close(self) -> None:
        """Stops everything at once."""
        await asyncio.gather(*(self.stop(served) for served in list(self._playing)))
        await self.cameras.close()

    async def _play(self, served: Served, address: str, realtime: bool, resumed: bool) -> None:
        """Plays a source until it ends; a live one that breaks off is opened again, after pauses as a camera's.

        One that turns out to be a camera, which many an address of a web server does not say, is watched as one.
        """
        source, failures = served.source, 0
        assert source is not None
        try:
            begun = served.live_from()
            while (why := await self._play_once(served, source, address, realtime, resumed)) is not None:
                source.state, source.error = "opening", why
                event(logger, "a source broke off", logging.WARNING, stream=served.id, why=why)
                failures = 0 if (served.time or 0.0) - begun >= STEADY else failures + 1
                await asyncio.sleep(pause(failures))
                resumed, begun = True, served.live_from()
            source.state, source.error, served.plays = "ended", None, None
        except GoneError:
            return
        except CameraFoundError:
            try:
                self.cameras.play(served, address)
            except Exception as error:
                kept = served.plays if resumed else None  # for a start at which it may be watched, as `resume` does
                self._fail(served, source, error)
                served.plays = kept
        except Exception as error:
            self._fail(served, source, error)

    def _fail(self, served: Served, source: SourceState, error: Exception) -> None:
        """Tells why a source is not played any more."""
        problem = report(error, stream=served.id)
        source.state, source.error, served.plays = "failed", problem.message, None
        event(logger, "a source failed", logging.WARNING, stream=served.id, why=problem.message)

    async def _play_once(
        self, served: Served, source: SourceState, address: str, realtime: bool, resumed: bool
    ) -> str | None:
        """Plays a source until it ends or breaks off.

        Returns:
            Why a live source, or one of which it is not known because it cannot be opened again, broke off; None where
            it ended.
        """
        clip: DecodedVideo | None = None
        seen = served.time if resumed else None
        try:
            async with self._sources.clip(address, fps=served.config.fps, most=_MOST, start=seen or 0.0) as clip:
                await self._watch(served, source, clip, seen, realtime=realtime)
            return "it broke off" if clip.live and clip.incomplete else None
        except CameraFoundError:
            raise
        except ApiError as error:
            live = resumed if clip is None or clip.live is None else clip.live
            if not live:
                raise
            return error.message

    async def _watch(
        self, served: Served, source: SourceState, clip: DecodedVideo, seen: float | None, *, realtime: bool
    ) -> None:
        """Has a stream watch a source that is being decoded, behind the second of it that was watched before the server
        was started again."""
        begun, offset, start = time.monotonic(), 0.0, seen or 0.0
        async for frame in clip.frames():
            if source.state != "playing":
                source.state, source.error = "playing", None
                if clip.live:
                    start = offset = served.live_from()
            at = frame.time + offset
            if seen is not None and at <= seen:
                continue
            if realtime:
                await asyncio.sleep(begun + at - start - time.monotonic())
            if served.time is not None and at <= served.time:  # others gave the stream later frames meanwhile
                behind = served.time + 1 / served.config.fps - at
                start, offset, at = start + behind, offset + behind, at + behind
            await self._give(served, frame.at(at), wait=not realtime)

    async def _give(self, served: Served, frame: Picture, *, wait: bool) -> None:
        """Queues a frame for a stream; with `wait`, until it was watched.

        A frame that others displaced, or that met an error of the model, such as a device that is full for a moment,
        is counted by the stream, and the source goes on with the next one.

        Raises:
            InfinipotError: the stream does not take this frame, and so none of the source.
            GoneError: it was closed.
        """
        job = self._streams.push(served, frame)
        if wait:
            watched = asyncio.wrap_future(job.watched)
            await asyncio.wait({watched})
            error = None if watched.cancelled() else watched.exception()
            if isinstance(error, InfinipotError | GoneError):
                raise error
