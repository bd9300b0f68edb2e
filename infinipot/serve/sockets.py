"""JSON messages over a WebSocket: read one by one, each in its own right, until the client leaves or says nothing."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import WebSocket, WebSocketDisconnect
from pydantic import TypeAdapter, ValidationError

from infinipot.serve.bodies import invalid
from infinipot.serve.errors import ApiError, report

T = TypeVar("T")


class OverError(Exception):
    """The client said that the session is over: its socket is closed as it should be."""


async def converse(
    socket: WebSocket,
    kind: TypeAdapter[T],
    handle: Callable[[T], Awaitable[None]],
    refuse: Callable[[ApiError, Any], Awaitable[None]],
    idle_seconds: float,
    busy: Callable[[], bool],
) -> None:
    """Passes each message of a socket to its handler.

    Args:
        socket: that was accepted.
        kind: of the messages.
        handle: does what one says; raises `OverError` after the last one.
        refuse: tells the client of a message that is not possible, or that failed.
        idle_seconds: without a message after which it is over, unless the client waits for something itself.
        busy: whether it does.

    Raises:
        WebSocketDisconnect: the client left.
    """
    while True:
        event: Any = None
        text = await _next(socket, idle_seconds)
        while text is None and busy():
            text = await _next(socket, idle_seconds)
        if text is None:
            await refuse(ApiError(408, f"no message came for {idle_seconds:g} s", "session_idle"), None)
            return
        try:
            event = json.loads(text)
            await handle(kind.validate_python(event))
        except WebSocketDisconnect:
            raise
        except OverError:
            return
        except Exception as error:
            await refuse(_problem(error), event)


async def send(socket: WebSocket, message: Any) -> None:
    """Sends a message in JSON, in letters of ASCII: what a client sent may be half of a character."""
    await socket.send_text(json.dumps(message))


async def _next(socket: WebSocket, seconds: float) -> str | None:
    """The next message, None where none came in so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await _text(socket)
    except TimeoutError:
        return None


async def _text(socket: WebSocket) -> str:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    if message.get("text") is not None:
        return str(message["text"])
    return "binary"  # which is no JSON


def _problem(error: Exception) -> ApiError:
    if isinstance(error, ValidationError):
        return invalid(error.errors(), "invalid_event")
    if isinstance(error, json.JSONDecodeError | RecursionError):
        return ApiError(400, "a message must be one JSON object, as text", "invalid_event")
    return report(error)
