"""Serves chat completions: finds or opens the stream, has it watch the request's frames, and asks it."""

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from infinipot.serve.answers import DONE, Asker, asked_of, sse, usage
from infinipot.serve.bodies import made_of
from infinipot.serve.chat.protocol import AnswerMessage, ChatCompletion, ChatRequest, Choice
from infinipot.serve.chat.reading import Asked, Reading, read
from infinipot.serve.errors import ApiError, report, require_model
from infinipot.serve.feeding import UPLOAD, Feeder
from infinipot.serve.files.uploads import Uploads
from infinipot.serve.settings import Settings
from infinipot.serve.streams.protocol import StreamSettings
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import Served


class ChatServing:
    """Answers chat completions."""

    def __init__(self, settings: Settings, streams: Streams, asker: Asker, feeder: Feeder, uploads: Uploads) -> None:
        self._settings, self._streams, self._asker, self._feeder = settings, streams, asker, feeder
        self._uploads = uploads

    async def complete(self, owner: str, request: ChatRequest, session: str | None) -> ChatCompletion:
        """The whole answer."""
        reading = self._read(request, session)
        async with self._stream(owner, request, reading) as (served, question):
            async with self._asker.ask(served, question, request) as answer:
                answered = await answer.result()
            return ChatCompletion(
                id=_new_id(),
                created=int(time.time()),
                model=self._settings.model,
                choices=[
                    Choice(message=AnswerMessage(content=answered.text), finish_reason=answered.answer.finish_reason)
                ],
                usage=usage(answered),
                infinipot=asked_of(served, request, answered),
            )

    async def chunks(self, owner: str, request: ChatRequest, session: str | None) -> AsyncGenerator[str, None]:
        """The answer as server-sent events."""
        reading = self._read(request, session)
        head = {"id": _new_id(), "object": "chat.completion.chunk", "created": int(time.time())}
        head |= {"model": self._settings.model}
        with_usage = bool(request.stream_options and request.stream_options.include_usage)
        begun = False
        try:
            async with self._stream(owner, request, reading) as (served, question):
                async with self._asker.ask(served, question, request) as answer:
                    async for piece in answer.pieces():
                        if not begun:
                            begun = True
                            yield _chunk(head, {"role": "assistant", "content": ""})
                        yield _chunk(head, {"content": piece})
                    answered = await answer.result()
                if not begun:
                    begun = True
                    yield _chunk(head, {"role": "assistant", "content": ""})
                details = asked_of(served, request, answered).model_dump()
                yield _chunk(head, {}, answered.answer.finish_reason, infinipot=details)
            if with_usage:
                yield sse(head | {"choices": [], "usage": usage(answered).model_dump()})
            yield DONE
        except Exception as error:
            if not begun:
                raise
            yield sse(report(error).body())

    def _read(self, request: ChatRequest, session: str | None) -> Reading:
        require_model(request.model, self._settings.model)
        if request.response_format is not None and request.response_format.get("type") != "text":
            raise ApiError(400, "answers are text: give response_format the type 'text'", param="response_format")
        if request.max_completion_tokens is not None:
            request.max_tokens = request.max_completion_tokens
        return read(request, session)

    @asynccontextmanager
    async def _stream(self, owner: str, request: ChatRequest, reading: Reading) -> AsyncIterator[tuple[Served, str]]:
        """The stream that is asked, once it was given the frames of the request, and the question for it."""
        if reading.name is not None and self._uploads.has(owner, reading.name):  # as VSS asks about a file
            media = ((f"{UPLOAD}{reading.name}", False), *reading.whole.media)
            reading = replace(reading, name=None, whole=replace(reading.whole, media=media))
        if reading.name is None:
            served = await self._open(owner, request, reading, None)
            try:
                yield served, reading.whole.question
            finally:
                await self._streams.close(served)
        else:
            yield await self._named(owner, request, reading, reading.name)

    async def _named(self, owner: str, request: ChatRequest, reading: Reading, name: str) -> tuple[Served, str]:
        """The stream of a name, opened where there is none, and what it is asked: all that it has not seen."""
        try:
            served = self._streams.find(owner, name)
        except ApiError:
            if not (reading.opens and reading.whole.media):
                raise
            served = await self._open(owner, request, reading, name)
            served.passing = False  # from now on: one that could not watch all of its frames was no session
            return served, reading.whole.question
        own = served.config.system
        if reading.system is not None and reading.system != own:
            message = f"stream {name} was opened with another system message, which stands before all that it has seen"
            raise ApiError(400, message, "system_differs", param="messages")
        self._check(reading.last)
        await self._feeder.media(served, reading.last.media, request.video)
        return served, reading.last.question

    async def _open(self, owner: str, request: ChatRequest, reading: Reading, name: str | None) -> Served:
        """A stream that has watched all frames of the request; if it cannot, none is left open."""
        if not reading.whole.media:
            message = "there is nothing to ask about: name a stream, or give a video_url or an image_url"
            raise ApiError(400, message, "no_frame", param="messages")
        self._check(reading.whole)
        asked: dict[str, Any] = request.infinipot.given()
        if reading.system is not None:
            asked["system"] = reading.system
        if request.video.fps is not None:
            asked.setdefault("fps", request.video.fps)
        idle_seconds = request.infinipot.idle_seconds or self._settings.limits.chat_idle_seconds
        settings = made_of(StreamSettings, asked)
        served = await self._streams.open(owner, settings, name, idle_seconds=idle_seconds, passing=True)
        try:
            await self._feeder.media(served, reading.whole.media, request.video)
        except BaseException:
            await self._streams.close(served)
            raise
        return served

    def _check(self, asked: Asked) -> None:
        """Raises `ApiError` 413 for more pictures and videos than a request may have."""
        most = self._settings.limits.frames_per_request
        if len(asked.media) > most:
            message = f"the request has {len(asked.media)} pictures and videos; at most {most} are allowed"
            raise ApiError(413, message, "too_many_frames", param="messages")


def _chunk(head: dict[str, Any], delta: dict[str, str], ended: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": ended}
    return sse(head | {"choices": [choice]} | more)


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"
