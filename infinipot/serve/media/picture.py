"""A frame as the server keeps it: with a picture of it that is small enough to be shown beside what a memory holds."""

from dataclasses import dataclass, replace
from typing import Self

from infinipot.video import Frame


@dataclass(frozen=True, slots=True, eq=False)
class Picture(Frame):
    """A frame and a small picture of it.

    Attributes:
        small: a JPEG, made where the frame was decoded: it takes time that the event loop has not.
    """

    small: bytes

    def at(self, time: float) -> Self:
        """The same with another time, in seconds."""
        return replace(self, time=time)
