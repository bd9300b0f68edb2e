"""Captions and summaries of files and streams, as NVIDIA's VSS has them.

Of a file, each stretch is watched by a stream of its own, which has seen nothing else: so its caption is of that
stretch. A summary is the answer of one stream that has watched all of the file; nothing is put together from captions.
A stream that is open is asked on its own memory, at the end of each stretch, and remembers what was before.
"""

import asyncio
import math
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from infinipot.serve.answers import Asker
from infinipot.serve.asking import AskFields, Generating
from infinipot.serve.bodies import made_of
from infinipot.serve.errors import ApiError, require_model
from infinipot.serve.feeding import Feeder
from infinipot.serve.files.uploads import Upload, Uploads
from infinipot.serve.lane import Answered
from infinipot.serve.media.picture import Picture
from infinipot.serve.media.sources import Sources
from infinipot.serve.room import Room
from infinipot.serve.settings import Settings
from infinipot.serve.streams.protocol import StreamSettings
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import Served
from infinipot.serve.vss.protocol import (
    Caption,
    CaptionRequest,
    Chunks,
    Offsets,
    Summary,
    SummaryChoice,
    SummaryMessage,
    SummaryRequest,
)

_LOOK = 1.0  # seconds between two looks at whether a stream's source is over
_APART = 0.01  # seconds from the beginning of a stretch to that of the next, at the least


@dataclass(slots=True, eq=False)
class _Live:
    """Captions that are made of a stream as it goes on.

    Attributes:
        more: set where it has watched a frame, or is to end.
        stopped: whether it is to.
    """

    served: Served
    loop: asyncio.AbstractEventLoop
    more: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False

    def stop(self) -> None:
        """Ends them, once an answer that is under way was told."""
        self.stopped = True
        self.more.set()

    async def reaches(self, time: float) -> bool:
        """Waits until the stream has watched up to a time; False where it ends before, or is to."""
        lane = self.served.lane
        while lane.stats.time < time:
            source = self.served.source
            over = source is not None and source.state in ("ended", "failed") and not lane.busy
            if self.stopped or lane.closed or over:
                return False
            self.more.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self.more.wait()
        return not self.stopped


