"""A lock on the files of a server: two servers would overwrite each other's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infinipot import durable
from infinipot.errors import InfinipotError


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Holds a file that no other process holds meanwhile; however this one ends, it is free then.

    Args:
        path: of the file, which is made, and stays.
        what: is kept by whoever holds it, for the message.

    Raises:
        InfinipotError: another process holds it, or it cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise InfinipotError(f"{what} cannot be written ({error.strerror})") from None
    try:
        if not durable.lock(descriptor):
            raise InfinipotError(f"{what}: another running server uses it: give a different --snapshots or --events")
        yield
    finally:
        os.close(descriptor)
