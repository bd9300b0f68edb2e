"""The route of realtime sessions."""

from functools import partial
from typing import Any

from fastapi import APIRouter, WebSocket

from infinipot.serve.errors import ApiError, require_model
from infinipot.serve.guard import owner_of
from infinipot.serve.realtime.protocol import EVENT
from infinipot.serve.realtime.response import new_id
from infinipot.serve.realtime.serving import RealtimeSession
from infinipot.serve.server import server_of
from infinipot.serve.sockets import converse, send

router = APIRouter()


@router.websocket("/v1/realtime")
async def realtime(socket: WebSocket, model: str | None = None, stream: str | None = None) -> None:
    """OpenAI's realtime events; `?stream=<id>` for a session on a stream that is open."""
    server, owner = server_of(socket), owner_of(socket)
    require_model(model, server.settings.model)
    if stream is not None:
        server.streams.find(owner, stream)
    offered = socket.scope.get("subprotocols", [])
    async with server.socket(socket, "realtime" if "realtime" in offered else None):
        session = RealtimeSession(
            owner, server.settings, server.streams, server.asker, server.decoders, partial(send, socket)
        )

        async def refuse(problem: ApiError, given: Any) -> None:
            event = given.get("event_id") if isinstance(given, dict) else None
            event = event if isinstance(event, str) else None
            error = problem.body()["error"] | {"event_id": event}
            await send(socket, {"type": "error", "event_id": new_id("event"), "error": error})

        try:
            await session.begin(stream)
            idle_seconds = server.settings.limits.session_idle_seconds
            await converse(socket, EVENT, session.handle, refuse, idle_seconds, session.busy)
        finally:
            await session.end()
