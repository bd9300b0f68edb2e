"""The process that decodes one camera: `python -m infinipot.camera.decoding`, started by `infinipot.camera.process`.

FFmpeg may hang where no time-out of its own reaches: in a decoder, in a name's look-up, in a driver. Only the end of
its process ends that. So it has one, which imports no tensor library.

In: a line of JSON, which says what to open and how; more lines change the rate. The end of the input ends the process.
Out: messages, each a header (see `HEADER`) and as many bytes as it says.
"""

import errno
import json
import os
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from infinipot.camera.backlog import Backlog
from infinipot.camera.rate import Rate
from infinipot.video.container import has_stamps, why
from infinipot.video.pixels import Converter, Orientation, orientation_of

HEADER = struct.Struct("<BIIdI")
"""Kind of the message, height and width, the instant (`time.monotonic`) that it is of, and bytes after it. A picture is
of the instant at which it would have come without a delay."""

OPENED, PICTURE, ALIVE, ENDED, FAILED = range(5)
"""Kinds of messages. After a picture come its pixels, row by row in RGB, after an end whether it was meant to come,
after a failure the reason. That a camera is alive is said of pictures that come and are not due."""

_DEFAULT_RATE = 25  # pictures a second of a file that says nothing of it
_ALIVE = 1.0  # seconds between two messages that a camera is alive, or a quarter of the time-out, if that is less
_LATE = 2.0  # seconds by which a file or playlist may be behind its pace before it goes on from where it is


@dataclass
class Settings:
    """The address to open, and the options. See `infinipot.camera.address.Place`.

    Attributes:
        timeouts: seconds to open, and to wait for data.
        fps: pictures a second that are sent at most; None for all.
        pixels: of a picture that is sent at most.
        paced: whether it is played at its own pace.
        loop: whether it begins again at its end.
        rate: which pictures are sent: those of `fps`, until the parent wants others.
    """

    target: str
    format: str | None
    options: dict[str, str]
    timeouts: list[float]
    fps: float | None
    pixels: int
    paced: bool
    loop: bool
    rate: Rate = field(init=False)

    def __post_init__(self) -> None:
        self.rate = Rate(self.fps)


class Pace:
    """Waits until a picture is due by its time stamp.

    Args:
        period: seconds from one picture to the next, where they have none.
    """

    def __init__(self, period: float) -> None:
        self._period, self._stamp = period, 0.0
        self._offset: float | None = None

    def wait(self, stamp: float | None) -> None:
        """Returns when it is time; what is late, or whose clock jumped, goes on from here."""
        now = time.monotonic()
        self._stamp = stamp = self._stamp + self._period if stamp is None else stamp
        if self._offset is None or not -_LATE < self._offset + stamp - now < 10 * _LATE:
            self._offset = now - stamp
        time.sleep(max(0.0, self._offset + stamp - now))


