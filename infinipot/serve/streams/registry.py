"""The open streams and their owners, and whether one more fits, by the exact bytes that it will take."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from infinipot import Contents
from infinipot.serve.errors import ApiError
from infinipot.serve.lane import FrameJob, GoneError, Lane
from infinipot.serve.media.picture import Picture
from infinipot.serve.metrics import Metrics
from infinipot.serve.settings import Settings, stream_settings
from infinipot.serve.streams.protocol import NAME, StreamSettings
from infinipot.serve.streams.served import Served
from infinipot.serve.worker import Worker
from infinipot.stream import Stream
from infinipot.video.thumbnails import Thumbnails


class Streams:
    """All streams of a server. Used on the event loop alone.

    Args:
        worker: runs them.
        settings: of the server.
        metrics: count what happens.

    Attributes:
        on_taken: is called, on the event loop, with each stream that has taken a frame, which waits to be watched.
        on_watched: are called, on the worker's thread, with each stream that has watched a frame.
        room: of their memory; those that are being opened have theirs already.
    """

    def __init__(self, worker: Worker, settings: Settings, metrics: Metrics) -> None:
        self.worker, self.settings = worker, settings
        self._metrics = metrics
        self.room = worker.room
        self.on_taken: Callable[[Served], None] | None = None
        self.on_watched: tuple[Callable[[Served], None], ...] = ()
        self._frames = settings.limits.frames_waiting
        self._streams: dict[tuple[str, str], Served] = {}
        self._opening: set[tuple[str, str]] = set()
        self._closing: set[tuple[str, str]] = set()

    def __iter__(self) -> Iterator[Served]:
        return iter(list(self._streams.values()))

    def __len__(self) -> int:
        return len(self._streams)

    def of(self, owner: str) -> list[Served]:
        """The streams of an owner that have a name, oldest first."""
        return [each for (whose, _), each in self._streams.items() if whose == owner and not each.passing]

    def find(self, owner: str, name: str) -> Served:
        """A stream by its id.

        Raises:
            ApiError: this owner has none of that id; whether another one has is not told.
        """
        served = self._streams.get((owner, name))
        if served is None:
            shown = name if NAME.fullmatch(name) else f"{name[:64]!r}"
            raise ApiError(404, f"there is no stream {shown}", "stream_not_found", param="id")
        return served

    def settings_of(self, asked: StreamSettings) -> dict[str, Any]:
        """The arguments of `Model.stream`."""
        return self.settings.stream | stream_settings(asked.given())

    async def open(
        self,
        owner: str,
        asked: StreamSettings,
        name: str | None = None,
        *,
        idle_seconds: float | None = None,
        passing: bool = False,
    ) -> Served:
        """Opens a stream.

        Raises:
            ApiError: 409 where there is one of that id, or one is still being closed, 429 where it does not fit, 400
                for settings that cannot be.
        """
        model, settings = self.worker.model, self.settings_of(asked)
        if asked.pixels is not None and asked.pixels[0] > (most := self.settings.limits.frame_pixels):
            message = f"pixels: a frame may have up to {most:,} pixels"
            raise ApiError(400, message, "frame_too_large", param="pixels")
        needed = await asyncio.wrap_future(self.worker.call(lambda: model.stream_bytes(**settings)))
        needed += self.settings.limits.pictures
        opening = lambda: self.worker.open(lambda: model.stream(**settings), self._frames)  # noqa: E731
        return await self._admitted(owner, name, needed, opening, idle_seconds, passing)

    async def restore(self, owner: str, name: str, path: Path, needed: int, idle_seconds: float | None) -> Served:
        """Opens a stream that was saved; raises what `open` and `Model.restore` raise."""
        restore = self.worker.model.restore
        opening = lambda: self.worker.open(lambda: restore(path), self._frames)  # noqa: E731
        served = await self._admitted(owner, name, needed, opening, idle_seconds, passing=False)
        served.resume()
        return served

    async def fork(self, source: Served, name: str | None, *, passing: bool = False) -> Served:
        """Opens a stream with the past of another one: all frames that were taken so far."""
        opening = lambda: self.worker.fork(source.lane, self._frames)  # noqa: E731
        served = await self._admitted(source.owner, name, source.bytes, opening, source.idle_seconds, passing)
        served.resume()
        served.restored_at = None
        return served

    async def _admitted(
        self,
        owner: str,
        name: str | None,
        needed: int,
        open_lane: Callable[[], "Future[Lane]"],
        idle_seconds: float | None,
        passing: bool,
    ) -> Served:
        name = name or f"{'once' if passing else 'stream'}-{uuid.uuid4().hex[:12]}"
        key, limits = (owner, name), self.settings.limits
        if key in self._streams or key in self._opening:
            raise ApiError(409, f"there is already a stream {name}: delete it, or use another id", "stream_exists")
        if key in self._closing:
            message = f"stream {name} is still being closed: try again in a moment, or use another id"
            raise ApiError(409, message, "stream_closing", headers={"Retry-After": "1"})
        if len(self._streams) + len(self._opening) >= limits.streams:
            message = f"{limits.streams} streams are open, which is the limit: delete one first"
            raise ApiError(429, message, "too_many_streams")
        self._opening.add(key)
        try:
            lane = await self._in_room(needed, open_lane)
        finally:
            self._opening.discard(key)
        idle = min(idle_seconds or limits.idle_seconds, limits.idle_seconds)
        taken = lane.stats.bytes + limits.pictures  # of a snapshot's stream, what is said of it may be wrong
        self.room.free(needed - taken)
        lasts = self.worker.model.adapter.patch_frames / lane.stream.config.fps
        thumbnails = Thumbnails(limits.thumbnails, bytes_each=int(limits.thumbnail_bytes), lasts=lasts)
        served = self._streams[key] = Served(owner, name, lane, taken, idle, passing, thumbnails=thumbnails)
        return served

    async def _in_room(self, needed: int, open_lane: Callable[[], "Future[Lane]"]) -> Lane:
        """Opens a lane once there is room for it."""
        if not await self.room.reserve(needed):
            total, free = self.room.total, max(self.room.total - self.room.reserved, 0)
            message = (
                f"the stream would take {needed:,} bytes, and {free:,} of {total:,} are free: give it less memory, or "
                "delete a stream"
            )
            raise ApiError(429, message, "memory_exhausted", param="memory")
        try:
            opening = open_lane()
            return await asyncio.shield(asyncio.wrap_future(opening))
        except BaseException as error:
            self.room.free(needed)
            if isinstance(error, asyncio.CancelledError):
                opening.add_done_callback(self._close_opened)  # nobody waits for it any more
            raise

    def _close_opened(self, opening: "Future[Any]") -> None:
        if not opening.cancelled() and opening.exception() is None:
            self.worker.close(opening.result())

    async def contents(self, served: Served) -> Contents:
        """What a stream holds now; small pictures of what it does not are let go.

        Raises:
            ApiError: it was closed meanwhile.
        """
        try:
            held = await asyncio.wrap_future(self.worker.alone(served.lane, Stream.contents))
        except GoneError:
            raise ApiError(410, "the stream was closed", "stream_closed") from None
        served.thumbnails.keep([patch.time for patch in held.patches])
        return held

    async def tidy(self) -> None:
        """Drops thumbnails of times that are not held any more, if that may help."""
        for served in self:
            if served.thumbnails.crowded and not served.passing:
                with suppress(ApiError):
                    await self.contents(served)

    async def close(self, served: Served, forget: Callable[[Served], Awaitable[None]] | None = None) -> None:
        """Closes a stream; what waits in it is told so.

        Args:
            served: the stream; one that was closed before is left alone.
            forget: deletes what is kept of the stream by its id, which no other stream can have until that is done.
        """
        key = served.owner, served.id
        if self._streams.get(key) is not served:
            return
        del self._streams[key]
        self._closing.add(key)
        try:
            await self._close_lane(served)
            if forget is not None:
                await forget(served)
        finally:
            self._closing.discard(key)

    async def _close_lane(self, served: Served) -> None:
        closing = asyncio.wrap_future(self.worker.close(served.lane))
        try:
            await asyncio.shield(closing)
        finally:
            self.room.free(served.bytes)

    def offer(self, served: Served, picture: Picture, at: float | None) -> FrameJob | None:
        """Queues a picture; one that came too soon after the last is counted as dropped, and None is returned.

        Raises:
            ApiError: 410 where the stream was closed; see `Served.place`.
        """
        if self._streams.get((served.owner, served.id)) is not served:
            raise ApiError(410, "the stream was closed", "stream_closed")
        if (place := served.place(at)) is None:
            self.drop(served, "fps")
            return None
        return self.push(served, picture.at(place))

    def push(self, served: Served, picture: Picture) -> FrameJob:
        """Queues a picture at its time, and counts the one that it displaces."""
        job = served.take(picture)
        job.watched.add_done_callback(lambda done: self._note(served, done))
        gone = self.worker.push(served.lane, job)
        while gone is not None or (self._too_much_waits() and (gone := served.lane.give_way()) is not None):
            self.drop(served, "queue")
            gone.watched.cancel()
            gone = None
        if self.on_taken is not None:
            self.on_taken(served)
        return job

    def half_full(self, served: Served) -> bool:
        """Whether half as many frames wait as may, by their number or their bytes: who wants none of its frames dropped
        for another one goes on once the last of them was watched."""
        most = self.settings.limits.waiting_bytes
        return served.lane.waiting()[0] >= max(self._frames // 2, 1) or self._waiting_bytes() >= most / 2

    def _too_much_waits(self) -> bool:
        """Whether the frames that wait take more memory than they may, which other streams have to have too."""
        return self._waiting_bytes() > self.settings.limits.waiting_bytes

    def _waiting_bytes(self) -> int:
        return sum(each.lane.waiting_bytes for each in self._streams.values())

    def drop(self, served: Served, reason: str, frames: int = 1) -> None:
        """Counts frames that will not be watched."""
        served.dropped[reason] += frames
        self._metrics.dropped(reason, frames)

    def _note(self, served: Served, done: "Future[None]") -> None:
        """Notes that a frame that had been taken was watched, or what was wrong with it. On the worker's thread."""
        served.used = time.monotonic()  # a frame that takes long leaves as much time for what comes after it
        error = None if done.cancelled() else done.exception()
        for watched in self.on_watched if error is None and not done.cancelled() else ():
            watched(served)
        if error is not None and not isinstance(error, GoneError):
            served.error = " ".join(str(error).split())
            self.drop(served, "refused")

    def is_idle(self, served: Served) -> bool:
        """Whether nobody has used a stream for as long as it allows, nothing is to be played into it, nor waits.

        One of a request or a session never is: it is closed with that, and not before.
        """
        return (
            self._streams.get((served.owner, served.id)) is served
            and time.monotonic() - served.used > served.idle_seconds
            and not served.passing
            and not served.lane.busy
            and served.plays is None
        )
