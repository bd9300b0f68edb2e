"""Logs of a server: one JSON object a line on stderr, with the id of the request that it is about.

What stands in them was chosen here: no bodies, no queries, no keys.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered."""

_FIELDS = "fields"
_LOGGERS = ("infinipot", "uvicorn", "asyncio", "concurrent.futures")


def event(
    logger: logging.Logger, what: str, level: int = logging.INFO, trace_of: BaseException | None = None, **fields: Any
) -> None:
    """Logs that something happened, with what is known of it, and the trace of an error."""
    logger.log(level, what, exc_info=trace_of, extra={_FIELDS: fields})


class JsonLines(logging.Formatter):
    """A record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if request := REQUEST_ID.get():
            fields["request_id"] = request
        fields |= getattr(record, _FIELDS, {})
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


@contextmanager
def to_stderr(level: str = "info") -> Iterator[None]:
    """Sends the logs of the server, uvicorn and the libraries below to stderr; restores the loggers at the end.

    Nobody else may log with the handler: what stderr is then may be closed.

    Args:
        level: of the least lines, by its name; uvicorn says little of use below a warning.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    least = logging.getLevelNamesMapping()[level.upper()]
    levels = {**dict.fromkeys(_LOGGERS, least), "uvicorn.error": max(least, logging.WARNING)}
    before = {}
    for name, wanted in levels.items():
        logger = logging.getLogger(name)
        before[logger] = logger.handlers, logger.propagate, logger.level
        logger.setLevel(wanted)
        if name in _LOGGERS:
            logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, (handlers, propagate, was) in before.items():
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(was)
