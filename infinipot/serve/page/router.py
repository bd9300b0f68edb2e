"""Routes of the page's files. What they show comes over the API, with the visitor's key."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from infinipot.serve.errors import ApiError

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parent / "files"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@router.get("/")
async def index() -> Response:
    """The page."""
    return _file("index.html")


@router.get("/favicon.ico")
async def icon() -> Response:
    """The icon of the page."""
    return _file("icon.svg")


@router.get("/page/{name}")
async def part(name: str) -> Response:
    """A file of the page."""
    return _file(name)


def _file(name: str) -> Response:
    path = _FOLDER / name
    if path.parent != _FOLDER or path.suffix not in _KINDS or not path.is_file():
        raise ApiError(404, "there is no such file of the page", "not_found")
    return FileResponse(path, media_type=_KINDS[path.suffix], headers=_HEADERS)
