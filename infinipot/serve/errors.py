"""Errors as clients of OpenAI's API read them: `{"error": {"message", "type", "param", "code"}}` and a status."""

import logging
from typing import Any

from infinipot.errors import InfinipotError, NumericalError, SnapshotError
from infinipot.serve.logs import event

logger = logging.getLogger(__name__)
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """Something that a client is told.

    Args:
        status: of HTTP.
        message: in a line, what was given and what would work.
        code: for programs, such as "stream_not_found".
        param: the field that is meant.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        message = message.encode("utf-8", "backslashreplace").decode()  # it may repeat what is half of a character
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        # Nobody's connection is kept, nor is what is left of a body read that is too long, or too slow.
        self.headers = (headers or {}) | ({"Connection": "close"} if status in (401, 408, 413) else {})

    @property
    def kind(self) -> str:
        """OpenAI's type of error."""
        return _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def require_model(asked: str | None, served: str) -> None:
    """Raises `ApiError` 404 where a request names another model than the one that is served."""
    if asked not in (None, served):
        message = f"this server has the model {served!r}, not {str(asked)[:100]!r}"
        raise ApiError(404, message, "model_not_found", param="model")


def report(error: BaseException, **known: Any) -> ApiError:
    """The error that a client is sent.

    One that nobody raised on purpose says only that the server failed, and is logged with its trace.

    Args:
        error: that ended what the client wanted.
        known: what the log has besides it and the request's id, such as the stream.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, NumericalError | SnapshotError):
        return ApiError(500, " ".join(str(error).split()), type(error).__name__)
    if isinstance(error, InfinipotError):
        return ApiError(400, " ".join(str(error).split()), type(error).__name__)
    event(logger, "an unexpected error", logging.ERROR, error, **known)
    return ApiError(500, "the server failed at this request; its log has more under the request id", "internal_error")
