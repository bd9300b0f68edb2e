"""Addresses of cameras, and how FFmpeg opens them. Knows nothing of pictures.

rtsp://user:password@host/path   a network camera, over TCP unless it is told otherwise
http://host/video.mjpg           pictures that follow one another (MJPEG, at whatever path), or a live playlist (HLS)
/dev/video0, webcam://0          a camera of this machine (V4L2 on Linux, AVFoundation on macOS)
street.mp4                       a file, played at its own pace as if it happened now
demo://moving?seed=10001         the synthetic world that the embedded model knows
"""

import os
import re
import sys
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from infinipot.errors import SettingError, VideoError
from infinipot.video.address import find_address, public_name

Transport = Literal["tcp", "udp"]

_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "demo")
_STREAMED = re.compile(r"\.(m3u8|mjpe?g|cgi)$", re.IGNORECASE)
_DEVICE = re.compile(r"/dev/(video\d+|v4l/by-(id|path)/[^/]+)")
_WEBCAMS = {"linux": "v4l2", "darwin": "avfoundation"}
_DEVICE_OPTIONS = {
    "avfoundation": (("framerate", "30"),)  # FFmpeg asks for 29.97 by itself, which many a camera refuses
}


@dataclass(frozen=True, slots=True)
class Place:
    """The address and options with which FFmpeg opens a camera.

    Attributes:
        name: what messages and users see, without credentials.
        target: what FFmpeg opens.
        format: the name of FFmpeg's input format, where it cannot find out by itself.
        options: FFmpeg's options.
        file: True for what ends, and is played at its own pace.
    """

    name: str
    target: str
    format: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    file: bool = False


def is_camera(given: object) -> bool:
    """Whether an address is surely a camera's, which may stop and come back, rather than a file's, which ends."""
    if not isinstance(given, str | os.PathLike):
        return False
    location = os.fspath(given)
    scheme, separator, rest = location.partition("://")
    if separator:
        path = rest.partition("#")[0].partition("?")[0].partition("/")[2]
        web = scheme.lower() in ("http", "https") and _STREAMED.search(path) is not None
        return web or scheme.lower() in _LIVE or is_device(location)
    return is_device(location)


def is_device(location: str) -> bool:
    """Whether an address names a camera of this machine."""
    scheme, separator, _ = location.partition("://")
    named = separator and scheme.lower() in ("webcam", *_WEBCAMS.values())
    return bool(named) or _DEVICE.fullmatch(location) is not None


def is_demo(location: str) -> bool:
    """Whether an address names the synthetic world."""
    return location[:7].lower() == "demo://"


def find_camera(location: str, transport: Transport, silence: float) -> Place:
    """Returns how a camera's address is opened.

    Args:
        location: an address, a device or a file.
        transport: what carries RTSP's pictures.
        silence: seconds without data after which FFmpeg is to give up.

    Raises:
        VideoError: a file that is not there, or a kind of camera that this system has no way to open.
        SettingError: RTSP cannot be carried so.
    """
    if transport not in ("tcp", "udp"):
        raise SettingError(f"transport must be 'tcp' or 'udp', not {transport!r}")
    scheme = location.partition("://")[0].lower() if "://" in location else ""
    name = public_name(location)
    if is_device(location):
        return _device(name, scheme, location.partition("://")[2] if scheme else location)
    if scheme in ("rtsp", "rtsps"):
        # `timeout` is in microseconds; FFmpeg's older `stimeout` is ignored without a word.
        options = {"rtsp_transport": transport, "timeout": str(round(silence * 1e6))}
        options |= {"fflags": "nobuffer", "fpsprobesize": "0"}  # begin with the first picture, whatever its rate
        return Place(name, location, options=tuple(options.items()))
    if scheme in ("http", "https"):
        return Place(name, location, options=(("rw_timeout", str(round(silence * 1e6))),))
    if scheme and scheme != "file":
        return Place(name, location)
    address = find_address(location, "video", VideoError)
    if not isinstance(address.target, str):
        raise VideoError(f"{name} is not a camera: open a data: address with open_video")
    return Place(address.name, address.target, file=address.seekable)


def demo_settings(location: str, defaults: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the background that a `demo://` address names, and its settings.

    Args:
        location: such as `demo://still?seed=10001&minutes=5`.
        defaults: every setting there is; a value given is of the type of the default.

    Raises:
        VideoError: there is no such setting, or its value is of another kind.
    """
    parts = urlsplit(location)
    settings = dict(defaults)
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in defaults:
            raise VideoError(f"{location}: a demo camera has no setting {key!r}; possible: {', '.join(defaults)}")
        try:
            settings[key] = type(defaults[key])(value)
        except ValueError:
            raise VideoError(f"{location}: {key} must be a number, not {value!r}") from None
    return parts.netloc or parts.path.strip("/"), settings


def _device(name: str, scheme: str, which: str) -> Place:
    """The device of a camera of this machine, by its number or by the system's name for it."""
    kind = _WEBCAMS.get(sys.platform)
    if kind is None or scheme not in ("", "webcam", kind):
        asked = f"{scheme} cameras" if kind and scheme else f"cameras of {sys.platform}"
        raise VideoError(
            f"{name}: {asked} cannot be opened here" + ("; webcam://0 opens the first one" if kind else "")
        )
    which = which or "0"
    if kind == "v4l2" and which.isdigit():
        which = f"/dev/video{which}"
    return Place(name, which, kind, _DEVICE_OPTIONS.get(kind, ()))
