"""Frames at the pace of their own times. Knows clocks, nothing of models or terminals."""

import time
from collections.abc import Callable, Iterable, Iterator

from infinipot import Frame


def at_own_pace(video: Iterable[Frame], wait: Callable[[float], object] = time.sleep) -> Iterator[Frame]:
    """Yields each frame no earlier than its time after the first one; a watcher who is late catches up.

    Args:
        video: the frames.
        wait: waits for a number of seconds, or for as long as it wants.
    """
    offset: float | None = None
    for frame in video:
        if offset is None:
            offset = time.monotonic() - frame.time
        early = offset + frame.time - time.monotonic()
        if early > 0:
            wait(early)
        yield frame
