"""The parent's end of a decoding process: starts it, reads its pictures, ends it. Knows nothing of retries."""

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from infinipot import interpreter
from infinipot.camera.address import Place
from infinipot.camera.decoding import ALIVE, ENDED, FAILED, HEADER, OPENED, PICTURE
from infinipot.errors import VideoError

_PATIENCE = 1.0  # seconds that a process is given to end by itself
_LARGEST = 1 << 28  # bytes of a message


class Over(Exception):  # noqa: N818  # no error: a file that was played as if live has ended
    """There is nothing more to come."""


class Shot(NamedTuple):
    """A decoded picture from the process.

    Attributes:
        instant: when, by `time.monotonic`; where it came late, when it would have come without a delay.
        image: `[height, width, 3]` uint8, RGB.
    """

    instant: float
    image: np.ndarray


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds to wait: for a camera to open, and for the next picture."""

    opening: float = 10.0
    silence: float = 20.0


class DecoderProcess:
    """The pictures of one connection to a camera, decoded by another process.

    Args:
        place: what is opened.
        waits: for how long nothing may come.
        fps: pictures a second that it sends at most; None for all.
        pixels: of a picture at most.
        loop: whether a file begins again at its end.

    Attributes:
        opened: whether the camera answered.

    Raises:
        VideoError: this system has no way to wait for a pipe.
    """

    def __init__(self, place: Place, waits: Waits, fps: float | None, pixels: int, loop: bool) -> None:
        if not hasattr(select, "poll"):
            raise VideoError(f"cameras can be watched on Linux and macOS, not on {sys.platform}")
        self.opened = False
        self._name, self._waits = place.name, waits
        self._process = subprocess.Popen(
            interpreter.command("infinipot.camera.decoding"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # FFmpeg's messages show addresses with their passwords
            env=interpreter.environment(),
            start_new_session=True,  # Ctrl-C is for the parent
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._told, self._tells = self._process.stdin, self._process.stdout
        self._say(  # not an argument: those of a process can be read by everybody
            {
                "target": place.target,
                "format": place.format,
                "options": dict(place.options),
                "timeouts": (waits.opening, waits.silence),
                "fps": fps,
                "pixels": pixels,
                "paced": place.file,
                "loop": loop,
            }
        )

    def next(self) -> Shot:
        """Waits for the next picture.

        Raises:
            Over: a file ended.
            VideoError: nothing came in time, or the camera failed or ended.
        """
        while True:
            limit = self._waits.silence if self.opened else self._waits.opening
            deadline = time.monotonic() + limit
            try:
                kind, height, width, instant, length = HEADER.unpack(self._read(HEADER.size, deadline))
                body = self._read(length, deadline)
            except TimeoutError:
                what = "no picture" if self.opened else "no answer"
                raise VideoError(f"{what} within {limit:g} s") from None
            if kind == OPENED:
                self.opened = True
            elif kind == PICTURE:
                return Shot(instant, np.frombuffer(body, np.uint8).reshape(height, width, 3))
            elif kind == ALIVE:
                continue
            elif kind == FAILED:
                raise VideoError(body.decode(errors="replace"))
            elif kind == ENDED and body:
                raise Over
            else:
                raise VideoError("the camera's stream ended")

    def use_fps(self, fps: float | None) -> None:
        """Changes the rate."""
        self._say({"fps": fps})

    def stop(self) -> None:
        """Ends the process at once; whoever waits in `next` gets an error. May be called from any thread, and twice."""
        with suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """Ends the process and gives everything back."""
        self.stop()
        with suppress(OSError):
            self._told.close()
        self._tells.close()
        with suppress(subprocess.TimeoutExpired):  # one that a driver holds cannot even be killed
            self._process.wait(_PATIENCE)

    def _say(self, what: dict[str, object]) -> None:
        with suppress(OSError, ValueError):  # it has ended; `next` will tell
            self._told.write(json.dumps(what).encode() + b"\n")
            self._told.flush()

    def _read(self, length: int, deadline: float) -> bytearray:
        """Reads exactly so many bytes; raises `TimeoutError` where they do not come before an instant."""
        if length > _LARGEST:
            raise VideoError("the process that decodes it failed")
        held = bytearray(length)
        rest = memoryview(held)
        poll = select.poll()
        poll.register(self._tells, select.POLLIN)
        while rest:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            count = os.readv(self._tells.fileno(), [rest])
            if not count:
                raise VideoError("the process that decodes it failed")
            rest = rest[count:]
        return held
