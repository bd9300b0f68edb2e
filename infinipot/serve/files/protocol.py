"""The bodies that describe files, as in the APIs of OpenAI and NVIDIA's VSS."""

from typing import Literal

from pydantic import BaseModel

MediaType = Literal["video", "image"]


class FileState(BaseModel):
    """A file of a client.

    Attributes:
        bytes: its size.
        created_at: when it came, in seconds since 1970.
    """

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    media_type: MediaType


class FileList(BaseModel):
    """Files of an owner.

    Attributes:
        first_id, last_id: of the first and the last of these files; None where there is none.
        has_more: whether files come after these, which are asked for with `after`, the last one's id.
    """

    object: Literal["list"] = "list"
    data: list[FileState]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    """Confirms that a file was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True
