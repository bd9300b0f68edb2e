"""Tells a camera that hangs from one whose picture merely changes little. Knows one picture after the other only."""

import zlib

import numpy as np

from infinipot.camera.process import Shot


class Still:
    """Tells whether a picture has not changed for some time: cameras have noise, so that one that works never does.

    Args:
        longest: seconds; None to look at nothing.
    """

    def __init__(self, longest: float | None) -> None:
        self._longest = longest
        self._print: int | None = None
        self._same, self._last = 0.0, 0.0

    def frozen(self, shot: Shot) -> bool:
        """Whether this picture is, to the last bit, the one that has come for `longest` seconds.

        A camera that was away may come back with the picture it went with: time without any picture counts little.
        """
        if self._longest is None:
            return False
        checksum = zlib.crc32(np.ascontiguousarray(shot.image).data)
        since = min(shot.instant - self._last, self._longest / 4)
        self._same = self._same + since if checksum == self._print else 0.0
        self._print, self._last = checksum, shot.instant
        return self._same >= self._longest
