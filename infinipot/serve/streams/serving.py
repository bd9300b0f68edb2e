"""Serves the routes of streams."""

import time
from collections.abc import AsyncGenerator
from concurrent.futures import Future

from infinipot.serve.answers import Asker, sse, usage
from infinipot.serve.asking import Evidence
from infinipot.serve.errors import ApiError, report
from infinipot.serve.feeding import watched
from infinipot.serve.lane import Answered
from infinipot.serve.media.decoders import Decoders
from infinipot.serve.players import Players
from infinipot.serve.settings import Settings
from infinipot.serve.streams.protocol import (
    AskReply,
    AskRequest,
    FramesTaken,
    Saved,
    StreamInfo,
    StreamList,
    StreamRequest,
)
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import RATE_WINDOW, Served
from infinipot.serve.streams.snapshots import Snapshots
from infinipot.serve.watches.asking import Watches


class StreamServing:
    """Opens, feeds, asks, forks, saves and closes streams for clients."""

    def __init__(
        self,
        settings: Settings,
        streams: Streams,
        asker: Asker,
        decoders: Decoders,
        players: Players,
        snapshots: Snapshots,
        watches: Watches,
    ) -> None:
        self._settings, self._streams, self._asker = settings, streams, asker
        self._decoders, self._players, self._snapshots = decoders, players, snapshots
        self._watches = watches

    async def open(self, owner: str, request: StreamRequest) -> StreamInfo:
        """Opens a stream, and has its source played into it."""
        if request.source is not None:
            self._players.check(request.source)
        served = await self._streams.open(owner, request, request.id, idle_seconds=request.idle_seconds)
        if request.source is not None:
            try:
                self._players.play(served, request.source, realtime=request.pace == "realtime")
            except BaseException:  # such as a kind of camera that this system has no way to open
                await self._streams.close(served)
                raise
        return self.state(served)

    def state(self, served: Served) -> StreamInfo:
        """The current state of a stream."""
        self._players.cameras.of(served)
        return served.state(self._settings.model)

    def all(self, owner: str) -> StreamList:
        """All streams of an owner."""
        data = [self.state(served) for served in self._streams.of(owner)]
        total = int(self._settings.memory_total)
        return StreamList(data=data, bytes_reserved=sum(each.bytes for each in data), bytes_total=total)

    async def close(self, served: Served) -> None:
        """Closes a stream, and deletes what was saved of it."""
        await self._players.stop(served)
        await self._streams.close(served, self._forget)

    async def _forget(self, served: Served) -> None:
        await self._snapshots.forget(served)
        await self._watches.forget(served)

    async def push(self, served: Served, pictures: list[bytes], at: float | None, *, wait: bool = False) -> FramesTaken:
        """Queues encoded pictures: the first at the given time, each further one a period of `fps` later.

        Each is decoded once the one before it has been queued, so that no more of them are in memory than may wait.

        Args:
            served: the stream.
            pictures: JPEG, PNG or WebP.
            at: seconds of the stream; left out, after the last frame.
            wait: until they were watched, which raises what was wrong with them; none is dropped for another.

        Raises:
            ApiError: there is none, there are too many, they come too fast, or one of them cannot be decoded or is out
                of order; those before that one were queued.
        """
        limits = self._settings.limits
        most = min(limits.frames_per_request, int(limits.frames_per_second * RATE_WINDOW) or 1)
        if not pictures:
            raise ApiError(400, "there is no picture in the request: give a JPEG, PNG or WebP as its body", "no_frame")
        if len(pictures) > most:
            raise ApiError(
                413, f"the request has {len(pictures)} pictures; at most {most} are allowed", "too_many_frames"
            )
        served.admit(len(pictures), limits)
        served.place(at)  # an order that cannot be is told before anything is decoded
        queued: list[Future[None]] = []
        for number, encoded in enumerate(pictures):
            picture = await self._decoders.picture(encoded)
            place = None if at is None else at + number / served.config.fps
            if (job := self._streams.offer(served, picture, place)) is None:
                continue
            queued.append(job.watched)  # without the picture, which may be watched and gone by then
            if wait and self._streams.half_full(served):
                await watched(job.watched)
        for each in queued if wait else ():
            await watched(each)
        dropped = sum(each.cancelled() for each in queued)
        return served.taken(len(queued) - dropped, len(pictures) - len(queued))

    async def ask(self, served: Served, request: AskRequest) -> AskReply:
        """Answers a question about a stream."""
        self._check(request)
        async with self._asker.ask(served, request.question, request) as answer:
            answered = await answer.result()
        return await self._reply(served, request, answered)

    async def events(self, served: Served, request: AskRequest) -> AsyncGenerator[str, None]:
        """The answer to a question as server-sent events: `delta` for each piece, then `done`, or `error`."""
        self._check(request)
        begun = False
        try:
            async with self._asker.ask(served, request.question, request) as answer:
                async for piece in answer.pieces():
                    begun = True
                    yield sse({"text": piece}, "delta")
                reply = await self._reply(served, request, await answer.result())
            yield sse(reply, "done")
        except Exception as error:
            if not begun:
                raise
            yield sse(report(error).body(), "error")

    def _check(self, request: AskRequest) -> None:
        """Refuses a turn that could not be saved before it is remembered."""
        if request.remember and request.durable:
            self._snapshots.check()

    async def _reply(self, served: Served, request: AskRequest, answered: Answered) -> AskReply:
        saved = await self.save(served) if request.remember and request.durable else None
        return AskReply(
            id=served.id,
            answer=answered.text,
            time=answered.time,
            finish_reason=answered.answer.finish_reason,
            usage=usage(answered),
            remembered=request.remember,
            saved_at=None if saved is None else saved.saved_at,
            evidence=[Evidence.model_validate(each) for each in answered.evidence],
        )

    async def fork(self, served: Served, name: str | None) -> StreamInfo:
        """Opens a second stream with the same past."""
        served.used = time.monotonic()
        return self.state(await self._streams.fork(served, name))

    async def save(self, served: Served) -> Saved:
        """Saves a stream now."""
        served.used = time.monotonic()
        return await self._snapshots.save(served)
