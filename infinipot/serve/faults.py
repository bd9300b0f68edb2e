"""Errors of the model that nobody raised on purpose: told in the log, and whether its devices can still be used."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from infinipot.errors import InfinipotError
from infinipot.serve.lane import GoneError

logger = logging.getLogger(__name__)
_QUIET = 60.0  # seconds between two lines of the log about errors of one type


class Faults:
    """Records the faults of a model, from any thread.

    Args:
        reach: waits for the model's devices; raises if one of them can no longer be used.

    Attributes:
        broken: why the model cannot run in this process any more; None as long as it can.
    """

    def __init__(self, reach: Callable[[], object]) -> None:
        self.broken: str | None = None
        self._reach = reach
        self._told: dict[type[BaseException], float] = {}

    def note(self, done: "Future[Any]") -> None:
        """Notes how a job has ended. What is raised on purpose, and what a disk refuses, its caller tells."""
        error = None if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, InfinipotError | GoneError | OSError):
            self.take(error)

    def take(self, error: BaseException) -> None:
        """Logs an error, once a minute for each type, and finds out whether the devices outlived it.

        A device that is full does. After an illegal access to its memory every call fails until the process ends.
        """
        now = time.monotonic()
        if now - self._told.get(type(error), -_QUIET) >= _QUIET:
            self._told[type(error)] = now
            logger.error("the model failed", exc_info=error)
        if self.broken is not None:
            return
        try:
            self._reach()
        except Exception as lost:
            self.broken = str(lost).partition("\n")[0]
            logger.critical("the model's device can no longer be used: %s", self.broken)
