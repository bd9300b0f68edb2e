"""Opens addresses with PyAV (FFmpeg), and says what is wrong with those that hold no video, or no sound."""

import errno
import io
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.container.core import Flags
from av.format import Flags as FormatFlags
from av.stream import Disposition
from av.video.stream import VideoStream

from infinipot.errors import AudioError, CameraError, InfinipotError, VideoError
from infinipot.video.address import Address

logger = logging.getLogger(__name__)

NETWORK_TIMEOUT = 30.0
"""Seconds to wait for a network address to open, and for each read from it."""

_IN_PARTS = "mpjpeg"  # FFmpeg's name for an answer of many JPEG pictures, of type multipart/x-mixed-replace
_ENDS_EARLY = 1.0  # seconds missing at the end from which a source counts as cut short
_GENERATE_STAMPS: int = Flags.gen_pts.value  # type: ignore[assignment]  # numbers, whatever PyAV's types say
_SPLICED: int = FormatFlags.ts_discont.value  # type: ignore[assignment]
_UNSTAMPED: int = FormatFlags.no_timestamps.value  # type: ignore[assignment]

_ERRORS: dict[str, type[InfinipotError]] = {"video": VideoError, "audio": AudioError}


class Report:
    """Tells the user what is wrong with a source, each kind of trouble once.

    Attributes:
        damaged: True once something could not be read, or not as it was meant to be.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._told: set[str] = set()
        self.damaged = False

    def damage(self, kind: str, what: str) -> None:
        """Records that something is lost, and reports it."""
        self.damaged = True
        self.tell(kind, what)

    def jump(self, time: float, by: float) -> None:
        """Reports a time stamp that is so many seconds off."""
        off = f"{by:+.1f}" if abs(by) >= 0.05 else f"{by:+.4f}"
        self.tell("clock", f"the time stamp at {time:.1f} s is {off} s off; the clock goes on from where it was")

    def end(self, reached: float, ended: float, declared: float) -> None:
        """Reports a source that ended early.

        Args:
            reached: seconds of what it declares that turned out to be there.
            ended: when it ended, in seconds.
            declared: seconds that it declares.
        """
        if reached < declared - _ENDS_EARLY:
            self.damage("end early", f"ended after {ended:.1f} s of the {declared:.1f} s that it declares")

    def tell(self, kind: str, what: str) -> None:
        """Logs a warning, unless there was one of this kind before."""
        if kind not in self._told:
            logger.warning("%s: %s", self._name, what)
        self._told.add(kind)


@contextmanager
def faults_of(name: str, error: type[InfinipotError]) -> Iterator[None]:
    """Turns whatever reading a source raises into `error`.

    PyAV has errors of its own for what FFmpeg reports, but what a damaged file says of itself also reaches its
    Python: enumerations, fractions, texts and sizes that cannot be.
    """
    try:
        yield
    except InfinipotError:
        raise
    except Exception as fault:  # its own text would show an address's credentials
        raise error(f"{name} cannot be read ({why(fault)})") from None


def why(fault: Exception, waited: float = 0.0) -> str:
    """Describes a fault in a few words, without the file's name.

    Args:
        fault: what was raised.
        waited: seconds until then. A camera that went silent is invalid data, to FFmpeg.
    """
    if isinstance(fault, av.error.ExitError) or waited >= NETWORK_TIMEOUT:
        return f"no answer within {NETWORK_TIMEOUT:g} s"
    if isinstance(fault, MemoryError):
        return "its pictures are too large for the memory"
    if isinstance(fault, av.FFmpegError):
        return str(fault.strerror)
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:80]}"


def open_container(address: Address) -> tuple[InputContainer, VideoStream]:
    """Returns the open file and its main video stream.

    Time stamps are the file's own: PyAV has FFmpeg invent those that are missing, and where pictures are coded out of
    order, as in AVI, it invents those of other pictures.

    Raises:
        CameraError: pictures come there from a camera, without time stamps.
        VideoError: it cannot be opened, or holds no video that can be decoded.
    """
    container, stream = _opened(address, "video")
    try:
        if address.remote and container.format.name == _IN_PARTS:
            raise CameraError(f"{address.name} is a camera's: pictures come there as they are taken; use open_camera")
        container.flags &= ~_GENERATE_STAMPS
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise _none_of(container, address.name, "video")
        videos = container.streams.video
        if any(other.disposition & Disposition.dependent and other.name == stream.name for other in videos):
            raise VideoError(
                f"{address.name} is one picture made of tiles, which cannot be put together here: "
                "turn it into a JPEG or PNG file"
            )
        if stream.codec_context is None:
            raise VideoError(f"{address.name}: this FFmpeg has no decoder for its video")
        stream.thread_type = "AUTO"
    except BaseException:
        container.close()
        raise
    return container, stream


def has_stamps(container: InputContainer) -> bool:
    """Whether its time stamps can be trusted: those of raw streams are FFmpeg's, in the order of coding."""
    return not container.format.flags & _UNSTAMPED


