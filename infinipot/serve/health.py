"""Whether the server is there, what it serves, and what it counts."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

import infinipot
from infinipot.serve.errors import ApiError, require_model
from infinipot.serve.server import Server, server_of

router = APIRouter(tags=["server"])


@router.get("/health")
@router.get("/ping", include_in_schema=False)
@router.get("/v1/health/live", include_in_schema=False)
@router.get("/v1/live", include_in_schema=False)
async def health(request: Request) -> Response:
    """200 while the model can run."""
    _require_model(server_of(request))
    return JSONResponse({"status": "ok"})


@router.get("/ready")
@router.get("/v1/health/ready", include_in_schema=False)
@router.get("/v1/ready", include_in_schema=False)
@router.get("/v1/startup", include_in_schema=False)
async def ready(request: Request) -> Response:
    """200 once streams were restored, until the server shuts down."""
    server = server_of(request)
    _require_model(server)
    if not server.ready:
        raise ApiError(503, "the server is starting or shutting down", "not_ready")
    return JSONResponse({"status": "ready"})


@router.get("/version")
@router.get("/v1/version", include_in_schema=False)
async def version() -> dict[str, str]:
    """The version of infinipot."""
    return {"version": infinipot.__version__}


@router.get("/metrics")
@router.get("/v1/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """The metrics, in Prometheus' text format."""
    return Response(server_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The model that is served."""
    return {"object": "list", "data": [_model(request)]}


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> dict[str, Any]:
    """One model by its id."""
    require_model(name, server_of(request).settings.model)
    return _model(request)


def _require_model(server: Server) -> None:
    """Raises `ApiError` 503 where the model can run no more, before the process ends or where it does not end."""
    if (why := server.worker.faults.broken) is not None:
        message = f"the model's device can no longer be used ({why}): start the server again"
        raise ApiError(503, message, "device_lost")
    if not server.worker.alive:
        raise ApiError(503, "the thread that runs the model has ended", "worker_ended")


def _model(request: Request) -> dict[str, Any]:
    server = server_of(request)
    described = {"id": server.settings.model, "object": "model", "created": int(server.started)}
    return {**described, "owned_by": "infinipot"}
