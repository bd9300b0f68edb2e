"""Starts a server and ends it well: SIGTERM and Ctrl-C let answers finish, and streams are saved."""

import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI

from infinipot.errors import InfinipotError
from infinipot.model import Model
from infinipot.serve import lock, logs
from infinipot.serve.app import create_app
from infinipot.serve.cameras import demo
from infinipot.serve.connection import bounded
from infinipot.serve.guard import LOOPBACK
from infinipot.serve.keys import Keys
from infinipot.serve.settings import Settings

_SWITCH = 0.001  # seconds until the model's thread lets others run: requests are short
_KEEP_ALIVE = 75  # seconds of an idle connection, as nginx has it: a short time meets clients that are about to use it
_MESSAGE = 1 << 16  # bytes of a header


def serve(settings: Settings, load: Callable[[], Model]) -> None:
    """Serves until it is told to end.

    Args:
        settings: of the server.
        load: loads the model, once what is quick to check was checked.

    Raises:
        InfinipotError: the model or the keys cannot be loaded, a folder or the port cannot be used, --memory-total has
            no room for a stream, or the model's device could no longer be used.
    """
    with logs.to_stderr(settings.log_level):
        sys.setswitchinterval(_SWITCH)
        _require_port(settings)
        Keys.read(settings.api_keys)
        demo.check(settings)
        with _kept(settings):
            server = _serve(settings, load())
    if server.broken is not None:
        raise InfinipotError(
            f"this process can no longer use the model's device ({server.broken}): restart the server, which "
            "continues streams from their last snapshots"
        )
    if server.failed:
        raise InfinipotError("the server could not start: see its log")
    if not server.started:
        raise _taken(settings)


def _serve(settings: Settings, model: Model) -> "Server":
    needed = _require_room(settings, model)
    app = create_app(settings, model)
    gc.freeze()  # a model's many objects need not be looked at again
    _warn(settings, model)
    _tell_writing(settings, needed)
    server = Server(config(app, settings))
    with suppress(SystemExit):  # how uvicorn ends where it cannot begin
        asyncio.run(server.serve())
    return server


def config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Configures uvicorn to serve an application in this process, with a limit on connections."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=bounded(settings.limits.connections, settings.limits.header_seconds),
        ws="websockets-sansio",
        ws_max_size=2 * int(settings.limits.frame_bytes),
        h11_max_incomplete_event_size=_MESSAGE,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.limits.drain_seconds) or 1,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
    )


class Server(uvicorn.Server):
    """Says where it listens, once it does, and ends what would never end by itself before it waits for the rest.

    It ends by itself where the model can run no more, so that whatever started it can start it again.
    """

    async def startup(self, sockets=None) -> None:  # type: ignore[no-untyped-def]
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"infinipot serves on http://{shown}:{port}", flush=True)

    @property
    def failed(self) -> bool:
        """Whether something went wrong between the port and the first request, such as with what is restored."""
        return bool(getattr(getattr(self, "lifespan", None), "startup_failed", False))

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self.broken is not None

    @property
    def broken(self) -> str | None:
        """Why the model can run no more; None as long as it can."""
        app: Any = self.config.app
        why: str | None = app.state.server.worker.faults.broken
        return why

    async def shutdown(self, sockets=None) -> None:  # type: ignore[no-untyped-def]
        app: Any = self.config.app
        app.state.server.end_soon()
        await super().shutdown(sockets)


@contextmanager
def _kept(settings: Settings) -> Iterator[None]:
    """Holds what is kept on the disk, which is another server's where that runs: told before a model is loaded."""
    with ExitStack() as held:
        if (folder := settings.snapshots) is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise InfinipotError(f"{folder} cannot be written ({error.strerror})") from None
            held.enter_context(lock.held(folder / ".lock", str(folder)))
        if (events := settings.events_path) is not None:
            held.enter_context(lock.held(events.with_name(f"{events.name}.lock"), str(events)))
        yield


def _require_port(settings: Settings) -> None:
    """A port that is taken is told before a model is loaded."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        raise _taken(settings, f" ({error.strerror or error})") from None


def _taken(settings: Settings, why: str = "") -> InfinipotError:
    """The error that says that the port cannot be listened on."""
    return InfinipotError(
        f"port {settings.port} of {settings.host} is not available{why}: give another --port, or 0 for a free one"
    )


def _require_room(settings: Settings, model: Model) -> int:
    """Returns the bytes of a stream that says nothing of itself.

    A total that holds not even one, or settings of one that cannot be, are told at the start.
    """
    given = settings.stream
    if settings.demo and given["memory"] is None:
        given["memory"] = demo.MEMORY
    needed = model.stream_bytes(**given) + settings.limits.pictures
    if needed > settings.memory_total:
        raise InfinipotError(
            f"--memory-total is {settings.memory_total:,} bytes, and a stream takes {needed:,}: give {needed} or more, "
            "such as 2GiB, or a smaller --memory"
        )
    model.stream(**given).close()  # raises where no stream with these settings could be opened
    return needed


def _memory(model: Model) -> int | None:
    """Bytes of the memory of the device that streams are held on, whoever uses it; None where nothing tells."""
    if model.device.type == "cuda":
        return torch.cuda.get_device_properties(model.device).total_memory
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if model.device.type == "cpu" else None
    return None


def _warn(settings: Settings, model: Model) -> None:
    there = _memory(model)
    if there is not None and settings.memory_total > there:
        message = (
            f"--memory-total is {settings.memory_total:,} bytes, and {model.device} has {there:,} in all: "
            "streams may be opened for which there is no memory"
        )
        logs.event(logging.getLogger(__name__), message, logging.WARNING)
    if settings.api_keys is None and settings.host not in LOOPBACK:
        message = f"anyone who can reach {settings.host} can use this server: set --api-keys"
        logs.event(logging.getLogger(__name__), message, logging.WARNING)


def _tell_writing(settings: Settings, needed: int) -> None:
    """Logs how many bytes snapshots write a day: memory cards, for one, wear out."""
    if settings.snapshots is not None:
        a_day = needed * 86_400 / settings.snapshot_seconds
        message = (
            f"a stream of {needed / 1e6:,.0f} MB that is saved every {settings.snapshot_seconds:g} s writes up to "
            f"{a_day / 1e9:,.1f} GB a day, and twice its size has to be free: see --snapshot-seconds"
        )
        logs.event(logging.getLogger(__name__), message)
