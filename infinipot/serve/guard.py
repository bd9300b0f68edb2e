"""Checks every request first: its id, its owner, its origin, and the size of its body.

An ASGI middleware round everything else, so that no route can be forgotten.
"""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infinipot.serve.errors import ApiError, report
from infinipot.serve.keys import Keys
from infinipot.serve.logs import REQUEST_ID, event
from infinipot.serve.metrics import Metrics
from infinipot.serve.settings import Settings

logger = logging.getLogger(__name__)

OPEN = frozenset(
    {
        "/",
        "/favicon.ico",
        "/health",
        "/ready",
        "/ping",
        "/v1/health/live",
        "/v1/health/ready",
        "/v1/live",
        "/v1/ready",
        "/v1/startup",
    }
)
"""What answers without a key: whether the server is there, and nothing else."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Hosts that only this machine reaches."""

PAGE = "/page/"
"""Below it lie the files of the page, which hold nothing of anybody's."""

_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST_HEADER = 1 << 16
_READING = ("GET", "OPTIONS")
_UPLOADS = ("/v1/files",)
_AROUND = 1 << 14  # bytes of a multipart body beside the file


class Guard:
    """Lets allowed requests through, and answers the others with an error.

    Args:
        app: what they are for.
        settings, keys, metrics: of the server.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys, metrics: Metrics) -> None:
        self._app, self._settings, self._keys, self._metrics = app, settings, keys, metrics
        self._local = not keys and settings.host in LOOPBACK
        self._bodies = _Bodies(int(settings.limits.bodies_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope.get("method") == "HEAD":  # of which the server sends no body
            scope = {**scope, "method": "GET"}
        headers = Headers(scope=scope)
        requested_id = headers.get("x-request-id", "")
        request_id = requested_id if _GIVEN_ID.fullmatch(requested_id) else uuid.uuid4().hex
        scope["request_id"] = request_id
        token = REQUEST_ID.set(request_id)
        started, response = time.monotonic(), _Told(scope, send, request_id)
        body = None
        try:
            scope["owner"] = self._admit(scope, headers)
            if scope["type"] == "http":
                held = None if scope["path"] in _UPLOADS else self._bodies  # files go to the disk
                body = _Body(receive, headers, held, *self._most(scope))
            await self._app(scope, receive if body is None else body.receive, response.send)
        except Exception as error:
            await response.refuse(report(error))
        finally:
            if body is not None:
                body.close()
            self._note(scope, response.status, time.monotonic() - started)
            REQUEST_ID.reset(token)

    def _admit(self, scope: Scope, headers: Headers) -> str:
        """The owner of a request.

        Raises:
            ApiError: it is nobody's, or from a place that it may not come from.
        """
        if sum(len(name) + len(value) for name, value in headers.raw) > _MOST_HEADER:
            raise ApiError(431, f"the header has more than {_MOST_HEADER:,} bytes", "header_too_large")
        if scope["path"] in OPEN or scope["path"].startswith(PAGE):
            return ""
        self._check_place(scope, headers)
        owner = self._keys.owner(headers)
        if owner is None:
            message = "give a key that this server knows: Authorization: Bearer <key>"
            raise ApiError(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        return owner

    def _check_place(self, scope: Scope, headers: Headers) -> None:
        """Web pages reach servers on their visitor's own machine: through names of theirs, and through WebSockets."""
        host = _split(f"//{headers.get('host', '')}").hostname or ""
        if self._local and host not in LOOPBACK:
            message = (
                f"without keys this server answers to localhost alone, and was called as {host[:100]!r}: see --api-keys"
            )
            raise ApiError(403, message, "host_refused")
        origin, origins = headers.get("origin"), self._settings.cors_origins
        # Browsers let any page send what reads, and what a form can send. Where there are keys, it has none.
        harmless = scope["type"] == "http" and (bool(self._keys) or scope["method"] in _READING)
        if origin is None or harmless or origin in origins or "*" in origins:
            return
        if (_split(origin).netloc or None) != headers.get("host"):
            raise ApiError(403, "web pages of other origins may not connect: see --cors-origins", "origin_refused")

    def _most(self, scope: Scope) -> tuple[int, float]:
        """Bytes of a body, and seconds in which it has to be there."""
        limits = self._settings.limits
        if scope["path"] in _UPLOADS:
            return int(limits.upload_bytes) + _AROUND, limits.upload_seconds
        return int(limits.body_bytes), limits.body_seconds

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope.get("method", "WEBSOCKET")
        method = method if method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "WEBSOCKET") else "OTHER"
        self._metrics.requests.labels(method, route, str(status)).inc()
        if route not in OPEN and route != "/metrics":
            level = logging.DEBUG if status < 400 and _comes_often(method, route) else logging.INFO
            event(logger, "request", level, method=method, route=route, status=status, seconds=round(seconds, 4))


