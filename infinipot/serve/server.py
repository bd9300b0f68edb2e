"""All that a running server consists of, put together: started, watched over, and ended without losing anything."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

from fastapi import WebSocket, WebSocketDisconnect
from prometheus_client.metrics_core import Metric
from starlette.requests import HTTPConnection

from infinipot.model import Model
from infinipot.serve.answers import Asker
from infinipot.serve.cameras.demo import open_demo
from infinipot.serve.cameras.player import CameraPlayer
from infinipot.serve.cameras.rules import CameraRules
from infinipot.serve.chat.serving import ChatServing
from infinipot.serve.feeding import Feeder
from infinipot.serve.files.uploads import Uploads
from infinipot.serve.guard import owner_of
from infinipot.serve.keys import Keys
from infinipot.serve.logs import event
from infinipot.serve.media.decoders import Decoders
from infinipot.serve.media.sources import Sources
from infinipot.serve.metrics import Metrics, gauge, levels
from infinipot.serve.players import Players
from infinipot.serve.room import Room
from infinipot.serve.settings import Settings
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import Served
from infinipot.serve.streams.serving import StreamServing
from infinipot.serve.streams.snapshots import Snapshots
from infinipot.serve.vss.captions import Captions
from infinipot.serve.watches.asking import Watches
from infinipot.serve.worker import Worker

logger = logging.getLogger(__name__)
_ROUND = 1.0  # seconds between two rounds of what is done on a clock
_LEAST = 1.0  # seconds that sources, and the worker, have to end, though answers took all of `drain_seconds`


class Server:
    """One model and its streams.

    Args:
        settings: of the server.
        model: already loaded.
        metrics: count what happens.

    Attributes:
        ready: whether streams were restored and requests are served.
    """

    def __init__(self, settings: Settings, model: Model, metrics: Metrics) -> None:
        self.settings, self.model, self.metrics = settings, model, metrics
        self.started = time.time()
        self.ready = False
        self._until: float | None = None  # when what is waited for at the end has to be done; monotonic
        model.answer_scratch = int(settings.limits.answer_bytes)
        self.worker = Worker(model, metrics, settings.step_tokens, Room(int(settings.memory_total)), settings.threads)
        self.streams = Streams(self.worker, settings, metrics)
        self.asker = Asker(self.worker, settings.limits)
        self.decoders = Decoders(settings.limits)
        self.sources = Sources(settings, self.decoders)
        cameras = CameraPlayer(self.streams, CameraRules(settings), settings.limits)
        self.players = Players(self.streams, self.sources, cameras)
        self.snapshots = Snapshots(settings.snapshots, self.streams, metrics)
        self.watches = Watches(settings, self.streams, self.asker)
        self.serving = StreamServing(
            settings, self.streams, self.asker, self.decoders, self.players, self.snapshots, self.watches
        )
        self.uploads = Uploads(settings.limits)
        self.feeder = Feeder(settings, self.streams, self.decoders, self.sources, self.uploads)
        self.chat = ChatServing(settings, self.streams, self.asker, self.feeder, self.uploads)
        parts = (self.streams, self.asker, self.feeder, self.sources, self.uploads)
        self.captions = Captions(settings, *parts)
        metrics.watch(self._levels)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts the server; at the end, lets answers finish and saves the streams."""
        self.worker.start()
        for served, told in await self.snapshots.restore_all(Keys.read(self.settings.api_keys).owners):
            event(logger, "a stream was restored", stream=served.id, restored_at=told.time)
            if told.plays is not None:
                address, realtime = told.plays
                self.players.resume(served, address, realtime=realtime)
        if self.settings.demo:
            await open_demo(self.settings, self.streams, self.players)
        await self.watches.start(self.snapshots.has)
        clocked = (self._save, self._close_idle, self.streams.tidy)  # none waits for another one
        rounds = [asyncio.create_task(_rounds(work)) for work in clocked]
        self.ready = True
        try:
            yield
        finally:
            self.end_soon()
            for each in rounds:
                each.cancel()
            await self._end()

    def end_soon(self) -> None:
        """Stops accepting work, and ends what would not end by itself; answers that are under way have `drain_seconds`.

        Called again, it changes nothing: the time is that of the whole end, whoever waits for answers.
        """
        self.ready = False
        self._until = self._until or time.monotonic() + self.settings.limits.drain_seconds
        self.watches.events.end_soon()
        self.captions.end_soon()

    async def _end(self) -> None:
        await self.watches.stop()
        with suppress(TimeoutError):  # streams are saved, whatever a source does
            async with asyncio.timeout(max(self._remaining(), _LEAST)):
                await self.players.close()
        while self.asker.waiting and self._remaining() > 0:
            await asyncio.sleep(0.01)
        if self.worker.faults.broken is None:  # else nothing can be read of streams: they are as they were last saved
            await self.snapshots.save_all()
        await self.decoders.close()
        self.uploads.close()
        await asyncio.to_thread(self.worker.stop, max(self._remaining(), _LEAST))

    def _remaining(self) -> float:
        """Seconds that are left of `drain_seconds`."""
        assert self._until is not None
        return self._until - time.monotonic()

    async def _save(self) -> None:
        await self.snapshots.save_due(self.settings.snapshot_seconds)

    async def _close_idle(self) -> None:
        for served in self.streams:
            if self.streams.is_idle(served):  # now: it may have been used while others were closed
                event(logger, "an idle stream was closed", stream=served.id)
                await self.serving.close(served)

    @asynccontextmanager
    async def socket(self, socket: WebSocket, subprotocol: str | None = None) -> AsyncIterator[None]:
        """A WebSocket that is accepted, counted, and closed at the end."""
        await socket.accept(subprotocol=subprotocol)
        self.metrics.websockets.inc()
        try:
            yield
        except WebSocketDisconnect:
            pass
        else:
            await socket.close()
        finally:
            self.metrics.websockets.dec()

    def _levels(self) -> Iterable[Metric]:
        """The current values of the gauges, over all streams."""
        streams = list(self.streams)
        stats = [served.lane.stats for served in streams]
        room = self.streams.room
        behind = [served.lane.behind() for served in streams]
        waiting = [served.lane.waiting() for served in streams]
        yield gauge("streams", "Streams that are open.", len(streams))
        yield gauge("bytes_reserved", "Bytes of the memory total that are reserved.", room.reserved)
        yield gauge("bytes_total", "Bytes that streams may reserve: the memory total.", room.total)
        yield gauge(
            "kv_cache_usage_perc",
            "Share of the memory total that is reserved, from 0 to 1.",
            room.reserved / room.total,
        )
        yield gauge(
            "tokens_held", "Tokens that all streams hold, per layer and KV head.", sum(each.tokens for each in stats)
        )
        yield gauge(
            "num_requests_waiting",
            "Questions that wait or are being answered.",
            sum(questions for _, questions in waiting),
        )
        yield gauge("frames_waiting", "Frames that wait for their streams.", sum(frames for frames, _ in waiting))
        held = sum(each.lane.waiting_bytes for each in streams)
        yield gauge("frames_waiting_bytes", "Bytes of the pixels of frames that wait.", held)
        yield gauge(
            "seconds_behind_max",
            "Seconds since the oldest frame that is not watched yet came, over all streams.",
            max(behind, default=0.0),
        )
        cameras = self.players.cameras
        yield levels("cameras", "Cameras that are watched, by state.", cameras.states())
        yield gauge(
            "camera_lag_seconds_max",
            "Seconds since the camera that has sent no picture for the longest sent one.",
            cameras.lag(),
        )
        yield gauge("start_time_seconds", "When the server started, in seconds since 1970.", self.started)


async def _rounds(work: Callable[[], Awaitable[None]]) -> None:
    """Does some work again and again, for ever: one round that fails ends none of those after it."""
    while True:
        await asyncio.sleep(_ROUND)
        try:
            await work()
        except Exception:
            logger.exception("a periodic task failed")


def server_of(connection: HTTPConnection) -> Server:
    """The server that a request came to."""
    server: Server = connection.app.state.server
    return server


def stream_of(connection: HTTPConnection, name: str) -> tuple[Server, Served]:
    """The same, and the stream of this id; raises `ApiError` 404 where its owner has none."""
    server = server_of(connection)
    return server, server.streams.find(owner_of(connection), name)
