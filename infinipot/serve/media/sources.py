"""The sources of a client's video: checked here, opened and decoded in another process.

http://, https://   fetched by the decoding process, from addresses that `addresses.py` allows
file://             below the media root, links resolved; the open file is handed over, no name
data:video/...      bytes of the request
"""

import base64
import binascii
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from infinipot.serve.errors import ApiError
from infinipot.serve.files.uploads import Upload
from infinipot.serve.media.addresses import AddressError, parse, rules
from infinipot.serve.media.decoders import DecodedVideo, Decoders
from infinipot.serve.settings import Settings

_ENDLESS = 1 << 62  # frames
_DATA = re.compile(r"data:(?P<type>[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+)?(?:;[^,;]*)*,", re.IGNORECASE)

# Which may be given where a video is: they have no type of video.
_ANIMATIONS = ("image/gif", "image/webp", "image/png", "image/apng")


def refused(message: str) -> ApiError:
    """The error for an address that is refused."""
    return ApiError(400, message, "media_address_refused")


class Sources:
    """Opens the media that clients name.

    Args:
        settings: of the server.
        decoders: its processes.
    """

    def __init__(self, settings: Settings, decoders: Decoders) -> None:
        self.settings, self._decoders = settings, decoders
        self._rules = rules(settings.media_hosts, settings.media_networks)
        self._root = settings.media_root.resolve() if settings.media_root else None

    def check(self, address: str) -> str:
        """Makes sure that an address may be one at all; returns how it is shown.

        Raises:
            ApiError: it is of no kind that is played, or of a host or place that is not allowed.
        """
        scheme = address.partition(":")[0].lower()
        try:
            match scheme:
                case "http" | "https":
                    web = parse(address)
                    self._rules.check_host(web.host)
                    return web.shown
                case "file":
                    os.close(self._descriptor(address))
                    return address
                case _:
                    raise refused(f"{scheme[:20]!r} addresses are not supported: give http, https or file")
        except AddressError as error:
            raise refused(str(error)) from None

    @asynccontextmanager
    async def clip(
        self,
        address: str,
        *,
        fps: float | None,
        most: int,
        frames: int | None = None,
        start: float = 0.0,
        end: float | None = None,
    ) -> AsyncIterator[DecodedVideo]:
        """A video that is being decoded.

        Args:
            address: of http, https, file or data.
            fps, frames, start, end: see `open_video`; what is live has no `start` but now.
            most: frames from which on it is an error.

        Raises:
            ApiError: it is not taken, or cannot be decoded.
        """
        job = {"kind": "video", "fps": fps, "frames": frames, "start": start, "end": end, "most": most}
        async with self._decoded(address, "video", job) as clip:
            yield clip

    @asynccontextmanager
    async def upload(
        self,
        upload: Upload,
        *,
        fps: float | None,
        frames: int | None = None,
        start: float = 0.0,
        end: float | None = None,
    ) -> AsyncIterator[DecodedVideo]:
        """A file of a client that is being decoded, a picture as a clip of one frame; see `clip`."""
        descriptor = upload.file.fileno()
        job: dict[str, Any] = {"from": "file", "name": upload.filename, "descriptor": descriptor}
        job["bytes"] = upload.bytes
        if upload.media_type == "image":
            job["kind"] = "still"
        else:
            job |= {"kind": "video", "fps": fps, "frames": frames, "start": start, "end": end, "most": _ENDLESS}
        async with self._decoders.video(job, b"", (descriptor,)) as clip:
            yield clip

    @asynccontextmanager
    async def still(self, address: str) -> AsyncIterator[DecodedVideo]:
        """A picture that is being decoded: a clip of one frame; see `clip`."""
        async with self._decoded(address, "image", {"kind": "still"}) as clip:
            yield clip

    @asynccontextmanager
    async def _decoded(self, address: str, kind: str, job: dict[str, Any]) -> AsyncIterator[DecodedVideo]:
        limits, descriptor, content = self.settings.limits, None, b""
        job["bytes"] = int(limits.frame_bytes if kind == "image" else limits.upload_bytes)
        if address[:5].lower() == "data:":
            content = data_of(address, kind)
            job |= {"from": "bytes", "name": f"the {kind}"}
        elif address[:5].lower() == "file:":
            descriptor = self._descriptor(address)
            job |= {"from": "file", "name": Path(urlsplit(address).path).name, "descriptor": descriptor}
        else:
            job |= self._remote(address)
        try:
            files = () if descriptor is None else (descriptor,)
            async with self._decoders.video(job, content, files) as clip:
                yield clip
        finally:
            if descriptor is not None:
                with suppress(OSError):
                    os.close(descriptor)

    def _remote(self, address: str) -> dict[str, Any]:
        limits = self.settings.limits
        return {
            "from": "address",
            "name": self.check(address),
            "address": address,
            "hosts": list(self.settings.media_hosts),
            "networks": [str(each) for each in self.settings.media_networks],
            "timeout": limits.source_seconds,
        }

    def _descriptor(self, address: str) -> int:
        """An open file below the media root: what is looked at is what was opened, wherever links lead.

        Raises:
            ApiError: there is none there, or it lies elsewhere; which of the two is not told.
        """
        if self._root is None:
            raise refused("file: addresses need a server with a media root (--media-root)")
        elsewhere = refused("there is no such file below the media root")
        try:
            parts = urlsplit(address)
        except ValueError:
            raise elsewhere from None
        name = unquote(parts.path)
        if parts.netloc not in ("", "localhost") or "\0" in name:
            raise elsewhere
        try:
            path = Path(name).resolve(strict=True)
            if not path.is_relative_to(self._root) or not path.is_file():
                raise elsewhere
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (OSError, ValueError, RuntimeError):
            raise elsewhere from None
        real = Path(f"/proc/self/fd/{descriptor}")
        if real.exists() and not real.resolve().is_relative_to(self._root):  # it was moved in between
            os.close(descriptor)
            raise elsewhere
        return descriptor


def data_of(address: str, kind: str) -> bytes:
    """The bytes of a `data:` address of base64.

    Raises:
        ApiError: it is none, or of another kind.
    """
    match = _DATA.match(address[:300])
    if match is None or ";base64," not in match[0].lower():
        raise refused(f"give a data: address of base64, such as data:{kind}/...;base64,...")
    media_type = (match["type"] or "").lower()
    if not media_type.startswith(f"{kind}/") and not (kind == "video" and media_type in _ANIMATIONS):
        raise refused(f"a data: address of {match['type']} holds no {kind}")
    return from_base64(address[match.end() :])


def from_base64(text: str, what: str = "data: address") -> bytes:
    """The bytes that a client spelt in base64; raises `ApiError` where it did not."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise refused(f"the {what} is not in base64") from None
