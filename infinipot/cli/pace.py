"""Frames, or pieces of sound, at the pace of their own times. Knows clocks, nothing of models or terminals."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from infinipot import Frame, Sound

Given = TypeVar("Given", bound="Frame | Sound")


def at_own_pace(video: Iterable[Given], wait: Callable[[float], object] = time.sleep) -> Iterator[Given]:
    """Yields each frame no earlier than its time after the first one; a watcher who is late catches up.

    Args:
        video: the frames, or the pieces of sound, each of which is there when it ends.
        wait: waits for a number of seconds, or for as long as it wants.
    """
    offset: float | None = None
    for frame in video:
        if offset is None:
            offset = time.monotonic() - frame.end
        early = offset + frame.end - time.monotonic()
        if early > 0:
            wait(early)
        yield frame
