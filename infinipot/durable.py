"""Files that are there whole or not at all, after a power cut too, and that one process writes at a time.

Knows nothing of what is in them.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

try:
    import fcntl
except ImportError:  # there is none on Windows
    fcntl = None  # type: ignore[assignment]

_NOT_OF_FOLDERS = (errno.EINVAL, errno.ENOTSUP)  # what file systems say that sync files alone


def lock(file: IO[bytes] | int) -> bool:
    """Holds an open file, or its descriptor, until it is closed, however the process ends.

    Returns:
        False where another process holds it, or another open file of this one. True elsewhere, also where nothing can
        tell: on Windows, and on a network file system that has no locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def names(path: Path, file: IO[bytes]) -> bool:
    """Whether it is this open file that stands at a path, which another process may have put another one at."""
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of the one at `path` once it is whole and on the disk; else nothing changes.

    Raises:
        BlockingIOError: another process is writing it; `filename` is that of the file on its way.
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")  # one name: what a killed process leaves, the next one writes over
    with _locked(part) as file:
        try:
            file.truncate()
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows renames no open file
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
    sync_folder(path.parent)


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """A file that no one else writes to."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        with os.fdopen(os.open(part, flags, 0o666), "r+b") as file:
            if not lock(file):
                raise BlockingIOError(errno.EWOULDBLOCK, "another process is writing it", str(part))
            # Whoever held the lock may have renamed the file meanwhile: then it is not ours to write to.
            if names(part, file):
                yield file
                return


def sync_folder(folder: Path) -> None:
    """Makes sure that a new file's name is on the disk too, where a folder can be asked for that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOT_OF_FOLDERS:
            raise
    finally:
        os.close(handle)
