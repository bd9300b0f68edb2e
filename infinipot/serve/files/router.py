"""Routes of files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Query, Request
from starlette.datastructures import UploadFile

from infinipot.serve.bodies import NO_FORM
from infinipot.serve.errors import ApiError
from infinipot.serve.files.protocol import Deleted, FileList, FileState, MediaType
from infinipot.serve.files.uploads import Upload, copied, shown_name
from infinipot.serve.guard import owner_of
from infinipot.serve.server import Server, server_of

router = APIRouter(tags=["files"])

_LISTED = 10_000  # files in one list, as in OpenAI's API

_TEXT = {"type": "string"}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": _TEXT,
                        "media_type": {"enum": list(get_args(MediaType))},
                    },
                }
            }
        },
    }
}


@router.post("/v1/files", openapi_extra=_FORM)
async def add_file(request: Request) -> FileState:
    """Uploads a video or a picture as the part `file` of a multipart body; it is kept while the server runs."""
    server, owner = server_of(request), owner_of(request)
    with server.uploads.room(_length(request)):
        async with _form(request) as (part, fields):
            kind, size = _kind(fields.get("media_type")), part.size or 0
            file = await asyncio.to_thread(copied, part.file)
            upload = Upload(owner, shown_name(part.filename), fields.get("purpose", "vision")[:64], kind, size, file)
            try:
                await _look(server, upload)
            except BaseException:
                file.close()
                raise
    server.uploads.add(upload)
    return upload.state()


@router.get("/v1/files")
async def list_files(
    request: Request,
    purpose: str | None = None,
    after: Annotated[str | None, Query(description="The id of a file: those that come after it are listed")] = None,
    limit: Annotated[int, Query(ge=1, le=_LISTED)] = _LISTED,
    order: Annotated[Literal["asc", "desc"], Query(description="The oldest first, or the newest")] = "asc",
) -> FileList:
    """Your files, or those of a purpose."""
    uploads, owner = server_of(request).uploads, owner_of(request)
    files = uploads.of(owner)
    if order == "desc":
        files.reverse()
    if after is not None:
        files = files[files.index(uploads.find(owner, after)) + 1 :]
    files = [each for each in files if purpose in (None, each.purpose)]
    page = [each.state() for each in files[:limit]]
    first, last = (page[0].id, page[-1].id) if page else (None, None)
    return FileList(data=page, first_id=first, last_id=last, has_more=len(files) > limit)


@router.get("/v1/files/{name}")
async def get_file(request: Request, name: str) -> FileState:
    """One of your files."""
    return server_of(request).uploads.find(owner_of(request), name).state()


@router.delete("/v1/files/{name}")
async def delete_file(request: Request, name: str) -> Deleted:
    """Deletes a file."""
    uploads = server_of(request).uploads
    uploads.remove(uploads.find(owner_of(request), name))
    return Deleted(id=name)


def _length(request: Request) -> int:
    """The bytes of a body, for which there has to be room before any of them is read."""
    length = request.headers.get("content-length", "")
    if not length.isdigit() or "transfer-encoding" in request.headers:
        raise ApiError(411, "the length of the body is not known: send it with a Content-Length", "length_required")
    return int(length)


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[tuple[UploadFile, dict[str, str]]]:
    """The file of a body, and its other fields."""
    try:
        form = await request.form(max_files=1, max_fields=16)
    except NO_FORM:
        raise ApiError(400, "the body is not a multipart form with one file", "no_file") from None
    try:
        part = form.get("file")
        if not isinstance(part, UploadFile) or not part.size:
            raise ApiError(400, "give a file as the part `file` of a multipart form", "no_file", param="file")
        yield part, {name: value for name, value in form.items() if isinstance(value, str)}
    finally:
        await form.close()


def _kind(given: str | None) -> MediaType:
    kinds: tuple[MediaType, ...] = get_args(MediaType)
    for kind in kinds:
        if given in (None, kind):
            return kind
    raise ApiError(400, f"media_type must be one of {', '.join(kinds)}", param="media_type")


async def _look(server: Server, upload: Upload) -> None:
    """Decodes the first picture of a file, so that a bad file is refused now and not at the first question."""
    async with server.sources.upload(upload, fps=None, frames=1) as clip:
        async for _ in clip.frames():
            return
    raise ApiError(422, "the file holds no picture", "media_not_decoded")
