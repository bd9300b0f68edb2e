"""Chooses which pictures to take, at most so many a second. Knows times only."""

from math import inf


class Rate:
    """Takes a picture when one is due, which is a period after the last one was.

    One that comes late is followed by one that is on time: of a source that stutters as many are taken as of one that
    does not. After a pause of two periods, and at the beginning, the count begins anew.

    Args:
        fps: pictures a second; None for all that come.
        early: of a period, how much too early a picture may come. So those are taken that were at the same rate before,
            though some are on their way for longer than others.
    """

    def __init__(self, fps: float | None, early: float = 0.0) -> None:
        self._period = 1 / fps if fps else 0.0
        self._early = early * self._period
        self._due = -inf

    def takes(self, now: float) -> bool:
        """Whether the picture that comes at this instant, in seconds, is one of them."""
        if now < self._due - self._early:
            return False
        following = self._due + self._period
        self._due = max(following, now) if now < following + self._period else now + self._period
        return True
