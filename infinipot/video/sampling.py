"""Chooses the pictures shown at the sampled times of a video. Knows times only: nothing of pixels or files."""

from collections import deque
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

_WRONG = 4
"""Pictures in a row whose stamps may all be wrong, while the clock is still seen to go on after them."""

_SUDDEN = 1.0
"""Seconds that a picture has to come late for more than the next one to be looked at: each is held until its turn."""

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
    """The end of a part of a video, in seconds since the video's first picture.

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

    A picture without a time stamp is due when its predecessor's duration is over. So is one whose stamp is wrong: it
    lies before its predecessor's or far after it, or after that of its successor, and one of the next stamps goes on
    from its predecessor's. So is one of three or more in a row with the same stamp. Where no stamp goes on from those
    before, they jumped for good (streams that were glued together, a camera's clock that was set), and the clock goes
    on from where it was. Reads one picture ahead, a few where a stamp looks wrong.

    Args:
        stamped: `(time stamp or None, duration, content)` in order of presentation, in seconds.
        origin: the stamp that is time 0; the first picture's, if not given.
        longest: seconds that a picture stays at most: what lies further ahead is a jump.
        jumped: called with the time, and by how many seconds the stamp is off, where one is not as it was due.
    """
    previous, usual = 0.0, None  # usual: how long the predecessor stays; where it says too much, one before it
    first, stands, latest = True, False, None  # stands: the clock does, at the latest stamp
    ahead = _Ahead(stamped)
    for stamp, duration, content in ahead:
        due = 0.0 if first else previous + (min(duration, longest) if usual is None else usual)
        time = due
        if stamp is not None:
            origin = stamp - due if origin is None else origin
            time = stamp - origin
            stands = stamp == latest and (stands or stamp in ahead.stamps(1))
            latest = stamp
            if stands:
                by, time = time - due, due
                if abs(by) > TOLERANCE:
                    jumped(due, by)
            elif (right := _right(time, previous, due, first, longest, origin, ahead)) is not None:
                jumped(due, time - due)
                time = right if first else min(due, right)
            elif time < previous or (time > previous + longest and not first):
                jumped(due, time - due)
                origin, time = stamp - due, due
        yield Picture(time, min(duration, longest), content)
        usual = duration if duration <= longest else usual  # MP4 has a clock that jumped as a picture that stays
        first, previous = False, time


def _right(
    time: float, previous: float, due: float, first: bool, longest: float, origin: float, ahead: "_Ahead[Any]"
) -> float | None:
    """Returns the time of the stamp ahead that shows that of this picture to be wrong, or None where none does."""
    back = time < previous and not first
    most = _WRONG if back or (time > due + _SUDDEN and not first) else 1
    limit = previous + longest if back else time
    return next((stamp - origin for stamp in ahead.stamps(most) if previous < stamp - origin < limit), None)


class _Ahead(Generic[T]):
    """Pictures, one after the other, and the stamps of those ahead, which are read when they are looked at."""

    def __init__(self, pictures: Iterable[tuple[float | None, float, T]]) -> None:
        self._pictures = iter(pictures)
        self._held: deque[tuple[float | None, float, T]] = deque()

    def __iter__(self) -> Iterator[tuple[float | None, float, T]]:
        while self._held or self._read():
            yield self._held.popleft()

    def stamps(self, most: int) -> Iterator[float]:
        """Yields the stamps of so many pictures ahead at the most; those without are left out."""
        for place in range(most):
            if place == len(self._held) and not self._read():
                return
            stamp = self._held[place][0]
            if stamp is not None:
                yield stamp

    def _read(self) -> bool:
        """Reads one more picture; tells whether there was one."""
        picture = next(self._pictures, None)
        if picture is not None:
            self._held.append(picture)
        return picture is not None


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

    Each picture comes once, at its own time, so there are fewer where several instants are nearest to one. Of two that
    are equally near, the later one is taken. Pictures at a steady rate, `first` and `last` their first and last one,
    all come where they are fewer than `count`; else those of index `round(k * (pictures - 1) / (count - 1))`, k = 0, 1,
    ..., and one instant alone is `first`. That is what qwen-vl-utils takes
    (`torch.linspace(0, pictures - 1, count).round()`); other readers round down.
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
    """Yields each picture and the time of the one after it, None after the last."""
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
