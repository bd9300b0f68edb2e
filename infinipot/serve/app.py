"""The ASGI application: routes, and errors in one form."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

import infinipot
from infinipot.model import Model
from infinipot.serve import health
from infinipot.serve.answers import LeftError
from infinipot.serve.bodies import invalid
from infinipot.serve.chat import router as chat
from infinipot.serve.errors import ApiError, report
from infinipot.serve.files import router as files
from infinipot.serve.guard import Guard
from infinipot.serve.keys import Keys
from infinipot.serve.metrics import Metrics
from infinipot.serve.omni import router as omni
from infinipot.serve.page import router as page
from infinipot.serve.realtime import router as realtime
from infinipot.serve.server import Server
from infinipot.serve.settings import Settings
from infinipot.serve.streams import router as streams
from infinipot.serve.views import router as views
from infinipot.serve.vss import router as vss
from infinipot.serve.watches import router as watches

# VSS's paths look like streams of this server's own: they come first.
ROUTERS = tuple(part.router for part in (health, vss, files, streams, views, watches, chat, realtime, omni, page))

_ROUTES = {
    404: ("there is no {method} {path}: /docs has the routes", "not_found"),
    405: ("{path} takes no {method}: /docs has the routes", "method_not_allowed"),
}


def create_app(settings: Settings, model: Model) -> FastAPI:
    """An application that serves a loaded model.

    Raises:
        InfinipotError: the file of keys cannot be read.
    """
    metrics = Metrics()
    server = Server(settings, model, metrics)
    keys = Keys.read(settings.api_keys)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with server.running():
            yield

    app = FastAPI(
        title="infinipot",
        version=infinipot.__version__,
        summary="Streams of video as named bounded memories that can be asked at any moment",
        lifespan=lifespan,
        responses={"4XX": {"description": "An error in OpenAI's form"}},
    )
    app.state.server = server
    for router in ROUTERS:
        app.include_router(router)
    for kind in (ApiError, infinipot.InfinipotError, RequestValidationError, HTTPException, RecursionError):
        app.add_exception_handler(kind, _told)
    app.add_exception_handler(LeftError, _left)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_middleware(Guard, settings=settings, keys=keys, metrics=metrics)
    if (
        settings.cors_origins
    ):  # around the guard: a browser asks first, without a key, and pages may read what is refused
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-Id", "X-Time"],
        )
    return app


async def _told(request: Request, error: Exception) -> JSONResponse:
    problem = _problem(request, error)
    return JSONResponse(problem.body(), problem.status, problem.headers)


async def _left(request: Request, error: Exception) -> JSONResponse:
    """The response to a client that has left: nobody reads it."""
    return JSONResponse(ApiError(499, "the client left", "client_left").body(), 499)


def _problem(request: Request, error: Exception) -> ApiError:
    if isinstance(error, RequestValidationError):
        return _invalid(request, error)
    if isinstance(error, HTTPException) and isinstance(error.__cause__, ApiError):
        return error.__cause__  # of the body, while it was read
    if isinstance(error, HTTPException):
        message, code = _ROUTES.get(error.status_code, (str(error.detail), None))
        path = request.scope.get("raw_path", b"").decode("latin-1")  # as it came, in one line
        text = message.format(method=request.method, path=path[:100])
        return ApiError(error.status_code, text, code, headers=dict(error.headers or {}))
    if isinstance(error, RecursionError):
        return ApiError(400, "the JSON is nested too deeply", "invalid_request")
    return report(error)


def _invalid(request: Request, error: RequestValidationError) -> ApiError:
    """The error for the first fault in a body or a query."""
    faults, kind = error.errors(), request.headers.get("content-type", "")
    if faults[0]["loc"] == ("body",) and "json" not in kind.lower():  # as curl sends what -d gives
        came = f"its type is {kind[:100]!r}" if kind else "it has no type"
        message = f"the body must be JSON, but {came}: add the header Content-Type:application/json (curl: -H)"
        return ApiError(400, message, "invalid_request")
    return invalid(faults)
