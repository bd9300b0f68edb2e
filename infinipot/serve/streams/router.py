"""Routes of streams."""

import json
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile

from infinipot.numbers import is_time
from infinipot.serve.answers import events, while_there
from infinipot.serve.bodies import NO_FORM
from infinipot.serve.errors import ApiError, report
from infinipot.serve.guard import owner_of
from infinipot.serve.server import server_of, stream_of
from infinipot.serve.sockets import send
from infinipot.serve.streams.protocol import (
    AskReply,
    AskRequest,
    ForkRequest,
    FramesTaken,
    Saved,
    StreamInfo,
    StreamList,
    StreamRequest,
    Time,
)

router = APIRouter(tags=["streams"])

_PROTOCOL = "infinipot"  # which a browser has to be granted, where it brings a key as another protocol

_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_FRAMES = {
    "requestBody": {
        "required": True,
        "content": {
            "image/jpeg": _IMAGE,
            "image/png": _IMAGE,
            "multipart/form-data": {
                "schema": {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
            },
        },
    }
}


@router.post("/v1/streams", status_code=201)
async def open_stream(request: Request, body: Annotated[StreamRequest, Body()]) -> StreamInfo:
    """Opens a stream: its whole memory is reserved here, or it is refused."""
    return await server_of(request).serving.open(owner_of(request), body)


@router.get("/v1/streams")
async def list_streams(request: Request) -> StreamList:
    """All of your streams."""
    return server_of(request).serving.all(owner_of(request))


@router.get("/v1/streams/{name}")
async def get_stream(request: Request, name: str) -> StreamInfo:
    """The state of a stream."""
    server, served = stream_of(request, name)
    return server.serving.state(served)


@router.delete("/v1/streams/{name}", status_code=204)
async def close_stream(request: Request, name: str) -> Response:
    """Closes a stream and deletes what was saved of it."""
    server, served = stream_of(request, name)
    await server.serving.close(served)
    return Response(status_code=204)


@router.post("/v1/streams/{name}/frames", openapi_extra=_FRAMES)
async def push_frames(
    request: Request,
    name: str,
    time: Annotated[Time | None, Query(description="Seconds of the stream; by default 1 / fps after the last")] = None,
    wait: Annotated[bool, Query(description="Answer when the frames have been watched")] = False,
) -> FramesTaken:
    """Accepts a picture as the body, a JPEG, PNG or WebP, or several as multipart, in their order.

    If one of several cannot be taken, those before it have been.
    """
    server, served = stream_of(request, name)
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        pictures = await _parts(request, server.settings.limits.frames_per_request)
    else:
        pictures = [await request.body()]
    return await server.serving.push(served, [each for each in pictures if each], time, wait=wait)


async def _parts(request: Request, most: int) -> list[bytes]:
    try:
        async with request.form(max_files=most, max_fields=8) as form:
            return [await part.read() for _, part in form.multi_items() if isinstance(part, UploadFile)]
    except NO_FORM:
        raise ApiError(400, f"the multipart body cannot be read, or has more than {most} pictures") from None


@router.websocket("/v1/streams/{name}/frames")
async def push_frames_by_socket(socket: WebSocket, name: str) -> None:
    """Accepts pictures, a binary message each; a text message `{"time": 12.5}` is the time of the next one.

    Each picture is answered with what a request is answered with, or an error.
    """
    server, served = stream_of(socket, name)
    offered = [part.strip() for part in socket.headers.get("sec-websocket-protocol", "").split(",")]
    async with server.socket(socket, _PROTOCOL if _PROTOCOL in offered else None):
        at: float | None = None
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            try:
                if (text := message.get("text")) is not None:
                    at = _time_in(text)
                    continue
                _, served = stream_of(socket, name)  # it may have been closed meanwhile, and another one opened
                reply = (await server.serving.push(served, [message["bytes"] or b""], at)).model_dump()
            except Exception as error:
                reply = report(error).body()
            at = None
            await send(socket, reply)


def _time_in(text: str) -> float:
    try:
        time = json.loads(text)["time"]
        if not is_time(time):
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ApiError(400, 'a text message is {"time": seconds}; pictures are binary', param="time") from None
    return float(time)


@router.post("/v1/streams/{name}/ask", response_model=AskReply)
async def ask_stream(request: Request, name: str, body: Annotated[AskRequest, Body()]) -> Response:
    """Answers a question about all frames that were taken so far; with `stream`, as server-sent events."""
    server, served = stream_of(request, name)
    if body.stream:
        return await events(request, server.serving.events(served, body))
    reply = await while_there(request, server.serving.ask(served, body))
    return JSONResponse(reply.model_dump())


@router.post("/v1/streams/{name}/fork", status_code=201)
async def fork_stream(request: Request, name: str, body: Annotated[ForkRequest | None, Body()] = None) -> StreamInfo:
    """Opens a second stream with the same past, in a memory of its own."""
    server, served = stream_of(request, name)
    return await server.serving.fork(served, body.id if body else None)


@router.post("/v1/streams/{name}/snapshot")
async def save_stream(request: Request, name: str) -> Saved:
    """Saves a stream now, with all frames that were taken so far."""
    server, served = stream_of(request, name)
    return await server.serving.save(served)
