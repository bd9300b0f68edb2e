"""Paths and addresses of videos and sound: checked, passed to FFmpeg, and shown without secrets.

Knows nothing of what they hold.
"""

import os
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from urllib.request import DataHandler, Request, url2pathname

from infinipot.errors import InfinipotError

_SHOWN = 300  # characters of a name that a message shows at most


@dataclass(frozen=True, slots=True)
class Address:
    """The path or address of a video or sound, checked to exist as far as possible.

    Attributes:
        name: what messages and users see.
        target: what FFmpeg opens: a path, an address of its protocols, the bytes that a `data:` address holds, or what
            opens a binary file, each time anew.
        remote: True where it may keep us waiting.
        seekable: False for pipes: they are read once, front to back.
        stored: True for what lies here whole, so that a second look at it costs little.
        served: True for what a server of files sends as often as it is asked.
        options: FFmpeg's, for opening it.
    """

    name: str
    target: str | bytes | Callable[[], BinaryIO]
    remote: bool = False
    seekable: bool = True
    stored: bool = False
    served: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


def find_address(given: str | bytes, kind: str, error: type[InfinipotError]) -> Address:
    """Returns what `given` names.

    Args:
        given: a path, a `file:` or `data:` address, or one of another scheme that FFmpeg knows.
        kind: what it should hold, for messages: "video" or "audio".
        error: what to raise.

    Raises:
        error: the path leads nowhere, to a folder or to an empty file, or the address holds no data.
    """
    location = os.fsdecode(given)
    scheme = location.partition(":")[0].lower()
    name = public_name(location)
    if scheme == "data":
        return Address(name, _held(location, name, error), stored=True)
    if scheme == "file":
        parts = urlsplit(location)
        if parts.netloc not in ("", "localhost"):
            raise error(
                f"{name}: a file: address of this machine has three slashes, file:///{parts.netloc}{parts.path}"
            )
        location = url2pathname(parts.path)
    elif "://" in location:
        return Address(name, location, remote=True, served=scheme in ("http", "https"))
    return _file(location, name, kind, error)


def public_name(location: str) -> str:
    """Returns a path as it is, an address without its credentials and query, and the kind of a `data:` address.

    What would break a line or a terminal is escaped, and the middle of a name without end is left out.
    """
    if location[:5].lower() == "data:":
        return f"{_printable(location[:5] + location[5:].partition(',')[0][:60])},…"
    if "://" in location and location[:7].lower() != "file://":
        location = _without_secrets(location)
    name = _printable(location)
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN // 2]}…{name[-_SHOWN // 2 :]}"


def _without_secrets(address: str) -> str:
    """Leaves scheme, host and path; the scheme alone, where a password may go on after what looks like the host."""
    scheme, _, rest = address.partition("://")
    scheme = scheme.rpartition(":")[2]
    authority = rest[: next((place for place, letter in enumerate(rest) if letter in "/?#"), len(rest))]
    if ":" in authority and "@" in rest[len(authority) :]:
        return f"{scheme}://…"
    path = rest[len(authority) :].partition("?")[0].partition("#")[0]
    return f"{scheme}://{authority.rpartition('@')[2]}{path}"


def _printable(text: str) -> str:
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter
        for letter in text
    )


def _held(location: str, name: str, error: type[InfinipotError]) -> bytes:
    """Returns the bytes of a `data:` address (RFC 2397): FFmpeg could not go back and forth in it."""
    try:
        held: bytes = DataHandler().data_open(Request(location)).read()
    except (ValueError, OSError) as fault:
        raise error(f"{name} is not a data: address as in RFC 2397 ({' '.join(str(fault).split())[:80]})") from None
    if not held:
        raise error(f"{name} is empty")
    return held


def _file(location: str, name: str, kind: str, error: type[InfinipotError]) -> Address:
    """Returns the absolute path, which FFmpeg cannot mistake for one of its protocols.

    Links are left to the system: /dev/stdin is one that leads to no path.
    """
    article = "an" if kind == "audio" else "a"
    if not location:
        raise error(f"the name of the file is empty; give {article} {kind} file")
    path = Path(location)
    try:
        if not path.exists():
            hint = "; a pipe's name is /dev/stdin" if location == "-" else ""
            raise error(f"{name}: no such file{hint}")
        if path.is_dir():
            raise error(f"{name} is a directory; give {article} {kind} file")
        stored = path.is_file()
        if stored and path.stat().st_size == 0:
            raise error(f"{name} is empty")
    except (OSError, ValueError) as fault:
        raise error(f"{name} cannot be opened ({getattr(fault, 'strerror', None) or fault})") from None
    return Address(name, str(path.absolute()), seekable=stored, stored=stored)