def is_spliced(container: InputContainer) -> bool:
    """Whether its format lets the clock restart within a file, as in joined broadcasts."""
    return bool(container.format.flags & _SPLICED)


def open_sound(address: Address) -> tuple[InputContainer, AudioStream]:
    """Returns the open file and its main audio stream.

    Raises:
        AudioError: it cannot be opened, or holds no sound that can be decoded.
    """
    container, stream = _opened(address, "audio")
    try:
        if not isinstance(stream, AudioStream):
            raise _none_of(container, address.name, "audio")
        if stream.codec_context is None:
            raise AudioError(f"{address.name}: this FFmpeg has no decoder for its sound")
    except BaseException:
        container.close()
        raise
    return container, stream


def _opened(address: Address, kind: Literal["video", "audio"]) -> tuple[InputContainer, object]:
    """Returns the open file and its main stream of a kind, None where there is none."""
    timeout = NETWORK_TIMEOUT if address.remote else None
    begun = time.monotonic()
    try:
        container = av.open(
            _target(address), mode="r", timeout=timeout, metadata_errors="replace", options=dict(address.options)
        )
        try:
            return container, None if _is_text(container) else container.streams.best(kind)
        except BaseException:
            container.close()
            raise
    except Exception as fault:  # its own text would show an address's credentials
        waited = time.monotonic() - begun if address.remote else 0.0
        hint = "" if waited >= NETWORK_TIMEOUT else _hint(address, kind, fault)
        raise _ERRORS[kind](f"{address.name} cannot be opened ({why(fault, waited)}){hint}") from None


def _target(address: Address) -> Any:
    """The argument of `av.open`: a name, or an open file."""
    if isinstance(address.target, bytes):
        return io.BytesIO(address.target)
    return address.target() if callable(address.target) else address.target


def _hint(address: Address, kind: str, fault: Exception) -> str:
    if address.remote and getattr(fault, "errno", None) == errno.EIO:
        return "; is the host's name right, and is there a network?"
    if not isinstance(fault, av.InvalidDataError):
        return ""
    if not address.seekable:
        return f"; it holds no {kind}, or cannot be read from a pipe: give a file"
    return f"; it holds no {kind}, or is cut short"


def _is_text(container: InputContainer) -> bool:
    """Tells whether FFmpeg took a text file for a picture: it draws the letters."""
    return container.format.name == "tty"


def _none_of(container: InputContainer, name: str, kind: str) -> InfinipotError:
    """The error for a file without the wanted kind of stream; it names the kinds that the file has."""
    kinds = {"text"} if _is_text(container) else {stream.type for stream in container.streams} - {kind}
    kinds_held = " and ".join(sorted(kinds)) or "an empty container (is it cut short, or still being written?)"
    return _ERRORS[kind](f"{name} holds no {kind}, only {kinds_held}")
