"""Opens paths and addresses with PyAV (FFmpeg), and says what is wrong with those that hold no video, or no sound."""

from pathlib import Path
from urllib.parse import urlsplit

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from infinipot.errors import AudioError, InfinipotError, VideoError

NETWORK_TIMEOUT = 30.0
"""Seconds to wait for a network address to open, and for each read from it."""


_ERRORS = {"video": VideoError, "audio": AudioError}


def open_container(location: str, name: str) -> tuple[InputContainer, VideoStream]:
    """Returns the open file and its main video stream; raises `VideoError`, calling it `name`, if it has none."""
    container = _opened(location, name, "video")
    stream = container.streams.best("video")
    text = container.format.name == "tty"  # FFmpeg draws text files as pictures
    if not isinstance(stream, VideoStream) or text or stream.disposition & Disposition.attached_pic:
        raise _none_of(container, name, "video", {"text"} if text else None)
    if stream.codec_context is None:
        container.close()
        raise VideoError(f"{name}: this FFmpeg has no decoder for its video")
    stream.thread_type = "AUTO"
    return container, stream


def open_sound(location: str, name: str) -> tuple[InputContainer, AudioStream]:
    """Returns the open file and its main audio stream; raises `AudioError`, calling it `name`, if it has none."""
    container = _opened(location, name, "audio")
    stream = container.streams.best("audio")
    if not isinstance(stream, AudioStream):
        raise _none_of(container, name, "audio", {"text"} if container.format.name == "tty" else None)
    if stream.codec_context is None:
        container.close()
        raise AudioError(f"{name}: this FFmpeg has no decoder for its sound")
    return container, stream


def _opened(location: str, name: str, kind: str) -> InputContainer:
    remote = "://" in location
    if not remote:
        location = _checked_path(Path(location), kind)
    try:
        return av.open(location, timeout=NETWORK_TIMEOUT if remote else None, metadata_errors="replace")
    except av.FFmpegError as error:  # its own text would show an address's credentials
        hint = f"; it is no {kind}, or cut short" if isinstance(error, av.InvalidDataError) else ""
        raise _ERRORS[kind](f"{name} cannot be opened ({error.strerror}){hint}") from None


def _none_of(container: InputContainer, name: str, kind: str, held: set[str] | None) -> InfinipotError:
    """Closes a file that has none of what is looked for; the error that says what it has."""
    kinds = {stream.type for stream in container.streams} - {kind} if held is None else held
    container.close()
    found = " and ".join(sorted(kinds)) or "an empty container (is it cut short, or still being written?)"
    return _ERRORS[kind](f"{name} holds no {kind}, only {found}")


def _checked_path(path: Path, kind: str) -> str:
    """Returns the absolute path, which FFmpeg cannot mistake for one of its protocols."""
    if not path.exists():
        raise _ERRORS[kind](f"{path}: no such file")
    if path.is_dir():
        raise _ERRORS[kind](f"{path} is a directory; give {'an' if kind == 'audio' else 'a'} {kind} file")
    if path.is_file() and path.stat().st_size == 0:
        raise _ERRORS[kind](f"{path} is empty")
    return str(path.resolve())


def public_name(location: str) -> str:
    """Returns a path as it is, and an address without its credentials and query."""
    if "://" not in location:
        return location
    address = urlsplit(location)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
