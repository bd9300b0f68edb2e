"""Routes of standing questions and their events."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from infinipot.serve.answers import events
from infinipot.serve.errors import ApiError
from infinipot.serve.server import stream_of
from infinipot.serve.watches.protocol import EventList, WatchList, WatchRequest, WatchState
from infinipot.serve.watches.store import Search

router = APIRouter(tags=["watches"])

Number = Annotated[int, Field(ge=0, lt=1 << 63)]
"""Of an event, as SQLite counts."""


@router.post("/v1/streams/{name}/watches", status_code=201)
async def add_watch(request: Request, name: str, body: Annotated[WatchRequest, Body()]) -> WatchState:
    """Asks a question again and again, without disturbing the memory; only this reply shows a webhook's secret."""
    server, served = stream_of(request, name)
    return await server.watches.add(served, body)


@router.get("/v1/streams/{name}/watches")
async def list_watches(request: Request, name: str) -> WatchList:
    """The standing questions of a stream."""
    server, served = stream_of(request, name)
    return WatchList(data=server.watches.all(served))


@router.get("/v1/streams/{name}/watches/{watch}")
async def get_watch(request: Request, name: str, watch: str) -> WatchState:
    """The state of a standing question."""
    server, served = stream_of(request, name)
    return server.watches.find(served, watch).state()


@router.delete("/v1/streams/{name}/watches/{watch}", status_code=204)
async def remove_watch(request: Request, name: str, watch: str) -> Response:
    """Stops a standing question; its events stay."""
    server, served = stream_of(request, name)
    await server.watches.remove(server.watches.find(served, watch))
    return Response(status_code=204)


@router.get("/v1/streams/{name}/events", response_model=EventList)
async def list_events(
    request: Request,
    name: str,
    query: Annotated[
        str, Query(max_length=500, description="Only events with all these words in question or answer")
    ] = "",
    watch: Annotated[str | None, Query(description="Only events of this standing question")] = None,
    since: Annotated[float | None, Query(description="Only events from this second since 1970 on")] = None,
    until: Annotated[float | None, Query(description="Only events up to this second since 1970")] = None,
    before: Annotated[Number | None, Query(description="Only events older than that of this number")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[Number | None, Header()] = None,
) -> Response:
    """Events, newest first; as `text/event-stream`, those from now on, or those after `Last-Event-ID`, of which only
    `watch` chooses."""
    server, served = stream_of(request, name)
    search = Search(query, watch, since, until, before)
    if "text/event-stream" in accept:
        if given := [name for name, value in asdict(search).items() if value not in (None, "") and name != "watch"]:
            message = f"{given[0]} chooses among events that are listed: leave it out, or ask without text/event-stream"
            raise ApiError(400, message, param=given[0])
        return await events(request, server.watches.events.follow(served, last_event_id, watch))
    return JSONResponse((await server.watches.events.list(served, search, limit)).model_dump())


@router.get("/v1/streams/{name}/events/{number}/picture", response_class=Response)
async def event_picture(request: Request, name: str, number: Number) -> Response:
    """The small picture of an event."""
    server, served = stream_of(request, name)
    return Response(await server.watches.events.picture(served, number), media_type="image/jpeg")
