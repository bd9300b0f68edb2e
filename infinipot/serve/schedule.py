"""Which calls share the next step: answers that somebody waits for, or frames. Knows no model and no clock.

A step that is under way is waited for, and one that holds much takes long. So frames go in short steps, and a call of a
lane in which somebody waits for an answer, a frame ahead of the question too, goes in a step that holds nothing else.
Frames are not put off for good: steps of the two kinds take turns, by the seconds that they took.
"""

from collections.abc import Sequence
from typing import TypeVar

C = TypeVar("C")
_TICK = 0.02  # seconds that a step with frames takes, where there are more to go
_SMOOTH = 0.2  # weight of the newest step


class Schedule:
    """Chooses the calls of each step.

    Args:
        tick: seconds of a step with frames.
    """

    def __init__(self, tick: float = _TICK) -> None:
        self._tick = tick
        self._each = 0.0  # seconds of one frame's call in a step
        self._lead = 0.0  # seconds that answers are ahead by, since frames have waited beside them
        self._step = 0.0  # seconds of a step with frames
        self._urgent = False

    @property
    def most(self) -> int:
        """Calls that a step with frames has room for; what they take is found out by one."""
        return max(1, int(self._tick / self._each)) if self._each else 1

    def choose(self, urgent: Sequence[C], others: Sequence[C]) -> list[C]:
        """The calls of the next step.

        Args:
            urgent: calls of lanes in which somebody waits for an answer.
            others: those of all other lanes, the oldest first.
        """
        if not (urgent and others):
            self._lead = 0.0
        self._urgent = bool(urgent) and not (others and self._lead > self._step)
        return list(urgent if self._urgent else others[: self.most])

    def took(self, calls: int, seconds: float) -> None:
        """Notes what the step that was chosen last took."""
        if self._urgent:
            self._lead += seconds
            return
        self._lead -= seconds
        self._each = _smooth(self._each, seconds / calls)
        self._step = _smooth(self._step, seconds)


def _smooth(before: float, now: float) -> float:
    return now if not before else (1 - _SMOOTH) * before + _SMOOTH * now
