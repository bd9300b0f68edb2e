"""When an answer that changes is an event: at the edge, believed, not too soon after the last. Knows times only."""

from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True)
class Trigger:
    """Decides from verdicts, in order of time, which make events.

    An answer has to come several times in a row to be believed (hysteresis); only the change to what is waited for is
    an event (edge-triggered); and none comes within the cool-down of another.

    Attributes:
        on_after, off_after: verdicts in a row that it takes.
        cooldown: seconds.
        state: what is believed.
        streak: verdicts in a row that speak against it.
        last: when the last event was.
    """

    on_after: int = 1
    off_after: int = 1
    cooldown: float = 0.0
    state: Literal["unknown", "on", "off"] = "unknown"
    streak: int = 0
    last: float | None = None

    def take(self, verdict: bool | None, time: float) -> bool:
        """Takes a verdict, None for one that says nothing; returns whether it makes an event."""
        if verdict is None:
            return False
        towards: Literal["on", "off"] = "on" if verdict else "off"
        if self.state == towards:
            self.streak = 0
            return False
        self.streak += 1
        if self.state == "unknown" and towards == "off":
            self.state, self.streak = "off", 0
            return False
        if self.streak < (self.on_after if verdict else self.off_after):
            return False
        self.state, self.streak = towards, 0
        if towards == "off" or (self.last is not None and time - self.last < self.cooldown):
            return False
        self.last = time
        return True
