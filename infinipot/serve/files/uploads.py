"""Files of clients, while the server runs: bounded in number and bytes, each its owner's alone.

They have no name on the disk. So nothing of one is left, however the process ends, and no path leads to one: a decoding
process gets it as an open file.
"""

import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from infinipot.serve.errors import ApiError
from infinipot.serve.files.protocol import FileState, MediaType
from infinipot.serve.settings import Limits

_CHUNK = 1 << 20
_NAME = 255  # letters


@dataclass(slots=True, eq=False)
class Upload:
    """A file of a client.

    Attributes:
        owner, id: whose it is, and how it is asked about.
        filename, purpose: as the client called it, and what it said that it is for.
        media_type: whether it is a video or a picture.
        bytes: of it.
        file: open, and nowhere else.
    """

    owner: str
    filename: str
    purpose: str
    media_type: MediaType
    bytes: int
    file: BinaryIO
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: float = field(default_factory=time.time)

    def state(self) -> FileState:
        """The file as the API describes it."""
        return FileState(
            id=self.id,
            bytes=self.bytes,
            created_at=int(self.created),
            filename=self.filename,
            purpose=self.purpose,
            media_type=self.media_type,
        )


class Uploads:
    """The files of all clients. Used on the event loop, but for `copied`.

    Args:
        limits: of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._files: dict[tuple[str, str], Upload] = {}
        self._coming: list[int] = []  # bytes of those that are on their way

    def of(self, owner: str) -> list[Upload]:
        """An owner's files, oldest first."""
        return [each for (whose, _), each in self._files.items() if whose == owner]

    def has(self, owner: str, name: str) -> bool:
        """Whether an owner has a file of this id."""
        return (owner, name) in self._files

    def find(self, owner: str, name: str) -> Upload:
        """A file by its id; raises `ApiError` 404 where this owner has none."""
        upload = self._files.get((owner, name))
        if upload is None:
            raise ApiError(404, f"there is no file {name[:64]!r}", "file_not_found", param="id")
        return upload

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Holds room for a file of so many bytes that is on its way.

        Raises:
            ApiError: 429 where it does not fit beside those that are there.
        """
        limits, there = self._limits, [*(each.bytes for each in self._files.values()), *self._coming]
        if sum(there) + size > limits.uploads_bytes:
            free = max(int(limits.uploads_bytes) - sum(there), 0)
            message = (
                f"the upload has {size:,} bytes, and {free:,} of {int(limits.uploads_bytes):,} are free: delete one"
            )
            raise ApiError(429, message, "files_exhausted")
        if len(there) >= limits.uploads:
            raise ApiError(429, f"{limits.uploads} files are kept, which is the limit: delete one", "too_many_files")
        self._coming.append(size)
        try:
            yield
        finally:
            self._coming.remove(size)

    def add(self, upload: Upload) -> None:
        """Keeps a file."""
        self._files[upload.owner, upload.id] = upload

    def remove(self, upload: Upload) -> None:
        """Deletes a file; a decoder that is reading it has its own handle."""
        if self._files.pop((upload.owner, upload.id), None) is not None:
            upload.file.close()

    def close(self) -> None:
        """Deletes all files."""
        for upload in list(self._files.values()):
            self.remove(upload)


def copied(given: BinaryIO) -> BinaryIO:
    """A copy of a file, without a name."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # who removes it closes it
    try:
        shutil.copyfileobj(given, file, _CHUNK)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def shown_name(given: str | None) -> str:
    """A client's name for a file, as it is told again: of one line, and no path."""
    name = (given or "").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in name if letter.isprintable())[:_NAME] or "file"
