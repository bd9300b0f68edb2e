"""Opens paths and addresses with PyAV (FFmpeg), and says what is wrong with those that hold no video."""

from pathlib import Path
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from infinipot.errors import VideoError

NETWORK_TIMEOUT = 30.0
"""Seconds to wait for a network address to open, and for each read from it."""


def open_container(location: str, name: str) -> tuple[InputContainer, VideoStream]:
    """Returns the open file and its main video stream; raises `VideoError`, calling it `name`, if it has none."""
    remote = "://" in location
    if not remote:
        location = _checked_path(Path(location))
    try:
        container = av.open(location, timeout=NETWORK_TIMEOUT if remote else None, metadata_errors="replace")
    except av.FFmpegError as error:  # its own text would show an address's credentials
        hint = "; it is no video, or cut short" if isinstance(error, av.InvalidDataError) else ""
        raise VideoError(f"{name} cannot be opened ({error.strerror}){hint}") from None
    stream = container.streams.best("video")
    text = container.format.name == "tty"  # FFmpeg draws text files as pictures
    if not isinstance(stream, VideoStream) or text or stream.disposition & Disposition.attached_pic:
        kinds = {"text"} if text else {s.type for s in container.streams} - {"video"}
        container.close()
        held = " and ".join(sorted(kinds)) or "an empty container (is it cut short, or still being written?)"
        raise VideoError(f"{name} holds no video, only {held}")
    if stream.codec_context is None:
        container.close()
        raise VideoError(f"{name}: this FFmpeg has no decoder for its video")
    stream.thread_type = "AUTO"
    return container, stream


def _checked_path(path: Path) -> str:
    """Returns the absolute path, which FFmpeg cannot mistake for one of its protocols."""
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    if path.is_dir():
        raise VideoError(f"{path} is a directory; give a video file")
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(f"{path} is empty")
    return str(path.resolve())


def public_name(location: str) -> str:
    """Returns a path as it is, and an address without its credentials and query."""
    if "://" not in location:
        return location
    address = urlsplit(location)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
