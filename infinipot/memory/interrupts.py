"""Holding Ctrl-C back for the moment in which the memory is half rewritten."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Inside, SIGINT is remembered rather than raised; it is raised on the way out.

    Only the main thread receives signals, so elsewhere there is nothing to hold.
    """
    previous = signal.getsignal(signal.SIGINT)
    # A handler that was not set from Python reads as None and could not be put back.
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield
        return
    caught: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if caught:
        signal.raise_signal(signal.SIGINT)
