"""Routes of pictures, and of what a memory holds."""

import asyncio
import io
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from PIL import Image

from infinipot.serve.cameras.demo import address
from infinipot.serve.errors import ApiError
from infinipot.serve.server import stream_of
from infinipot.serve.streams.protocol import Time
from infinipot.video import Frame

router = APIRouter(tags=["views"])
_WAIT = 5.0  # seconds that a newer picture is waited for
_LOOK = 0.02  # seconds between two looks whether there is one


@router.get("/v1/streams/{name}/picture", response_class=Response)
async def newest_picture(
    request: Request,
    name: str,
    after: Annotated[Time | None, Query(description="Wait a little for a picture later than this second")] = None,
    side: Annotated[int, Query(ge=16, le=4096, description="The longer side in pixels, at most")] = 960,
) -> Response:
    """The newest picture of a stream as JPEG, with its time in `X-Time`; 204 where none newer came."""
    _, served = stream_of(request, name)
    until = asyncio.get_running_loop().time() + _WAIT
    while (frame := served.newest) is None or (after is not None and frame.time <= after):
        if after is None or asyncio.get_running_loop().time() > until or await request.is_disconnected():
            return Response(status_code=204)
        await asyncio.sleep(_LOOK)
    body = await asyncio.to_thread(_jpeg, frame, side)
    return _picture(body, frame.time)


@router.get("/v1/streams/{name}/thumbnail", response_class=Response)
async def thumbnail(request: Request, name: str, time: Annotated[Time, Query()]) -> Response:
    """The small picture that is kept closest to a time, as JPEG, with its own time in `X-Time`."""
    _, served = stream_of(request, name)
    nearest = served.thumbnails.nearest(time)
    if nearest is None:
        raise ApiError(404, "no picture of this stream is kept yet", "no_picture", param="time")
    return _picture(nearest[1], nearest[0])


@router.get("/v1/streams/{name}/contents")
async def contents(
    request: Request,
    name: str,
    most: Annotated[int, Query(ge=1, le=2048, description="The most patches to give")] = 256,
) -> JSONResponse:
    """The contents of the memory, patch by patch: times, tokens, and cells."""
    server, served = stream_of(request, name)
    held = await server.streams.contents(served)
    stats = served.lane.stats
    return JSONResponse({"time": stats.time, "cap": stats.cap, "tokens": stats.tokens, **held.as_dict(most)})


@router.get("/v1/streams/{name}/truth")
async def truth(
    request: Request, name: str, question: str | None = None, time: Annotated[Time | None, Query()] = None
) -> JSONResponse:
    """For a demo camera: the questions that have a right answer now, or at a time; or the right answer to one."""
    server, served = stream_of(request, name)
    watched = server.players.cameras.of(served)
    world = None if watched is None else watched.camera.world
    if watched is None or world is None:
        raise ApiError(404, "the truth is known only for demo cameras", "no_truth")
    at = max((served.lane.stats.time if time is None else time) - watched.offset, 0.0)
    if question is not None:
        return JSONResponse({"question": question, "answer": world.answer(question, at), "time": at})
    asked = [
        {"kind": each.kind, "question": each.text, "event": None if each.event is None else each.event + watched.offset}
        for each in world.questions(at)
    ]
    seconds = len(world.clip) / world.clip.fps + watched.offset
    another = address(world.clip.size)
    return JSONResponse({"time": at + watched.offset, "seconds": seconds, "questions": asked, "next": another})


def _jpeg(frame: Frame, side: int) -> bytes:
    picture = Image.fromarray(frame.image)
    picture.thumbnail((side, side))
    out = io.BytesIO()
    # Small pictures are enlarged by whoever shows them: there, every pixel counts.
    picture.save(out, "JPEG", quality=92 if max(picture.size) <= 256 else 80, subsampling=0)
    return out.getvalue()


def _picture(body: bytes, time: float) -> Response:
    """A picture with its time to the last digit, since a time that is rounded down asks for the same picture again."""
    return Response(body, media_type="image/jpeg", headers={"X-Time": repr(time), "Cache-Control": "no-store"})
