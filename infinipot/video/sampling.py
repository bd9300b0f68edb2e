"""Which pictures of a video are shown at which instants. Knows times only: nothing of pixels or files."""

from collections.abc import Iterable, Iterator
from itertools import count
from math import inf
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

TOLERANCE = 1.1e-3
"""Seconds by which a picture may be late and still count as on show: Matroska and FLV round times to
milliseconds, so that the difference of two of them can be a whole one off."""

_TIE = 1e-6
"""Seconds by which two distances may differ and still count as equal."""


class Picture(NamedTuple, Generic[T]):
    """One picture of a source.

    Attributes:
        time: when it comes on show, in seconds since the video's first picture.
        duration: how long it is meant to stay, in seconds; counts for the last picture only.
        content: the picture itself, in whatever form its source has it.
    """

    time: float
    duration: float
    content: T


def timed(stamped: Iterable[tuple[float | None, float, T]], origin: float | None = None) -> Iterator[Picture[T]]:
    """Puts pictures on the video's clock, which starts at 0 and never runs backwards.

    A picture without a time stamp, or with one before its predecessor's (streams that were glued together),
    is due when its predecessor's duration is over.

    Args:
        stamped: `(time stamp or None, duration, content)` in order of presentation, in seconds.
        origin: the stamp that is time 0; the first picture's, if not given.
    """
    previous = due = 0.0
    for stamp, duration, content in stamped:
        if stamp is not None and origin is None:
            origin = stamp - due
        time = due if stamp is None or origin is None else stamp - origin
        if time < previous:
            time = due
        yield Picture(time, duration, content)
        previous, due = time, time + duration


def sample(
    pictures: Iterable[Picture[T]], fps: float | None, start: float = 0.0, end: float = float("inf")
) -> Iterator[tuple[float, T]]:
    """Yields `(time, content)` of the pictures on show at `start + k / fps`, k = 0, 1, ..., before `end`.

    A picture stays on show until the next one comes, the last one for its duration. One that stays longer
    than `1 / fps` is yielded again (sample and hold); one that came and went between two instants is not.
    With `fps=None` every picture in `[start, end)` is yielded once, at its own time; of several with the same
    time only the last, so that times always increase.

    Holds one picture, and reads at most two past the last that it yields.
    """
    if fps is None:
        for picture, until in _on_show(pictures):
            if picture.time >= end - TOLERANCE:
                return
            if picture.time >= start - TOLERANCE and until > picture.time:
                yield picture.time, picture.content
        return
    instants = (start + k / fps for k in count())
    instant = next(instants)
    for picture, until in _on_show(pictures):
        while instant < min(until, end) - TOLERANCE:
            yield instant, picture.content
            instant = next(instants)
        if instant >= end - TOLERANCE:
            return


def spread(pictures: Iterable[Picture[T]], count: int, first: float, last: float) -> Iterator[tuple[float, T]]:
    """Yields `(time, content)` of the pictures nearest to `count` instants, evenly from `first` to `last`.

    Each picture comes once, at its own time: where there are fewer than `count`, all of them do. Of two that are
    equally near, the later one is taken. Pictures at a steady rate, `first` and `last` their first and last one, are
    those of index `round(k * (pictures - 1) / (count - 1))`, k = 0, 1, ...; one instant alone is `first`. That is what
    qwen-vl-utils takes (`torch.linspace(0, pictures - 1, count).round()`); other readers round down.
    """
    step = (last - first) / (count - 1) if count > 1 else 0.0
    instants = iter([first + k * step for k in range(count)])
    instant = next(instants, inf)
    previous = -1.0
    for picture, following in _neighbours(pictures):
        middle = inf if following is None else (picture.time + following) / 2
        nearest = instant < middle - _TIE
        while instant < middle - _TIE:
            instant = next(instants, inf)
        if nearest and picture.time > previous:
            yield picture.time, picture.content
            previous = picture.time
        if instant == inf:
            return


def _neighbours(pictures: Iterable[Picture[T]]) -> Iterator[tuple[Picture[T], float | None]]:
    """Yields each picture and the time of the one behind it, None behind the last."""
    held: Picture[T] | None = None
    for picture in pictures:
        if held is not None:
            yield held, picture.time
        held = picture
    if held is not None:
        yield held, None


def _on_show(pictures: Iterable[Picture[T]]) -> Iterator[tuple[Picture[T], float]]:
    """Yields each picture and the time until which it is on show."""
    for picture, following in _neighbours(pictures):
        yield picture, picture.time + max(picture.duration, 2 * TOLERANCE) if following is None else following
