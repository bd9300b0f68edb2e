"""Which calls share the next step, answers that somebody waits for or frames, and how much it holds. Knows no model and
no clock.

A step that is under way is waited for, and one that holds much takes long. So frames go in short steps, and a call of a
lane in which somebody waits for an answer, a frame ahead of the question too, goes in a step that holds nothing else.
Frames are not put off for good: steps of the two kinds take turns, by the seconds that they took.

Shorter steps make questions wait for longer, by perf/serve_steps.py: less is packed, so frames fall behind, and among
them those that a question has to wait for.
"""

from collections.abc import Sequence
from typing import TypeVar

C = TypeVar("C")
_TICK = 0.02  # seconds that a step with frames takes, where there are more to go
_LEAD = 0.02  # seconds that answers may be ahead by: an answer begins before frames have their turn
_SMOOTH = 0.2  # weight of the newest step


class Schedule:
    """Chooses what goes into each step.

    Args:
        most: tokens of a step.
        tick: seconds of a step with frames. Where even an empty step takes long, as that of a large model does, one
            that does as much again is not much longer: it may take twice as long as an empty one.
    """

    def __init__(self, most: int, tick: float = _TICK) -> None:
        self._most, self._tick = most, tick
        self._call = 0.0  # seconds of a frame's call that runs over nothing
        self._cost = Cost()
        self._lead = 0.0  # seconds that answers are ahead by, since frames have waited beside them
        self._step = 0.0  # seconds of a step with frames
        self._urgent = False

    @property
    def tokens(self) -> int:
        """Tokens that a step with frames has room for; one call has its turn in any case."""
        fixed, each = self._cost.line
        if not each:
            return 1
        return max(1, min(self._most, int(max(self._tick - fixed, fixed) / each)))

    @property
    def calls(self) -> int:
        """Calls that a step with frames has room for; what they take is found out by one."""
        return max(1, int(self._tick / self._call)) if self._call else 1

    def choose(self, urgent: Sequence[C], others: Sequence[C]) -> tuple[list[C], int]:
        """The calls of the next step, and the tokens that it may run over.

        Args:
            urgent: calls that somebody waits for.
            others: those of all other lanes, the oldest first.
        """
        if not (urgent and others):
            self._lead = 0.0
        self._urgent = bool(urgent) and not (others and self._lead > max(self._step, _LEAD))
        return (list(urgent), self._most) if self._urgent else (list(others[: self.calls]), self.tokens)

    def took(self, calls: int, tokens: int, seconds: float) -> None:
        """Notes what the step that was chosen last ran over, and what it took."""
        if self._urgent:
            self._lead += seconds
            return
        self._lead -= seconds
        self._step = _smooth(self._step, seconds)
        if tokens:
            self._cost.add(tokens, max(seconds - calls * self._call, 0.0))
        else:
            self._call = _smooth(self._call, seconds / calls)


class Cost:
    """The duration of steps as a linear function of their size: least squares, with more weight on newer steps."""

    def __init__(self) -> None:
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Records a step of so many tokens and its duration."""
        decay = 1 - _SMOOTH
        self._weight = decay * self._weight + 1
        self._tokens = decay * self._tokens + tokens
        self._seconds = decay * self._seconds + seconds
        self._squares = decay * self._squares + tokens * tokens
        self._products = decay * self._products + tokens * seconds

    @property
    def line(self) -> tuple[float, float]:
        """Seconds of a step that holds nothing, and of each token; 0 and the mean where all steps were of one size."""
        if not self._weight:
            return 0.0, 0.0
        spread = self._weight * self._squares - self._tokens**2
        slope = (self._weight * self._products - self._tokens * self._seconds) / spread if spread > 1e-9 else 0.0
        fixed = (self._seconds - slope * self._tokens) / self._weight
        if slope <= 0 or fixed < 0:
            return 0.0, self._seconds / self._tokens
        return fixed, slope


def _smooth(before: float, now: float) -> float:
    return now if not before else (1 - _SMOOTH) * before + _SMOOTH * now
