"""One realtime session: what each event of a client does, and what it is told.

Its stream is one that is open already, or one of its own, which is opened with its first picture and closed with it.
`conversation: "none"` asks without remembering; `"auto"` makes the turn part of the stream's memory.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import WebSocketDisconnect

from infinipot.serve.answers import Asker, asked_of
from infinipot.serve.bodies import made_of
from infinipot.serve.errors import ApiError, report, require_model
from infinipot.serve.media.decoders import Decoders
from infinipot.serve.media.sources import data_of
from infinipot.serve.realtime import protocol
from infinipot.serve.realtime.items import Items
from infinipot.serve.realtime.response import ResponseEvents, new_id
from infinipot.serve.settings import Settings
from infinipot.serve.streams.placing import Placing
from infinipot.serve.streams.protocol import StreamSettings
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import Served

Send = Callable[[dict[str, Any]], Awaitable[None]]


class RealtimeSession:
    """A session.

    Args:
        owner: whose it is.
        settings, streams, asker, decoders: of the server.
        send: tells the client of an event.
    """

    def __init__(
        self, owner: str, settings: Settings, streams: Streams, asker: Asker, decoders: Decoders, send: Send
    ) -> None:
        self._owner, self._settings, self._streams = owner, settings, streams
        self._asker, self._decoders, self._send = asker, decoders, send
        self._id, self._conversation = new_id("sess"), new_id("conv")
        self._session = protocol.Session(infinipot=protocol.Own())
        self._items = Items()
        self._served: Served | None = None
        self._opening = asyncio.Lock()
        self._arrivals = Placing()
        self._responding: asyncio.Task[None] | None = None

    async def begin(self, stream: str | None) -> None:
        """Tells the client that the session has begun, on the stream that it named, if any."""
        if stream is not None:
            self._served = self._streams.find(self._owner, stream)
        await self._tell("session.created", session=self._told())

    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._responding is not None and not self._responding.done()

    async def end(self) -> None:
        """Stops an answer that is being made, and closes the session's own stream."""
        if self._responding is not None:
            self._responding.cancel()
            await asyncio.gather(self._responding, return_exceptions=True)
        if self._served is not None and self._served.passing:
            await self._streams.close(self._served)

    async def handle(self, event: Any) -> None:
        """Does what a client's event says."""
        match event:
            case protocol.SessionUpdate():
                self._update(event.session)
                await self._tell("session.updated", session=self._told())
            case protocol.ItemCreate():
                await self._add(event.item)
            case protocol.ItemDelete():
                if not self._items.drop(event.item_id):
                    raise _no_item(event.item_id)
                await self._tell("conversation.item.deleted", item_id=event.item_id)
            case protocol.ItemRetrieve():
                if (item := self._items.get(event.item_id)) is None:
                    raise _no_item(event.item_id)
                await self._tell("conversation.item.retrieved", item=item)
            case protocol.ResponseCreate():
                await self._respond(event.response)
            case protocol.ResponseCancel():
                if self._responding is None or not self.busy():
                    raise ApiError(400, "no response is in progress", "response_cancel_not_active")
                self._responding.cancel()
            case protocol.Sound():
                message = "this server accepts pictures and text, but no audio: give input_image and input_text"
                raise ApiError(400, message, "audio_not_supported", param="type")

    def _update(self, session: protocol.Session) -> None:
        require_model(session.model, self._settings.model)
        own = session.infinipot
        if self._served is None and own is not None and own.stream is not None:
            self._served = self._streams.find(self._owner, own.stream)
        elif self._served is not None and (own is not None or session.instructions not in (None, self._instructions)):
            message = "the session's stream is open: settings and instructions stay, since all it has seen follows them"
            raise ApiError(400, message, "stream_open", param="session")
        changes = session.model_dump(exclude_unset=True)
        self._session = protocol.Session.model_validate(self._session.model_dump(exclude_unset=True) | changes)

    @property
    def _instructions(self) -> str | None:
        return self._session.instructions if self._served is None else self._served.config.system

    async def _add(self, item: protocol.Item) -> None:
        name = item.id or new_id("item")
        if self._items.get(name) is not None:
            raise ApiError(400, f"there is already an item {name!r}", "item_exists", param="item.id")
        if item.role == "system":
            words = "\n".join(part.text or "" for part in item.content)
            self._update(protocol.Session(instructions="\n".join(filter(None, (self._instructions, words)))))
        previous = self._items.last
        skipped = await self._watch(item.content, live=True) if item.role == "user" else 0
        added = self._items.add(item, name)
        if skipped:
            added = added | {"infinipot": {"skipped": skipped}}
        await self._tell("conversation.item.added", previous_item_id=previous, item=added)
        await self._tell("conversation.item.done", previous_item_id=previous, item=added)

    async def _watch(self, parts: list[protocol.Content], *, live: bool) -> int:
        """Has the stream watch the pictures among these parts; returns how many came too soon after the last one.

        A picture without a time is one period of `fps` after the last one, except that the first one, if it is `live`,
        comes now: as much later than the session's first one as it came later.
        """
        skipped = 0
        for part in parts:
            if part.type != "input_image":
                continue
            picture = await self._decoders.picture(data_of(part.image_url or "", "image"))
            served = await self._stream()
            served.admit(1, self._settings.limits)
            if part.infinipot is not None:
                at: float | None = part.infinipot.time
            else:
                at = self._arrivals.at(time.monotonic(), served) if live else None
            skipped += self._streams.offer(served, picture, at) is None
            live = False
        return skipped

    async def _stream(self) -> Served:
        """The session's stream, which is opened where there is none yet; once, whoever needs it meanwhile."""
        async with self._opening:
            if self._served is None:
                own = self._session.infinipot or protocol.Own()
                settings = own.model_dump(exclude={"stream"}, exclude_none=True)
                if self._session.instructions:
                    settings["system"] = self._session.instructions
                self._served = await self._streams.open(self._owner, made_of(StreamSettings, settings), passing=True)
            return self._served

    async def _respond(self, response: protocol.ResponseOptions) -> None:
        if self.busy():
            message = "a response is already in progress: wait for response.done, or cancel it"
            raise ApiError(400, message, "conversation_already_has_active_response")
        if response.input is not None:
            question = "\n".join(part.text for item in response.input for part in item.content if part.text)
            waiting: tuple[str, ...] = ()
            await self._watch([part for item in response.input for part in item.content], live=False)
        else:
            question, waiting = self._items.question(), self._items.waiting
        question = "\n".join(filter(None, (response.instructions, question)))
        if not question.strip():
            raise ApiError(400, "there is nothing to answer: add an item with input_text first", "no_question")
        self._responding = asyncio.create_task(self._answer(response, question, waiting))
        await asyncio.sleep(0)  # it takes its first step: what is cancelled before that tells nobody that it ended

    async def _answer(self, response: protocol.ResponseOptions, question: str, waiting: tuple[str, ...]) -> None:
        """Makes one response, and tells of it as it comes; it answers the messages that wait under these ids."""
        events = ResponseEvents(self._tell, response, self._conversation, self._items)
        try:
            await events.begin()
            served = await self._stream()
            most = response.max_output_tokens or self._session.max_output_tokens
            given = {"remember": events.remembers} | ({"max_tokens": most} if isinstance(most, int) else {})
            how = response.infinipot.model_copy(update=given)
            async with self._asker.ask(served, question, how) as answer:
                async for piece in answer.pieces():
                    await events.piece(piece)
                answered = await answer.result()
            self._items.asked(waiting)
            await events.end("completed", answered, asked=asked_of(served, how, answered))
        except asyncio.CancelledError:
            await events.end("cancelled")
        except WebSocketDisconnect:  # the session meets it too, and ends
            raise
        except Exception as error:
            await events.end("failed", problem=report(error))

    def _told(self) -> dict[str, Any]:
        """The session as it is told."""
        served, own = self._served, self._session.infinipot
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": self._id,
            "model": self._settings.model,
            "output_modalities": ["text"],
            "instructions": self._instructions or "",
            "max_output_tokens": self._session.max_output_tokens or "inf",
            "tools": [],
            "tool_choice": "none",
            "infinipot": (own.model_dump(exclude_none=True) if own else {}) | ({"stream": served.id} if served else {}),
        }

    async def _tell(self, kind: str, **fields: Any) -> None:
        await self._send({"type": kind, "event_id": new_id("event"), **fields})


def _no_item(name: str) -> ApiError:
    return ApiError(404, f"there is no item {name[:64]!r}", "item_not_found", param="item_id")
