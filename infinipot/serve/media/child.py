"""A decoding process: `python -m infinipot.serve.media.child`. Takes jobs from its standard input, gives pictures back.

What it decodes is not trusted: memory is limited before the first job, FFmpeg sees bytes and no address, and only
formats that lead nowhere else are opened. Time is the server's to watch: it ends a process that takes too long.
"""

import ctypes
import io
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from infinipot.errors import InfinipotError
from infinipot.serve.media.addresses import AddressError, CameraAddressError, rules
from infinipot.serve.media.frames import receive, send
from infinipot.serve.media.remote import open_remote
from infinipot.video.heads import HEAD, animation_size, goes_back
from infinipot.video.images import as_frame
from infinipot.video.thumbnails import small_picture

_PICTURES = ("JPEG", "PNG", "WEBP")
# No playlists, no lists of files, no devices and no descriptions of sessions: all of these name other addresses.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,gif,apng,h264,hevc,m4v,mpegvideo,mjpeg,ivf,asf"
)
_OPTIONS = {"protocol_whitelist": "none", "format_whitelist": _FORMATS}
_CHUNK = 1 << 20
_FILES = 64
_PDEATHSIG = 1  # prctl: which signal a process gets when its parent ends


def main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no message
    Image.preinit()  # what reads pictures takes memory of its own
    _stay_small(int(sys.argv[1]))
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    send(out, {"kind": "ready"})
    while (message := receive(sys.stdin.buffer)) is not None:
        job, content = message
        work = {"picture": _picture, "still": _still, "video": _video}[job["kind"]]
        try:
            work(job, content, out)
        except BrokenPipeError:
            return
        except MemoryError:
            send(out, {"kind": "error", "message": "it takes more memory than is allowed for decoding"})
        except Exception as error:
            camera = isinstance(error, CameraAddressError)
            send(out, {"kind": "error", "message": _said(error), "camera": camera})


def _stay_small(more: int) -> None:
    """Limits memory to what the process has now and so many bytes; it ends with its parent, and leaves no core."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))


def _said(error: Exception) -> str:
    """The message for the client: infinipot's own, or the kind of a library's error."""
    if isinstance(error, InfinipotError | AddressError | _RefusedError):
        return " ".join(str(error).split())
    return f"it cannot be decoded ({type(error).__name__})"


class _RefusedError(Exception):
    """Media is refused; the message says why."""


def _picture(job: dict[str, Any], content: bytes, out: BinaryIO) -> None:
    Image.MAX_IMAGE_PIXELS = None  # its size is checked before a pixel is decoded
    try:
        image = Image.open(io.BytesIO(content), formats=_PICTURES)
    except MemoryError:
        raise
    except Exception:
        raise _RefusedError("it is not a JPEG, PNG or WebP picture") from None
    _check_size(image.width, image.height, job["pixels"])
    _send_pixels(out, as_frame(image, 0.0).image, job["small"])


def _still(job: dict[str, Any], content: bytes, out: BinaryIO) -> None:
    """Decodes a picture that lies somewhere, as a video of one frame."""
    found = bytearray()
    with _opener(job, content)() as file:
        while part := file.read(_CHUNK):  # what comes without a length comes in parts
            found += part
            if len(found) > job["bytes"]:
                raise _RefusedError(f"the picture has more than the {job['bytes']:,} bytes that are allowed")
    _picture(job, bytes(found), out)
    send(out, {"kind": "end"})


def _video(job: dict[str, Any], content: bytes, out: BinaryIO) -> None:
    """Decodes a video, picture by picture: as fast as they are taken."""
    from infinipot.video.address import Address
    from infinipot.video.file import FileSource
    from infinipot.video.pillow import PillowSource
    from infinipot.video.source import Video

    opened = _opener(job, content)
    first = [opened()]
    seekable = first[0].seekable()
    send(out, {"kind": "opened", "live": not seekable})
    start = job["start"] if seekable else 0.0  # what is read as it comes begins now
    target = (lambda: first.pop() if first else opened()) if seekable else partial(_once, first)
    address = Address(job["name"], target, remote=not seekable, seekable=seekable, stored=seekable, options=_OPTIONS)
    end = {} if job["end"] is None else {"end": job["end"]}
    moves = seekable and _animation(first[0], job["pixels"])
    source = PillowSource(address) if moves else FileSource(address)
    with Video(source, job["fps"], start, frames=job["frames"], **end) as video:
        for number, frame in enumerate(video):
            if number >= job["most"]:
                raise _RefusedError(
                    f"the video has more than {job['most']} frames: give fewer per second, or fewer in all"
                )
            _check_size(frame.image.shape[1], frame.image.shape[0], job["pixels"])
            _send_pixels(out, frame.image, job["small"], frame.time)
        send(out, {"kind": "end", "incomplete": video.incomplete})


def _animation(file: BinaryIO, most: int) -> bool:
    """Whether a file is an animated WebP, which FFmpeg does not read; its size is checked before a pixel is decoded."""
    size = animation_size(file.read(HEAD))
    file.seek(0)
    if size is not None:
        _check_size(*size, most)
        Image.MAX_IMAGE_PIXELS = None
    return size is not None


def _opener(job: dict[str, Any], content: bytes) -> Callable[[], Any]:
    """The callable that opens a job's video: the bytes sent with it, an open file, or a remote file."""
    if job["from"] == "bytes":
        return lambda: io.BytesIO(content)
    if job["from"] == "file":
        return partial(_again, job["descriptor"])
    allowed = rules(job["hosts"], job["networks"])
    counted = job.get("frames") is not None  # so many are spread over all of it
    fetch = partial(open_remote, job["address"], allowed, job["timeout"], job["bytes"])
    file = fetch(lambda head: counted or goes_back(head))
    if isinstance(file, io.BufferedRandom):
        return lambda: _again(file.fileno())  # which is open for as long as this may be called
    first: list[Any] = [file]
    return lambda: first.pop() if first else fetch() if file.seekable() else _once(first)


def _again(descriptor: int) -> BinaryIO:
    """An open file from its beginning, wherever others that have it open are in it."""
    return open(f"/dev/fd/{descriptor}", "rb")


def _once(files: list[BinaryIO]) -> BinaryIO:
    """A source that is read front to back, once."""
    if not files:
        raise _RefusedError("it can be read only once")
    return files.pop()


def _check_size(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise _RefusedError(f"a picture of {width} x {height} pixels has more than the {most:,} that are allowed")


def _send_pixels(out: BinaryIO, pixels: np.ndarray, most: int, time: float = 0.0) -> None:
    """Sends a picture, and a thumbnail of at most so many bytes."""
    height, width = pixels.shape[:2]
    header = {"kind": "frame", "height": height, "width": width, "time": time}
    send(out, header, pixels.data.cast("B"), small_picture(pixels, most))


if __name__ == "__main__":
    main()