class Captions:
    """Makes captions and summaries.

    Args:
        settings, streams, asker, feeder, sources, uploads: of the server.
    """

    def __init__(
        self, settings: Settings, streams: Streams, asker: Asker, feeder: Feeder, sources: Sources, uploads: Uploads
    ) -> None:
        self._settings, self._streams, self._asker = settings, streams, asker
        self._feeder, self._sources, self._uploads = feeder, sources, uploads
        self._live: tuple[_Live, ...] = ()
        self._overlaps = Room(int(settings.limits.waiting_bytes))  # of frames that two stretches share
        streams.on_watched += (self._heard,)

    def check(self, owner: str, request: SummaryRequest) -> None:
        """Raises `ApiError` for what cannot be captioned."""
        require_model(request.model, self._settings.model)
        if isinstance(request, CaptionRequest):
            shared, lasts = request.chunk_overlap_duration, request.chunk_duration
            if lasts and shared >= lasts:
                message = f"chunk_overlap_duration must be less than the chunk_duration of {lasts:g} s"
                raise ApiError(400, message, param="chunk_overlap_duration")
            if lasts and lasts - shared < _APART:
                message = f"chunks begin {lasts - shared:g} s apart, and {_APART:g} s is the least"
                raise ApiError(400, message, param="chunk_duration")
        if self._uploads.has(owner, request.id):
            return
        self._streams.find(owner, request.id)
        if isinstance(request, CaptionRequest) and not (request.stream and request.chunk_duration):
            message = f'{request.id} is a stream, which has no end: give a chunk_duration and "stream": true'
            raise ApiError(400, message, "endless_stream", param="stream")

    async def captions(self, owner: str, request: CaptionRequest) -> AsyncGenerator[Caption, None]:
        """The captions of a file, or of a stream until it ends or `stop` is called."""
        if self._uploads.has(owner, request.id):
            captions = self._of_file(owner, self._uploads.find(owner, request.id), request)
        else:
            captions = self._of_stream(self._streams.find(owner, request.id), request)
        try:
            async for caption in captions:
                yield caption
        finally:
            await captions.aclose()

    def stop(self, served: Served) -> None:
        """Ends the captions that are made of a stream."""
        for live in self._live:
            if live.served is served:
                live.stop()

    def end_soon(self) -> None:
        """Ends the captions of all streams, which go on for as long as these do."""
        for live in self._live:
            live.stop()

    async def summary(self, owner: str, request: SummaryRequest) -> Summary:
        """Summarizes a file, or a stream so far."""
        if not self._uploads.has(owner, request.id):
            served = self._streams.find(owner, request.id)
            return self._summary(request, Offsets(end_offset=served.time), await self._ask(served, request))
        upload = self._uploads.find(owner, request.id)
        async with self._watching(owner, request) as served, self._frames(upload, request) as frames:
            async for frame in frames:
                await self._feeder.watch(served, frame, frame.time)
            answered = await self._ask(served, request)
        seen = Offsets(start_offset=request.media_info.start_offset, end_offset=answered.time)
        return self._summary(request, seen, answered)

    def _summary(self, request: SummaryRequest, seen: Offsets, answered: Answered) -> Summary:
        choice = SummaryChoice(
            message=SummaryMessage(content=answered.text), finish_reason=answered.answer.finish_reason
        )
        return Summary(
            id=f"summary-{uuid.uuid4().hex}",
            model=self._settings.model,
            media_info=seen,
            choices=[choice],
            usage=Chunks(total_chunks_processed=1),
        )

    async def _of_file(self, owner: str, upload: Upload, request: CaptionRequest) -> AsyncGenerator[Caption, None]:
        begin, lasts = request.media_info.start_offset, request.chunk_duration or math.inf
        kept: list[Picture] = []  # frames that the next stretch begins with
        try:
            async with self._frames(upload, request) as frames:
                frame = await anext(frames, None)
                while frame is not None:
                    if not kept and frame.time >= begin + lasts:  # nothing was shown for a while
                        step = lasts - request.chunk_overlap_duration
                        begin += step * math.floor((frame.time - begin) / step)
                    begun, end, begin = begin, begin + lasts, begin + lasts - request.chunk_overlap_duration
                    async with self._watching(owner, request) as served:
                        for each in kept:
                            await self._feeder.watch(served, each, each.time)
                        self._let_go(kept, begin)
                        while frame is not None and frame.time < end:
                            await self._feeder.watch(served, frame, frame.time)
                            if frame.time >= begin:
                                self._keep(kept, frame)
                            frame = await anext(frames, None)
                        answered = await self._ask(served, request)
                    ended = answered.time if frame is None else end
                    yield Caption(start_time=begun, end_time=ended, content=answered.text)
        finally:
            self._let_go(kept, math.inf)

    def _keep(self, kept: list[Picture], frame: Picture) -> None:
        """Keeps a frame that the next stretch has, too; raises `ApiError` where all that are kept take too much."""
        if not self._overlaps.lend(frame.image.nbytes):
            message = (
                f"frames that chunks share take more than the {self._overlaps.total:,} bytes that there are for them: "
                "give a shorter chunk_overlap_duration, or fewer frames a second"
            )
            raise ApiError(413, message, "overlap_too_large", param="chunk_overlap_duration")
        kept.append(frame)

    def _let_go(self, kept: list[Picture], begin: float) -> None:
        """Keeps those frames no longer that come before a time."""
        self._overlaps.take_back(sum(each.image.nbytes for each in kept if each.time < begin))
        kept[:] = [each for each in kept if each.time >= begin]

    async def _of_stream(self, served: Served, request: CaptionRequest) -> AsyncGenerator[Caption, None]:
        live = _Live(served, asyncio.get_running_loop())
        self._live += (live,)
        begin = served.lane.stats.time if served.lane.stats.frames else 0.0
        try:
            while await live.reaches(begin + request.chunk_duration):
                answered = await self._ask(served, request)
                yield Caption(start_time=begin, end_time=answered.time, content=answered.text)
                begin = max(begin + request.chunk_duration, answered.time) - request.chunk_overlap_duration
        finally:
            self._live = tuple(each for each in self._live if each is not live)

    def _heard(self, served: Served) -> None:
        """A stream has watched a frame. On the worker's thread."""
        for live in self._live:
            if live.served is served:
                with suppress(RuntimeError):  # the server has ended
                    live.loop.call_soon_threadsafe(live.more.set)

    @asynccontextmanager
    async def _frames(self, upload: Upload, request: SummaryRequest) -> AsyncIterator[AsyncIterator[Picture]]:
        """The frames of the part of a file that is meant."""
        fps = self._streams.settings_of(self._settings_of(request))["fps"]
        start, end = request.media_info.start_offset, request.media_info.end_offset
        async with self._sources.upload(upload, fps=fps, start=start, end=end) as clip:
            yield clip.frames()

    def _settings_of(self, request: SummaryRequest) -> StreamSettings:
        settings = request.infinipot.given() | ({"system": request.system_prompt} if request.system_prompt else {})
        if request.fps is not None:
            settings.setdefault("fps", request.fps)
        return made_of(StreamSettings, settings)

    @asynccontextmanager
    async def _watching(self, owner: str, request: SummaryRequest) -> AsyncIterator[Served]:
        """A stream for a file, or a stretch of one."""
        served = await self._streams.open(owner, self._settings_of(request), passing=True)
        try:
            yield served
        finally:
            await self._streams.close(served)

    async def _ask(self, served: Served, request: SummaryRequest) -> Answered:
        how = AskFields(**request.model_dump(include=set(Generating.model_fields), exclude_none=True), evidence=False)
        async with self._asker.ask(served, request.prompt, how) as answer:
            return await answer.result()
