"""The route of chat completions."""

from typing import Annotated

from fastapi import APIRouter, Body, Header, Request
from fastapi.responses import JSONResponse, Response

from infinipot.serve.answers import events, while_there
from infinipot.serve.chat.protocol import ChatCompletion, ChatRequest
from infinipot.serve.guard import owner_of
from infinipot.serve.server import server_of

router = APIRouter(tags=["openai"])


@router.post("/v1/chat/completions", response_model=ChatCompletion)
async def chat_completions(
    request: Request,
    body: Annotated[ChatRequest, Body()],
    session: Annotated[str | None, Header(alias="x-session-id")] = None,
) -> Response:
    """Answers about a stream, a video, or pictures; with `stream`, as server-sent events."""
    serving, owner = server_of(request).chat, owner_of(request)
    if body.stream:
        return await events(request, serving.chunks(owner, body, session))
    completion = await while_there(request, serving.complete(owner, body, session))
    return JSONResponse(completion.model_dump())