class _Told:
    """Sends a response with the id of its request."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope, self._send, self._id = scope, send, request_id
        self.status = 499  # as nginx has it: the client left before there was an answer

    async def send(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._id.encode())]
        elif message["type"] == "websocket.accept":
            self.status = 101
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._id.encode())]
        await self._send(message)

    async def refuse(self, problem: ApiError) -> None:
        """Sends an error, unless a response has begun."""
        if self.status != 499:
            if self._scope["type"] == "websocket" and self.status == 101:
                await self._send({"type": "websocket.close", "code": 1011})
                return
            raise problem
        content = json.dumps(problem.body()).encode()
        headers: Sequence[tuple[bytes, bytes]] = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
        ]
        start = {"http": "http.response", "websocket": "websocket.http.response"}[self._scope["type"]]
        await self.send({"type": f"{start}.start", "status": problem.status, "headers": list(headers)})
        await self.send({"type": f"{start}.body", "body": content})


class _Bodies:
    """The bytes of all bodies that are held at once, which are bounded."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    def take(self, size: int) -> None:
        """Counts some more; raises `ApiError` where they are too many."""
        if self._held + size > self._most:
            message = "the requests under way hold as many bytes as they may together: try again later"
            raise ApiError(503, message, "bodies_too_large", headers={"Retry-After": "1"})
        self._held += size

    def free(self, size: int) -> None:
        """Counts some no more."""
        self._held -= size


class _Body:
    """A request's body, which is bounded in length and in time, by what it says before it is read."""

    def __init__(self, receive: Receive, headers: Headers, bodies: _Bodies | None, most: int, seconds: float) -> None:
        self._receive, self._bodies, self._most, self._held = receive, bodies, most, 0
        self._left, self._deadline = most, time.monotonic() + seconds
        self._seconds = seconds
        self._done = False
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part."""
        if self._done:  # what comes now is that the client left
            return await self._receive()
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self._deadline - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, f"the body did not arrive within {self._seconds:g} s", "body_too_slow") from None
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise self._too_large()
            if self._bodies is not None:
                self._bodies.take(len(message.get("body", b"")))
                self._held += len(message.get("body", b""))
            self._done = not message.get("more_body", False)
        return message

    def close(self) -> None:
        """Is over: what it brought is held no more."""
        if self._bodies is not None:
            self._bodies.free(self._held)
            self._held = 0

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body has more than the {self._most:,} bytes that are allowed", "body_too_large")


def _comes_often(method: str, route: str) -> bool:
    """Whether a request is one of many for as long as a stream lasts: a frame for it, or what it is like and holds."""
    return route.startswith("/v1/streams") and (method == "GET" or (method == "POST" and route.endswith("/frames")))


def _split(address: str) -> SplitResult:
    """The parts of an address; of what is none, nothing."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def owner_of(scope: Any) -> str:
    """The owner of a request."""
    owner: str = scope.scope["owner"]
    return owner
