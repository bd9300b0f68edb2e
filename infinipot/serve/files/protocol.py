"""What clients get of files, as OpenAI and NVIDIA's VSS have them."""

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
    """All files of an owner, oldest first."""

    object: Literal["list"] = "list"
    data: list[FileState]


class Deleted(BaseModel):
    """A file is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True
