"""A real server for tests: uvicorn in a thread of its own, on loopback, with the embedded model."""

import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image
from starlette.routing import WebSocketRoute

import infinipot
from infinipot.embedded.world import Clip
from infinipot.serve import run
from infinipot.serve.app import ROUTERS, create_app
from infinipot.serve.guard import OPEN
from infinipot.serve.server import Server
from infinipot.serve.settings import Settings

KEYS = {"alice": "alice-key", "second": "alice-other-key", "bob": "bob-key"}
MEMORY = 512


@cache
def embedded() -> infinipot.Model:
    """The model, loaded once."""
    return infinipot.load("embedded", device="cpu")


@dataclass
class Running:
    """A server that runs."""

    url: str
    server: Server
    uvicorn: uvicorn.Server
    clients: dict[str | None, httpx.Client] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def described(self) -> dict[str, dict[str, Any]]:
        """What OpenAPI says of each path, by method."""
        app: Any = self.uvicorn.config.app
        return app.openapi()["paths"]

    def server_routes(self) -> list[tuple[str, str]]:
        """All routes that ask for a key, as OpenAPI lists them."""
        described = self.described.items()
        return [(method.upper(), path) for path, methods in described for method in methods if path not in OPEN]

    def sockets(self) -> list[Any]:
        """The routes of WebSockets."""
        return [route for router in ROUTERS for route in router.routes if isinstance(route, WebSocketRoute)]

    def folder(self, name: str) -> Path:
        """One of the folders that its settings name."""
        found = getattr(self.server.settings, name)
        assert isinstance(found, Path)
        return found

    def as_(self, who: str | None) -> httpx.Client:
        """A client with somebody's key, or without one."""
        if who not in self.clients:
            headers = {"Authorization": f"Bearer {KEYS[who]}"} if who else {}
            self.clients[who] = httpx.Client(base_url=self.url, headers=headers, timeout=30)
        return self.clients[who]


@contextmanager
def running(**given: Any) -> Iterator[Running]:
    """A server with these settings."""
    settings = Settings.read(None, **{"model": "embedded", "memory": MEMORY, "port": 0, **given})
    with run._kept(settings):
        app = create_app(settings, embedded())
        server = run.Server(run.config(app, settings))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        found = Running(f"http://127.0.0.1:{port}", app.state.server, server)
        try:
            yield found
        finally:
            for client in found.clients.values():
                client.close()
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server did not end"


def keys_file(folder: Path) -> Path:
    """A file with the keys of alice, who has two of them, and bob."""
    path = folder / "keys.txt"
    path.write_text(f"alice {KEYS['alice']}  # at home\nalice {KEYS['second']}\n\nbob {KEYS['bob']}\n")
    return path


@cache
def clip(seed: int = 1, seconds: float = 20.0) -> tuple[infinipot.Frame, ...]:
    """Frames of the synthetic world."""
    return tuple(Clip(seed, seconds))


def encoded(picture: np.ndarray, kind: str = "PNG") -> bytes:
    """A picture as a file: of PNG, each pixel comes back as it was."""
    written = io.BytesIO()
    Image.fromarray(picture).save(written, kind)
    return written.getvalue()


def data_url(picture: np.ndarray) -> str:
    """A picture as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(encoded(picture)).decode()


def push(client: httpx.Client, stream: str, frames: tuple[infinipot.Frame, ...], *, wait: bool = True) -> None:
    """Pushes frames at their times, and waits until they were watched."""
    for frame in frames:
        given = {"time": frame.time, "wait": wait and frame is frames[-1]}
        reply = client.post(f"/v1/streams/{stream}/frames", params=given, content=encoded(frame.image))
        assert reply.status_code == 200, reply.text


@contextmanager
def stream(client: httpx.Client, name: str, **settings: Any) -> Iterator[str]:
    """A stream that is there for a while."""
    reply = client.post("/v1/streams", json={"id": name, **settings})
    assert reply.status_code == 201, reply.text
    try:
        yield name
    finally:
        client.delete(f"/v1/streams/{name}")


def alone(
    frames: tuple[infinipot.Frame, ...], *questions: str, memory: int = MEMORY, **how: Any
) -> list[infinipot.Answer]:
    """What the library answers to these questions about the same frames."""
    with embedded().stream(memory) as watched:
        for frame in frames:
            watched.watch(frame)
        return [watched.ask(question, **how) for question in questions]
