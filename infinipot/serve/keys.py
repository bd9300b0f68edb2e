"""Identifies the owner of a request by bearer keys, compared in constant time.

A file of keys has one a line: an owner's name and a key, or the key's SHA-256 as `sha256:<hex>`. Keys of one owner see
the same streams. Blank lines and what follows a `#` after a blank, or at the beginning, are passed over.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from infinipot.errors import InfinipotError

EVERYONE = "everyone"
"""The owner of all streams where there are no keys."""

_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_COMMENT = re.compile(r"(?:^|\s)#")  # in the midst of a key it is a letter of it
_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
_SUBPROTOCOL = "openai-insecure-api-key."  # how browsers, which set no headers on a WebSocket, bring a key


class Keys:
    """The API keys of a server, by owner.

    Args:
        owners: of each key's SHA-256.
    """

    def __init__(self, owners: Iterable[tuple[bytes, str]] = ()) -> None:
        self._owners = list(owners)

    def __bool__(self) -> bool:
        return bool(self._owners)

    @property
    def owners(self) -> list[str]:
        """The owners that there are, in the order of the file: everyone, where there are no keys."""
        return list(dict.fromkeys(name for _, name in self._owners)) or [EVERYONE]

    @classmethod
    def read(cls, path: Path | None) -> "Keys":
        """Reads the keys from a file.

        Raises:
            InfinipotError: it cannot be read, holds none, a line is not "owner key", or two owners have one key.
        """
        if path is None:
            return cls()
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InfinipotError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        owners: list[tuple[bytes, str]] = []
        for number, line in enumerate(lines, 1):
            words = _COMMENT.split(line, 1)[0].split()
            if not words:
                continue
            if len(words) != 2 or not _OWNER.fullmatch(words[0]):
                raise InfinipotError(f"{path}, line {number}: give an owner's name and a key, with a space between")
            hashed = _HASHED.fullmatch(words[1])
            digest = bytes.fromhex(hashed[1]) if hashed else _digest(words[1])
            if any(each == digest and owner != words[0] for each, owner in owners):
                raise InfinipotError(f"{path}, line {number}: this key is another owner's already")
            owners.append((digest, words[0]))
        if not owners:
            raise InfinipotError(f"{path} holds no key: give lines such as 'alice <key>'")
        return cls(owners)

    def owner(self, headers: Mapping[str, str]) -> str | None:
        """Whose key a request's headers bring; None where it is nobody's."""
        if not self._owners:
            return EVERYONE
        given = _digest(_key(headers))
        owner = None
        for digest, name in self._owners:  # all of them, whichever it is
            if hmac.compare_digest(digest, given):
                owner = name
        return owner


def _key(headers: Mapping[str, str]) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    offered = (part.strip() for part in headers.get("sec-websocket-protocol", "").split(","))
    return next((part.removeprefix(_SUBPROTOCOL) for part in offered if part.startswith(_SUBPROTOCOL)), "")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
