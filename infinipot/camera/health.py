"""The health of a camera: whether pictures come, how late they are, and when none came. Knows nothing of decoding."""

from dataclasses import asdict, dataclass
from datetime import datetime
from math import inf
from time import monotonic, time
from typing import Any, Literal

_SET = 1.0  # seconds by which the machine's clock has to be off for it to have been set, rather than measured again

State = Literal["opening", "live", "frozen", "gone", "over", "closed"]


class Clock:
    """Seconds since it was made, and what time of the day they were.

    The seconds are those of a clock that only goes forward, so that setting the machine's clock, by hand or by a time
    server, moves no picture and makes no gap. The times of the day follow it: a machine without a battery for its clock
    learns what day it is only once its cameras are open.

    A world that is drawn here can wait for those who watch it: where it does, its clock waits with it.

    Args:
        speed: how many seconds pass on it in one; at the most, where it is held back.

    Attributes:
        limit: seconds that it does not pass before it is told to.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self.begun = self._made = monotonic()
        self._day = time()  # when it was made
        self.limit = inf

    def now(self) -> float:
        """Seconds since it was made."""
        return min(self.at(monotonic()), self.limit)

    def hold(self, seconds: float) -> None:
        """Holds the clock back, as if it had stood still for so many seconds of real time."""
        self.begun += seconds

    def at(self, instant: float) -> float:
        """Seconds since it was made, at an instant of `time.monotonic`."""
        return round(max(0.0, instant - self.begun) * self.speed, 6)

    def wall(self, seconds: float) -> datetime:
        """The wall-clock time, in the machine's zone and by its clock as it is set now."""
        day = time() - (monotonic() - self._made)
        if abs(day - self._day) > _SET:
            self._day = day
        return datetime.fromtimestamp(self._day + seconds / self.speed).astimezone()


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without a picture.

    Attributes:
        start: when the last picture before it came, in the camera's seconds; 0 where there was none.
        end: when the next one came, or None while it lasts.
        why: what happened, in a few words.
        since, until: the same as times of the day.
    """

    start: float
    end: float | None
    why: str
    since: datetime
    until: datetime | None

    def __str__(self) -> str:
        begin = f"{self.since:%H:%M}"
        if self.until is None:
            return f"no picture since {begin} ({self.why})"
        end = f"{self.until:%H:%M}"
        if begin == end:
            begin, end = f"{self.since:%H:%M:%S}", f"{self.until:%H:%M:%S}"
        return f"no picture from {begin} to {end} ({self.why})"

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        days = {"since": self.since.isoformat(), "until": self.until and self.until.isoformat()}
        return asdict(self) | days | {"text": str(self)}


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a camera.

    Attributes:
        state: "opening" before the first picture; "live"; "frozen", where the same picture comes again and again;
            "gone" while it is tried again; "over" for a file that ended; "closed".
        trouble: what is wrong, in a few words; empty while it is live.
        lag: seconds since the newest picture came, or would have come from a camera over RTSP if its decoder were not
            behind; None before the first.
        width, height: of the newest picture in pixels; 0 before the first.
        pictures: how many came.
        connections: how often the camera was opened with success.
        gaps: the newest times without a picture, oldest first, the present one included.
    """

    state: State
    trouble: str
    lag: float | None
    width: int
    height: int
    pictures: int
    connections: int
    gaps: tuple[Gap, ...]

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return asdict(self) | {"gaps": [gap.as_dict() for gap in self.gaps]}
