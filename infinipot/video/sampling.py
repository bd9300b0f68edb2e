"""Which pictures of a video are shown at which instants. Knows times only: nothing of pixels or files."""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from math import inf
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

TOLERANCE = 1.1e-3
"""Seconds by which a picture may be late and still count as on show: Matroska and FLV round times to
milliseconds, so that the difference of two of them can be a whole one off."""

LONGEST = 600.0
"""Seconds that a picture stays on show at most. A screen capture may hold one for minutes; that nobody recorded
anything for longer is less likely than that a clock jumped."""

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


class Extent(NamedTuple):
    """Where a part of a video ends, in seconds since the video's first picture.

    Attributes:
        last: when its last picture comes on show.
        over: when that is over, or the part.
    """

    last: float
    over: float

    @classmethod
    def of(cls, pictures: "Iterable[Picture[Any]]", end: float) -> "Extent | None":
        """Returns where those pictures end that come before `end` seconds, or None where none does."""
        last = None
        for picture in pictures:
            if picture.time >= end - TOLERANCE:
                return last and cls(last.time, end)
            last = picture
        return last and cls(last.time, min(end, last.time + _least(last.duration)))


def timed(
    stamped: Iterable[tuple[float | None, float, T]],
    origin: float | None = None,
    longest: float = LONGEST,
    jumped: Callable[[float, float], None] = lambda time, by: None,
) -> Iterator[Picture[T]]:
    """Puts pictures on the video's clock, which starts at 0 and never runs backwards.

    A picture without a time stamp is due when its predecessor's duration is over, and so is one with a stamp that lies
    before its predecessor's, too far behind it, or behind its successor's where that goes on from its predecessor's.
    Where the next stamp agrees with those before, one was wrong and is passed over; where it does not, the stamps
    jumped for good (streams that were glued together, a camera's clock that was set), and the clock goes on from where
    it was. Reads one picture ahead.

    Args:
        stamped: `(time stamp or None, duration, content)` in order of presentation, in seconds.
        origin: the stamp that is time 0; the first picture's, if not given.
        longest: seconds that a picture stays at most: what lies further ahead is a jump.
        jumped: called with the time, and by how many seconds the stamp is off, where one is not as it was due.
    """
    previous, usual = 0.0, None  # usual: how long the predecessor stays; where it says too much, one before it
    first, before = True, None  # before: the origin and the last time before a jump, up to the next picture
    for (stamp, duration, content), following in _followed(stamped):
        due = 0.0 if first else previous + (min(duration, longest) if usual is None else usual)
        if stamp is not None and origin is None:
            origin = stamp - due
        time = due if stamp is None or origin is None else stamp - origin
        if stamp is not None and origin is not None:
            if before is not None:
                unjumped = stamp - before[0]
                if before[1] < unjumped <= before[1] + longest and abs(unjumped - due) <= abs(time - due):
                    origin, time = before[0], max(unjumped, previous)
            before = None
            if following is not None and previous < following - origin < time:
                jumped(due, time - due)
                time = following - origin if first else min(due, following - origin)
            elif time < previous or (time > previous + longest and not first):
                jumped(due, time - due)
                before, origin, time = (origin, previous), stamp - due, due
        yield Picture(time, min(duration, longest), content)
        usual = duration if duration <= longest else usual  # MP4 has a clock that jumped as a picture that stays
        first, previous = False, time


def _followed(
    stamped: Iterable[tuple[float | None, float, T]],
) -> Iterator[tuple[tuple[float | None, float, T], float | None]]:
    """Yields each picture with the stamp of the one behind it, None where there is none."""
    pictures = iter(stamped)
    picture = next(pictures, None)
    while picture is not None:
        behind = next(pictures, None)
        yield picture, None if behind is None else behind[0]
        picture = behind


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
        yield picture, picture.time + _least(picture.duration) if following is None else following


def _least(duration: float) -> float:
    """Returns how long the last picture is on show: long enough to count, whatever it is meant to be."""
    return max(duration, 2 * TOLERANCE)
