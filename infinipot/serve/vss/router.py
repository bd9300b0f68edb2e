"""VSS's routes of streams, captions and summaries. A question goes to chat completions, with the stream's or file's id
as `id`."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response

from infinipot.serve.answers import DONE, events, sse, while_there
from infinipot.serve.bodies import made_of
from infinipot.serve.errors import ApiError, report
from infinipot.serve.guard import owner_of
from infinipot.serve.server import Server, server_of
from infinipot.serve.streams.protocol import StreamRequest
from infinipot.serve.vss.protocol import (
    Added,
    AddReply,
    AddRequest,
    Captioned,
    CaptionRequest,
    Chunks,
    DeleteBatch,
    Summary,
    SummaryRequest,
)

router = APIRouter(tags=["vss"])


@router.post("/v1/streams/add")
async def add(request: Request, body: Annotated[AddRequest, Body()]) -> AddReply:
    """Opens a stream for each address, and plays it at its own pace."""
    server, owner = server_of(request), owner_of(request)
    results: list[Added] = []
    for live in body.streams:
        try:
            stream = made_of(StreamRequest, {"source": live.source, "pace": "realtime"})
            opened = await server.serving.open(owner, stream)
            server.streams.find(owner, opened.id).description = live.description
            results.append(Added(id=opened.id))
        except Exception as error:  # those before it are open, and their ids have to be told
            if len(body.streams) == 1:
                raise
            results.append(Added(error=report(error).message))
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


@router.post("/v1/generate_captions", response_model=Captioned)
async def generate_captions(request: Request, body: Annotated[CaptionRequest, Body()]) -> Response:
    """A caption of each stretch of a file, or of a stream as it goes on; with `stream`, as server-sent events."""
    server, owner = server_of(request), owner_of(request)
    server.captions.check(owner, body)
    if body.stream:
        return await events(request, _told(server, owner, body))

    async def all_of_them() -> Captioned:
        captions = [each async for each in server.captions.captions(owner, body)]
        usage = Chunks(total_chunks_processed=len(captions))
        return Captioned(id=body.id, model=server.settings.model, chunk_responses=captions, usage=usage)

    return JSONResponse((await while_there(request, all_of_them())).model_dump())


@router.delete("/v1/generate_captions/{name}")
async def stop_captions(request: Request, name: str) -> dict[str, str]:
    """Ends the captions that are made of a stream; the stream goes on."""
    server = server_of(request)
    server.captions.stop(server.streams.find(owner_of(request), name))
    return {"id": name, "status": "stopped"}


@router.post("/v1/summarize", response_model=Summary)
async def summarize(request: Request, body: Annotated[SummaryRequest, Body()]) -> Response:
    """Summarizes a file, or a stream so far, in one answer; with `stream`, as one server-sent event."""
    server, owner = server_of(request), owner_of(request)
    server.captions.check(owner, body)
    summary = server.captions.summary(owner, body)
    if not body.stream:
        return JSONResponse((await while_there(request, summary)).model_dump())

    async def told() -> AsyncGenerator[str, None]:
        yield sse(await summary)
        yield DONE

    return await events(request, told())


async def _told(server: Server, owner: str, body: CaptionRequest) -> AsyncGenerator[str, None]:
    """Captions as server-sent events, each as soon as it is made."""
    made = server.captions.captions(owner, body)
    yield ": here\n\n"
    try:
        async for caption in made:
            yield sse(caption)
        yield DONE
    except Exception as error:
        yield sse(report(error).body())
    finally:
        await made.aclose()