class Sender:
    """Writes messages to the parent."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def send(
        self, kind: int, body: bytes | memoryview = b"", height: int = 0, width: int = 0, late: float = 0.0
    ) -> None:
        """Writes one message. Without a parent there is nobody to write for."""
        try:
            self._out.write(HEADER.pack(kind, height, width, time.monotonic() - late, len(body)))
            self._out.write(body)
            self._out.flush()
        except OSError:
            os._exit(1)

    def picture(self, image: np.ndarray, late: float) -> None:
        """Writes a picture that comes so many seconds late."""
        height, width = image.shape[:2]
        self.send(PICTURE, image.data.cast("B"), height, width, late)


def decode(settings: Settings, sender: Sender) -> bool:
    """Sends pictures until the camera ends, and returns whether it was meant to; raises what ends it otherwise."""
    while True:
        with _open(settings) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream) or stream.codec_context is None:
                raise ValueError("it holds no video that can be decoded")
            stream.thread_type = "SLICE"  # frame threads hold back as many pictures as there are threads
            sender.send(OPENED)
            ends = settings.paced or (container.format.name != "rtsp" and bool(container.duration))
            paced = ends or container.format.name == "hls"  # a playlist comes several seconds at a time
            pace = Pace(1 / float(stream.average_rate or _DEFAULT_RATE)) if paced else None
            _play(container, stream, settings, sender, pace)
        if not (ends and settings.loop):
            return ends


def _open(settings: Settings) -> InputContainer:
    return av.open(
        settings.target,
        format=settings.format,
        options=settings.options,
        timeout=(settings.timeouts[0], settings.timeouts[1]),
        metadata_errors="replace",
    )


def _play(
    container: InputContainer, stream: VideoStream, settings: Settings, sender: Sender, pace: Pace | None
) -> None:
    converter, orientation, stamped = Converter(), Orientation(), has_stamps(container)
    alive = Rate(1 / min(_ALIVE, settings.timeouts[1] / 4))
    backlog, tells = Backlog(), container.format.name == "rtsp"  # other sources' stamps may be made up, by the picture
    for packet, waited in _timed(container.demux(stream)):
        if tells and packet.pts is not None and packet.time_base is not None:
            backlog.note(float(packet.pts * packet.time_base), time.monotonic(), waited)
        if backlog.leaves_out(key=packet.is_keyframe):
            continue
        try:
            pictures = stream.decode(packet)
        except av.error.EOFError:
            continue
        except av.FFmpegError:  # a part of the stream is damaged, such as by a packet that was lost
            continue
        for picture in pictures:
            if picture.is_corrupt:
                continue
            if pace is not None:
                pace.wait(picture.time if stamped else None)
            orientation = orientation_of(picture) or orientation
            if settings.rate.takes(now := time.monotonic()):
                sender.picture(orientation.upright(converter.rgb(picture, settings.pixels)), backlog.late)
            elif alive.takes(now):
                sender.send(ALIVE)


def _timed(packets: Iterable[Packet]) -> Iterator[tuple[Packet, float]]:
    """Each with the seconds that reading it took."""
    begun = time.monotonic()
    for packet in packets:
        yield packet, time.monotonic() - begun
        begun = time.monotonic()


def _obey(settings: Settings, lines: BinaryIO) -> None:
    """Follows the parent's commands from now on, and ends the process when the parent is gone."""
    with suppress(Exception):
        for line in lines:
            settings.rate = Rate(json.loads(line)["fps"])
    os._exit(0)


def main() -> None:
    """Decodes what the first line of the input says."""
    av.logging.set_level(None)
    said: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    settings, sender = Settings(**said), Sender(sys.stdout.buffer)
    threading.Thread(target=_obey, args=(settings, sys.stdin.buffer), daemon=True).start()
    try:
        sender.send(ENDED, b"over" if decode(settings, sender) else b"")
    except Exception as fault:
        sender.send(FAILED, _reason(fault, settings.format).encode())
    os._exit(0)  # the other thread still waits for its next line


def _reason(fault: Exception, device: str | None) -> str:
    """Describes the fault in a few words, without the address, which may hold a password.

    Args:
        fault: what was raised.
        device: FFmpeg's name for the kind of device that was opened, None for what is none.
    """
    if isinstance(fault, av.error.ExitError):
        return "no answer in time"
    if isinstance(fault, av.error.HTTPUnauthorizedError):
        return "user name or password refused"
    if device is not None:
        return _reason_of_device(fault, device)
    return why(fault)


def _reason_of_device(fault: Exception, device: str) -> str:
    if not any(device in names.split(",") for names in av.formats_available):
        return f"this build of PyAV cannot open {device} devices"
    if isinstance(fault, FileNotFoundError):
        there = sorted(str(each) for each in Path("/dev").glob("video*"))
        return f"no such camera: this machine has {', '.join(there) or 'none'}"
    if isinstance(fault, PermissionError):
        return "permission denied: cameras are for the users of a group, video on most systems"
    if isinstance(fault, OSError) and fault.errno == errno.EBUSY:
        return "in use by another program"
    return why(fault)


if __name__ == "__main__":
    main()
