"""Measures the delay of a live camera, and skips pictures until the decoder has caught up. Knows times only.

What a camera has sent waits in the buffers of the network until it is decoded. A decoder that is too slow shows old
pictures, and nothing but their time stamps tells. Those are of the camera's own clock, which may go too fast or too
slow, and may be set. But whoever has to wait for a camera is not behind it, whatever the stamps say.
"""

from math import inf

_MOST = 3.0  # seconds by which pictures may be late before some are left out
_NEARLY = 1.0  # seconds by which a key picture may be late to be decoded again, and those after it
_READ = 0.005  # seconds that reading a coded picture takes, mostly, which is there already
_WAIT = 0.2  # seconds that a camera takes from one picture to the next, mostly: a longer wait tells nothing of clocks
_BACK = 1.0  # seconds that a stamp goes back where the clock was set; the order of coding goes back less


class Backlog:
    """Compares when coded pictures were read with their time stamps.

    Attributes:
        late: seconds by which the last one was read later than it might have been. The measure is the one that came
            soonest after its stamp. For as many seconds as the next picture was waited for since, being late is taken
            for a difference of the clocks.
    """

    def __init__(self) -> None:
        self.late = 0.0
        self._lead = inf  # from a stamp to when a picture of this stamp can be here
        self._newest = -inf
        self._leaving_out = False

    def note(self, stamp: float, now: float, waited: float) -> None:
        """Records a coded picture.

        Args:
            stamp: seconds of the camera's clock.
            now: when it was read, in seconds.
            waited: seconds that reading it took.
        """
        if stamp < self._newest - _BACK:
            self._lead = now - stamp - self.late
            self._newest = stamp
        self._newest = max(self._newest, stamp)
        since = now - self._newest
        self._lead = min(since, self._lead + min(max(0.0, waited - _READ), _WAIT))
        self.late = since - self._lead

    def leaves_out(self, *, key: bool) -> bool:
        """Whether the coded picture that was noted last is not to be decoded.

        Reading is much quicker than decoding, so that all that waits is soon gone through.

        Args:
            key: whether it can be decoded without those before it, so that one may begin with it.
        """
        if self.late > _MOST:
            self._leaving_out = True
        elif key and self.late < _NEARLY:
            self._leaving_out = False
        return self._leaving_out
