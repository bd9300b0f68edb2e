"""Whether a new file is still there after a power cut. Knows nothing of what is in it."""

import errno
import os
from pathlib import Path

_NOT_OF_FOLDERS = (errno.EINVAL, errno.ENOTSUP)  # what file systems say that sync files alone


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
