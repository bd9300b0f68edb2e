"""VSS's routes of streams. A question about one goes to chat completions, with its id as `id`."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from infinipot.serve.errors import ApiError
from infinipot.serve.guard import owner_of
from infinipot.serve.server import server_of
from infinipot.serve.streams.protocol import StreamRequest
from infinipot.serve.vss.protocol import Added, AddReply, AddRequest, DeleteBatch

router = APIRouter(tags=["vss"])


@router.post("/v1/streams/add")
async def add(request: Request, body: Annotated[AddRequest, Body()]) -> AddReply:
    """Opens a stream for each address, and plays it at its own pace."""
    server, owner = server_of(request), owner_of(request)
    results: list[Added] = []
    for live in body.streams:
        try:
            asked = StreamRequest.model_validate({"source": live.live_stream_url, "pace": "realtime"})
            opened = await server.serving.open(owner, asked)
            server.streams.find(owner, opened.id).description = live.description
            results.append(Added(id=opened.id))
        except ApiError as error:
            if len(body.streams) == 1:
                raise
            results.append(Added(error=error.message))
    return AddReply(results=results)


@router.get("/v1/streams/get-stream-info")
async def get_stream_info(request: Request) -> list[dict[str, Any]]:
    """The streams that a source is played into."""
    played = [each for each in server_of(request).streams.of(owner_of(request)) if each.source is not None]
    return [
        {
            "id": each.id,
            "liveStreamUrl": each.source.address if each.source else "",
            "description": each.description,
            "state": each.source.state if each.source else "",
        }
        for each in played
    ]


@router.delete("/v1/streams/delete/{name}")
async def delete(request: Request, name: str) -> dict[str, str]:
    """Closes a stream."""
    server = server_of(request)
    await server.serving.close(server.streams.find(owner_of(request), name))
    return {"id": name, "status": "deleted"}


@router.delete("/v1/streams/delete-batch")
async def delete_batch(request: Request, body: Annotated[DeleteBatch, Body()]) -> AddReply:
    """Closes streams; tells of each whether there was one."""
    server, owner = server_of(request), owner_of(request)
    results: list[Added] = []
    for name in body.stream_ids:
        try:
            await server.serving.close(server.streams.find(owner, name))
            results.append(Added(id=name))
        except ApiError as error:
            results.append(Added(error=error.message))
    return AddReply(results=results)
