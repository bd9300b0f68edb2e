"""Failures at a chosen place: exceptions, and Ctrl-C."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def hearing_ctrl_c() -> Iterator[None]:
    """Inside, SIGINT raises KeyboardInterrupt; a shell's background jobs start deaf to it, and so do their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Boom(BaseException):
    """Neither an Exception nor anything that one would catch: like Ctrl-C."""


def fail_at(patch: pytest.MonkeyPatch, owner: object, name: str, countdown: int) -> None:
    """Makes the `countdown`th call of a method raise."""
    method: Callable = getattr(owner, name)
    left = [countdown]

    def failing(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            raise Boom
        return method(*args, **kwargs)

    patch.setattr(owner, name, failing)
