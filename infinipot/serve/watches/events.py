"""Events as clients get them: listed, shown, and followed live."""

import asyncio
from collections.abc import AsyncGenerator

from infinipot.serve.answers import sse
from infinipot.serve.errors import ApiError
from infinipot.serve.streams.served import Served
from infinipot.serve.watches.protocol import EventList, EventState
from infinipot.serve.watches.store import Event, Search, Store

_PING = 15.0  # seconds between signs of life


class Events:
    """The events of a server. Used on the event loop alone.

    Args:
        store: that holds them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._happened = asyncio.Event()
        self._ending = False

    def wake(self) -> None:
        """Wakes those who follow events: there is one more, or a stream has ended."""
        self._happened.set()
        self._happened = asyncio.Event()

    def end_soon(self) -> None:
        """Ends what follows events: the server does not wait for those who would never leave."""
        self._ending = True
        self.wake()

    async def list(self, served: Served, search: Search, limit: int) -> EventList:
        """Events of a stream, newest first; `limit` at the most, and the number to go on before if there are more."""
        events = await asyncio.to_thread(self._store.events, served.owner, served.id, search, limit + 1)
        data = [_told(each) for each in events[:limit]]
        return EventList(data=data, next=data[-1].id if len(events) > limit else None)

    async def picture(self, served: Served, number: int) -> bytes:
        """The small picture of an event; raises `ApiError` 404."""
        picture = await asyncio.to_thread(self._store.picture, served.owner, served.id, number)
        if picture is None:
            raise ApiError(404, f"event {number} has no picture", "no_picture")
        return picture

    async def follow(self, served: Served, last: int | None, watch: str | None) -> AsyncGenerator[str, None]:
        """Events of a stream, or of one of its standing questions, as server-sent events.

        They are those after the number `last`, then each as it happens.

        Ends with the stream, and with the server.
        """
        number = await asyncio.to_thread(self._store.newest) if last is None else last
        yield ": here\n\n"
        while not (served.lane.closed or self._ending):
            happened = self._happened
            events = await asyncio.to_thread(self._store.events_after, served.owner, served.id, number)
            for each in events:
                number = each.id
                if watch in (None, each.watch):
                    yield sse(_told(each), "event", number)
            if events:
                continue
            try:
                async with asyncio.timeout(_PING):
                    await happened.wait()
            except TimeoutError:
                yield ": still here\n\n"


def _told(event: Event) -> EventState:
    picture = f"/v1/streams/{event.stream}/events/{event.id}/picture" if event.picture else None
    return EventState(
        id=event.id,
        stream=event.stream,
        watch=event.watch,
        question=event.question,
        answer=event.answer,
        time=event.time,
        at=event.at,
        quiet=event.quiet,
        picture=picture,
        evidence=event.evidence,
    )
