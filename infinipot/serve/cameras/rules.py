"""Rules for the cameras that clients may name, checked when they name one and before every connection.

rtsp://     at an address that is public or in an allowed range; connected to is what was looked up
http://     FFmpeg follows what a playlist or a camera leads to, and looks names up again: only hosts that are named, or
            where none is, IP addresses in an allowed range
demo://     always, up to a rate
webcam://   and other devices: where the server was started with --local-cameras
"""

import re
from urllib.parse import urlsplit, urlunsplit

from infinipot.camera import is_camera
from infinipot.camera.address import is_device
from infinipot.camera.demo import World
from infinipot.errors import VideoError
from infinipot.serve.media.addresses import LONGEST, AddressError, WebAddress, as_ip_address, rules
from infinipot.serve.media.sources import refused
from infinipot.serve.settings import Settings
from infinipot.video.address import public_name

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_DEMO_RATE = 240.0  # pictures a second


class CameraRules:
    """Decides which cameras clients may watch.

    Args:
        settings: of the server.
    """

    def __init__(self, settings: Settings) -> None:
        self._rules = rules(settings.media_hosts, settings.media_networks)
        self._local = settings.local_cameras

    def takes(self, address: str) -> bool:
        """Whether an address is a camera's: of the web, also one with a user, at which no video is fetched."""
        return is_camera(address) or _has_user(address)

    def check(self, address: str) -> str:
        """Makes sure that a camera may be named; returns how it is shown.

        Raises:
            ApiError: it may not.
        """
        if len(address) > LONGEST:
            raise refused(f"the address has {len(address)} characters; at most {LONGEST} are allowed")
        scheme = address.partition("://")[0].lower()
        if scheme == "demo":
            self._check_demo(address)
        elif scheme in _PORTS:
            try:
                self._check_host(self._parts(address))
            except AddressError as error:
                raise refused(_with_hint(str(error))) from None
        elif not is_device(address):
            raise refused(f"{scheme[:20]!r} cameras are not supported: give rtsp, http, or demo")
        elif not self._local:
            raise refused("cameras of this machine need --local-cameras")
        return public_name(address)

    def resolve(self, address: str) -> str:
        """Returns the address to connect to: its host's, looked up now. Waits for the look-up.

        Raises:
            VideoError: it is not allowed, or there is none.
        """
        if address.partition("://")[0].lower() not in _PORTS:
            return address
        parts = self._parts(address)
        try:
            self._check_host(parts)
            addresses = self._rules.resolve(parts)
        except AddressError as error:
            raise VideoError(_with_hint(str(error))) from None
        if parts.scheme.startswith("http"):  # the name is what its certificate is for
            return address
        split = urlsplit(address)
        host = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
        user = f"{split.netloc.rpartition('@')[0]}@" if "@" in split.netloc else ""
        return urlunsplit(split._replace(netloc=f"{user}{host}:{parts.port}"))

    def _parts(self, address: str) -> WebAddress:
        try:
            split = urlsplit(address)
            scheme = split.scheme.lower()
            port = split.port or _PORTS[scheme]
        except (ValueError, KeyError):
            raise refused("the camera's address cannot be read: give rtsp://user:password@host:port/path") from None
        if not split.hostname or any(letter.isspace() or letter == "\\" for letter in address):
            raise refused("the camera's address names no host: give rtsp://user:password@host:port/path")
        return WebAddress(scheme, split.hostname, port, split.path or "/")

    def _check_host(self, parts: WebAddress) -> None:
        """Raises `AddressError` for a host that may not be watched, as far as this is known before a look-up."""
        self._rules.check_host(parts.host)
        if not parts.scheme.startswith("http") or self._rules.hosts:
            return
        literal = as_ip_address(parts.host)
        if literal is None or not self._rules.is_in_networks(literal):
            raise AddressError(
                "playlists and cameras over http lead to further addresses: name their hosts with --media-hosts, or "
                "give the IP address of a camera in --media-networks"
            )

    def _check_demo(self, address: str) -> None:
        try:
            world = World.of(address)
        except VideoError as error:
            raise refused(str(error)) from None
        if (rate := world.speed * world.clip.fps) > _DEMO_RATE or world.clip.size > 512:
            raise refused(
                f"a demo camera gives up to {_DEMO_RATE:g} pictures a second of up to 512 pixels: its speed and fps "
                f"make {rate:g} of {world.clip.size}"
            )


def _has_user(address: str) -> bool:
    """Whether an address of the web names a user."""
    scheme, _, rest = address.partition("://")
    return scheme.lower() in ("http", "https") and "@" in re.split("[/?#]", rest, maxsplit=1)[0]


def _with_hint(message: str) -> str:
    if "not public" not in message:
        return message
    return f"{message}: allow its network, such as --media-networks 192.168.0.0/16"
