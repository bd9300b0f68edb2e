"""Questions put to streams, as the event loop sees them: pieces as they come, an end, and a way to leave."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from infinipot.serve.asking import AnswerDetails, AskFields, Evidence, Usage
from infinipot.serve.errors import ApiError
from infinipot.serve.lane import Answered, AskJob, GoneError
from infinipot.serve.settings import Limits
from infinipot.serve.streams.served import Served
from infinipot.serve.worker import Worker

T = TypeVar("T")


class LeftError(Exception):
    """The client is no longer there."""


class PendingAnswer:
    """An answer that the worker is still generating, or has yet to begin.

    Attributes:
        served: the stream that is asked.
        job: the question in the queue of the worker.
    """

    def __init__(self, served: Served, job: AskJob, pieces: "asyncio.Queue[str | None]") -> None:
        self.served, self.job, self._pieces = served, job, pieces

    async def pieces(self) -> AsyncIterator[str]:
        """Yields the text piece by piece."""
        while (piece := await self._pieces.get()) is not None:
            yield piece

    async def result(self, *, explained: bool = True) -> Answered:
        """The whole answer; raises what the question raised.

        Args:
            explained: whether its evidence is worked out, which may take a second: not on the event loop.

        Raises:
            ApiError: 410 where the stream was closed meanwhile.
        """
        try:
            answered = await asyncio.wrap_future(self.job.answered)
        except GoneError:
            raise ApiError(410, "the stream was closed before the answer was done", "stream_closed") from None
        if explained:
            await asyncio.to_thread(getattr, answered, "evidence")
        return answered


class Asker:
    """Puts questions to streams, up to a limit at once.

    Args:
        worker: answers.
        limits: of the server.

    Attributes:
        waiting: questions that somebody waits for.
    """

    def __init__(self, worker: Worker, limits: Limits) -> None:
        self._worker, self._limits = worker, limits
        self.waiting = 0

    @asynccontextmanager
    async def ask(self, served: Served, question: str, how: AskFields) -> AsyncIterator[PendingAnswer]:
        """Yields an answer while it is generated; leaving the context stops it within a step.

        Raises:
            ApiError: 400 for a question that is too long, or a look that is too large, 429 where too many wait.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        served.used = time.monotonic()
        answer = self.put(served, question, how, pieces, lambda piece: _tell(loop, pieces, piece), urgent=True)
        answer.job.answered.add_done_callback(lambda _: _tell(loop, pieces, None))
        try:
            yield answer
        finally:
            served.used = time.monotonic()
            self.leave(answer)

    def put(
        self,
        served: Served,
        question: str,
        how: AskFields,
        pieces: "asyncio.Queue[str | None] | None" = None,
        on_text: Callable[[str], None] = lambda _: None,
        *,
        urgent: bool = False,
    ) -> PendingAnswer:
        """Queues a question after all frames that have come so far, and returns at once; the caller calls `leave` in
        the end.

        One that is `urgent` goes ahead of other streams' frames, and counts among those that may wait: whoever asks
        others limits them himself.

        Raises:
            ApiError: see `ask`.
        """
        self._check(question, how)
        if urgent:
            self._admit(served)
        answer = PendingAnswer(served, AskJob(question, _options(how), on_text, urgent), pieces or asyncio.Queue())
        self.waiting += urgent
        self._worker.ask(served.lane, answer.job)
        return answer

    def leave(self, answer: PendingAnswer) -> None:
        """Withdraws a question: nobody waits for its answer any more."""
        self.waiting -= answer.job.urgent
        self._worker.leave(answer.job)

    def _check(self, question: str, how: AskFields) -> None:
        limits = self._limits
        if len(question) > limits.question_chars:
            message = f"the question has {len(question):,} characters; at most {limits.question_chars:,} are allowed"
            raise ApiError(400, message, "question_too_long", param="question")
        if how.look_pixels is not None and how.look_pixels[0] > limits.frame_pixels:
            message = f"look_pixels: a frame may have up to {limits.frame_pixels:,} pixels"
            raise ApiError(400, message, "look_too_large", param="look_pixels")

    def _admit(self, served: Served) -> None:
        limits = self._limits
        if self.waiting >= limits.answers:
            message = f"{self.waiting} questions are being answered, which is the limit: try again later"
            raise ApiError(429, message, "too_many_questions", headers={"Retry-After": "1"})
        if served.lane.awaited() >= limits.answers_waiting:
            message = f"{limits.answers_waiting} questions wait for stream {served.id}, which is the limit"
            raise ApiError(429, message, "too_many_questions", headers={"Retry-After": "1"})


def _options(how: AskFields) -> dict[str, Any]:
    """The options of a question, as `Stream.ask` takes them."""
    options = how.model_dump(include=set(AskFields.model_fields), exclude_none=True)
    if "max_tokens" in options:
        options["max_new_tokens"] = options.pop("max_tokens")
    if "window_s" in options:
        options["window"] = options.pop("window_s")
    if "seed" in options:
        options["seed"] %= 1 << 63
    return options


def _tell(loop: asyncio.AbstractEventLoop, pieces: "asyncio.Queue[str | None]", piece: str | None) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(pieces.put_nowait, piece)


def usage(answer: Answered) -> Usage:
    """The usage of an answer, as OpenAI counts it."""
    reply = answer.answer
    return Usage(
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.tokens,
        total_tokens=reply.prompt_tokens + reply.tokens,
        prompt_tokens_details={
            "cached_tokens": answer.memory_tokens,
            "multimodal_tokens": {"video": answer.video_tokens},
        },
    )


def asked_of(served: Served, how: AskFields, answer: Answered) -> AnswerDetails:
    """The details of an answer for APIs that have no fields of their own for them."""
    return AnswerDetails(
        stream=None if served.passing else served.id,
        time=answer.time,
        remembered=how.remember,
        evidence=[Evidence.model_validate(each) for each in answer.evidence],
    )


def sse(data: BaseModel | Mapping[str, Any] | str, event: str | None = None, number: int | None = None) -> str:
    """Formats one server-sent event.

    Args:
        data: sent as JSON; a string, of one line, is sent unchanged.
        event: its kind.
        number: its id, after which a client that lost its connection asks to go on.
    """
    if isinstance(data, BaseModel):
        data = data.model_dump_json()
    fields = {"id": number, "event": event, "data": data if isinstance(data, str) else json.dumps(data)}
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value is not None) + "\n"


DONE = sse("[DONE]")
"""The end of a stream of events, as OpenAI's API marks it."""


async def events(request: Request, told: AsyncGenerator[str, None]) -> StreamingResponse:
    """Server-sent events, once the first one is there: what goes wrong before has a status of its own.

    Raises:
        LeftError: the client did not wait for it.
    """
    first = await while_there(request, anext(told))

    async def all_of_them() -> AsyncIterator[str]:
        yield first
        async for each in told:
            yield each

    return _Events(all_of_them(), told)


class _Events(StreamingResponse):
    """Closes the generator of events whenever the response ends. After a client leaves, it would otherwise wait for the
    garbage collector, and its question with it."""

    def __init__(self, content: AsyncIterator[str], told: AsyncGenerator[str, None]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._told.aclose()


async def while_there(request: Request, work: Awaitable[T]) -> T:
    """Waits for some work, and gives it up where the client leaves.

    Raises:
        LeftError: it did.
    """
    task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise LeftError
        return task.result()
    finally:
        task.cancel()
        leaving.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
