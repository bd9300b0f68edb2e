"""The route of vllm-omni's video socket."""

from functools import partial
from typing import Any

from fastapi import APIRouter, WebSocket

from infinipot.serve.errors import ApiError
from infinipot.serve.guard import owner_of
from infinipot.serve.omni.protocol import MESSAGE
from infinipot.serve.omni.serving import OmniSession
from infinipot.serve.server import server_of
from infinipot.serve.sockets import converse, send

router = APIRouter()


@router.websocket("/v1/video/chat/stream")
async def video_chat(socket: WebSocket) -> None:
    """Frames and questions in, text out, as vllm-omni has it."""
    server, owner = server_of(socket), owner_of(socket)
    async with server.socket(socket):
        session = OmniSession(
            owner, server.settings, server.streams, server.asker, server.decoders, partial(send, socket)
        )

        async def refuse(problem: ApiError, given: Any) -> None:
            await send(socket, {"type": "error", "message": problem.message, "code": problem.code})

        try:
            idle_seconds = server.settings.limits.session_idle_seconds
            await converse(socket, MESSAGE, session.handle, refuse, idle_seconds, session.busy)
        finally:
            await session.end()
