"""One session of vllm-omni's video socket: frames are acknowledged, questions answered while more frames come."""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fastapi import WebSocketDisconnect

from infinipot.serve.answers import Asker, asked_of
from infinipot.serve.bodies import made_of
from infinipot.serve.errors import ApiError, report, require_model
from infinipot.serve.media.decoders import Decoders
from infinipot.serve.media.sources import from_base64
from infinipot.serve.omni import protocol
from infinipot.serve.settings import Settings
from infinipot.serve.sockets import OverError
from infinipot.serve.streams.placing import Placing
from infinipot.serve.streams.protocol import StreamSettings
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import Served

_QUESTIONS = 8  # that wait for each other
_TOLD = 256  # frames that a question is told to have seen
_SET = 2.0  # seconds by which a client's clock has to go back for it to have been set: frames may be out of order


class OmniSession:
    """A session; its stream is its own, and closed with it."""

    def __init__(
        self,
        owner: str,
        settings: Settings,
        streams: Streams,
        asker: Asker,
        decoders: Decoders,
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self._owner, self._settings, self._streams = owner, settings, streams
        self._asker, self._decoders, self._send = asker, decoders, send
        self._served: Served | None = None
        self._captures, self._arrivals = Placing(behind=_SET), Placing()
        self._frames: deque[int | str] = deque(maxlen=_TOLD)
        self._count = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def handle(self, message: Any) -> None:
        """Handles one message."""
        match message:
            case protocol.Config():
                await self._open(message)
            case protocol.VideoFrame():
                await self._watch(message)
            case protocol.Query():
                self._ask(message)
            case protocol.Audio():
                raise ApiError(400, "this server accepts frames and text, but no audio", "audio_not_supported")
            case protocol.Done():
                await asyncio.gather(*self._answering)
                await self._send({"type": "session.done"})
                raise OverError

    def busy(self) -> bool:
        """Whether an answer is being made."""
        return bool(self._answering)

    async def end(self) -> None:
        """Stops answers, and closes the stream."""
        for answering in self._answering:
            answering.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        if self._served is not None:
            await self._streams.close(self._served)

    async def _open(self, config: protocol.Config) -> None:
        if self._served is not None:
            raise ApiError(400, "the session is already configured", "session_open")
        require_model(config.model, self._settings.model)
        settings = config.infinipot.given() | ({"system": config.system_prompt} if config.system_prompt else {})
        self._served = await self._streams.open(self._owner, made_of(StreamSettings, settings), passing=True)

    def _stream(self) -> Served:
        if self._served is None:
            raise ApiError(400, "send session.config first", "session_not_open")
        return self._served

    async def _watch(self, frame: protocol.VideoFrame) -> None:
        served, came = self._stream(), time.monotonic()
        self._count += 1
        name = self._count if frame.frame_id is None else frame.frame_id
        ack: dict[str, Any] = {"type": "video.frame.ack", "frame_id": name, "pts_ms": frame.pts_ms}
        ack |= {"capture_ts_ms": frame.capture_ts_ms, "server_receive_ts_ms": time.time() * 1000}
        dropped = served.dropped["queue"]
        try:
            served.admit(1, self._settings.limits)
            picture = await self._decoders.picture(from_base64(frame.data.rpartition(",")[2], "frame"))
            reason = "" if self._streams.offer(served, picture, self._at(frame, came, served)) else "fps"
        except ApiError as error:
            reason = error.message
        if not reason:
            self._frames.append(name)
        reply: dict[str, Any] = {"accepted": not reason, "buffered_frames": served.lane.waiting()[0]}
        if reason:
            reply["reason"] = reason
        if served.dropped["queue"] > dropped:
            reply["reason"] = "queue"
        await self._send(ack | reply)

    def _at(self, frame: protocol.VideoFrame, came: float, served: Served) -> float:
        """When a frame was: by its own stamp, else by the client's clock when it was taken, else by when it came."""
        if frame.pts_ms is not None:
            return frame.pts_ms / 1000
        arrived = self._arrivals.at(came, served)
        if frame.capture_ts_ms is None:
            return arrived
        return self._captures.at(frame.capture_ts_ms / 1000, served, begin=arrived)

    def _ask(self, query: protocol.Query) -> None:
        served = self._stream()
        if len(self._answering) >= _QUESTIONS:
            raise ApiError(429, f"{_QUESTIONS} questions wait, which is the limit", "too_many_questions")
        answering = asyncio.create_task(self._answer(served, query))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def _answer(self, served: Served, query: protocol.Query) -> None:
        name = query.request_id or f"req_{uuid.uuid4().hex[:16]}"
        with suppress(WebSocketDisconnect):  # the session meets it too, and ends
            async with self._turn:
                await self._tell_answer(served, query, name)

    async def _tell_answer(self, served: Served, query: protocol.Query, name: str) -> None:
        try:
            seen = list(self._frames)
            consumed = {"type": "video.frames.consumed", "request_id": name, "frame_ids": seen, "frames": len(seen)}
            async with self._asker.ask(served, query.text, query.infinipot) as answer:
                await self._send(consumed)
                await self._send({"type": "response.start", "request_id": name})
                async for piece in answer.pieces():
                    await self._send({"type": "response.text.delta", "request_id": name, "delta": piece})
                answered = await answer.result()
            done = {"type": "response.text.done", "request_id": name, "text": answered.text}
            await self._send(done | {"infinipot": asked_of(served, query.infinipot, answered).model_dump()})
        except WebSocketDisconnect:
            raise
        except Exception as error:
            problem = report(error)
            await self._send({"type": "error", "request_id": name, "message": problem.message, "code": problem.code})
