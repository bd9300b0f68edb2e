"""Connections of uvicorn with bounds that it has not: on how many there are, and on how long a header may take."""

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from infinipot.serve.errors import ApiError


def bounded(most: int, header_seconds: float) -> type[H11Protocol]:
    """A protocol for uvicorn: of so many connections at once, each with so many seconds for its first request."""

    class Bounded(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None
        _upgraded = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > most:
                message = f"{most} connections are open, which is the limit"
                transport.write(_response(ApiError(503, message, "too_many_connections")))
                transport.close()
                return
            self._waiting = self.loop.call_later(header_seconds, self._too_slow)

        def connection_lost(self, exc: Exception | None) -> None:
            self._no_longer_waiting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            """A header that has begun has its time to end, in a later request of the connection too."""
            super().data_received(data)
            self._watch_header()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.conn.trailing_data[0]:  # of the next request, sent ahead
                self._watch_header()

        def _watch_header(self) -> None:
            if self._upgraded or (self.cycle is not None and not self.cycle.response_complete):
                self._no_longer_waiting()
            elif self._waiting is None and not self.transport.is_closing():
                self._waiting = self.loop.call_later(header_seconds, self._too_slow)

        def handle_websocket_upgrade(self, event: h11.Request) -> None:
            self._upgraded = True
            super().handle_websocket_upgrade(event)

        def send_400_response(self, msg: str) -> None:
            """Answers invalid HTTP, or too long a header, in the form of the other errors."""
            self.transport.write(_response(ApiError(400, msg, "invalid_http")))
            self.transport.close()

        def _no_longer_waiting(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _too_slow(self) -> None:
            message = f"the header did not arrive within {header_seconds:g} s"
            self.transport.write(_response(ApiError(408, message, "header_too_slow")))
            self.transport.close()

    return Bounded


def _response(problem: ApiError) -> bytes:
    content = json.dumps(problem.body()).encode()
    reason = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}[problem.status]
    head = f"HTTP/1.1 {problem.status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + content
