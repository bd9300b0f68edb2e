"""Addresses that clients give: parsed once, by one rule, and checked after the name is resolved.

What is checked is what is connected to: a connection goes to the very address that was looked at, under the host that
was parsed here. So no second parser can read another host from it, and no second look-up can find another address.
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

LONGEST = 4096  # letters of an address
DEFAULT_PORTS = {"http": 80, "https": 443}
# Userinfo, backslashes, blanks and control characters are where parsers disagree: none of them is taken.
_ADDRESS = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?P<path>/[!-\[\]-~]*|\?[!-\[\]-~]*)?",
    re.IGNORECASE,
)
_NAT64 = IPv6Network("64:ff9b::/96")

Network = IPv4Network | IPv6Network
IpAddress = IPv4Address | IPv6Address


class AddressError(Exception):
    """An address that is not fetched, and why."""


class CameraAddressError(AddressError):
    """An address at which a camera sends pictures, one after the other, for as long as anybody listens."""


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An http or https address in parts.

    Attributes:
        scheme: "http" or "https".
        host: a name, or an IP address without brackets.
        path: with its query, as it is requested.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def shown(self) -> str:
        """Without its query, which may hold a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path.partition('?')[0]}"


def parse(address: str) -> WebAddress:
    """Parses an address.

    Raises:
        AddressError: it is none of http or https that every parser reads alike.
    """
    if len(address) > LONGEST:
        raise AddressError(f"the address has {len(address)} characters; at most {LONGEST} are allowed")
    match = _ADDRESS.fullmatch(address.partition("#")[0])
    if match is None:
        raise AddressError(
            "the address is not accepted: give http://host/path or https://..., without a user, blanks or backslashes"
        )
    scheme, host = match["scheme"].lower(), match["host"].strip("[]").lower()
    port = int(match["port"] or DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise AddressError(f"port {port} is not possible: give 1 to 65535")
    path = match["path"] or "/"
    return WebAddress(scheme, host, port, path if path.startswith("/") else f"/{path}")


@dataclass(frozen=True, slots=True)
class Rules:
    """The hosts and networks that media may be fetched from.

    Attributes:
        hosts: names, all names below one as "*.example.org"; none for every host.
        networks: private ranges that are allowed all the same.
    """

    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    def check_host(self, host: str) -> None:
        """Raises `AddressError` for a host that is not among those that are allowed, or is an address that is not."""
        if self.hosts and not any(_matches(host, pattern.lower()) for pattern in self.hosts):
            raise AddressError(f"media is not fetched from {host}: allowed are {', '.join(self.hosts)}")
        if (literal := as_ip_address(host)) is not None:
            self.check_address(literal, host)

    def is_in_networks(self, address: IpAddress) -> bool:
        """Whether an address lies in one of the ranges that are allowed."""
        real = _unwrapped(address)
        return any(each.version == real.version and real in each for each in self.networks)

    def check_address(self, address: IpAddress, host: str) -> None:
        """Raises `AddressError` for an address that is not on the public internet and in no allowed range."""
        real = _unwrapped(address)
        if self.is_in_networks(address):
            return
        if not real.is_global or real.is_multicast or real.is_reserved or real.is_unspecified:
            raise AddressError(f"{host} has an address that is not public, which is refused")

    def resolve(self, address: WebAddress) -> list[IpAddress]:
        """The addresses of a host, all of which are allowed; waits for the look-up.

        Raises:
            AddressError: there are none, or one is not allowed.
        """
        self.check_host(address.host)
        try:
            resolved = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise AddressError(f"{address.host} has no address") from None
        addresses = list(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in resolved))
        for each in addresses:
            self.check_address(each, address.host)
        return addresses


def as_ip_address(host: str) -> IpAddress | None:
    """The IP address that a host is; None for a name, which has to be looked up."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _unwrapped(address: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def rules(hosts: Iterable[str], networks: Iterable[str | Network]) -> Rules:
    """Rules of plain data."""
    from ipaddress import ip_network

    return Rules(tuple(hosts), tuple(ip_network(str(each)) for each in networks))
