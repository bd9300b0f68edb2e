"""Bodies of VSS's routes of streams."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Live(BaseModel):
    """A live stream to be added; what is known of its place and sensor is given back as it came."""

    model_config = ConfigDict(extra="allow")

    live_stream_url: Annotated[str, Field(alias="liveStreamUrl", max_length=4096)]
    description: str = Field("", max_length=1024)


class AddRequest(BaseModel):
    """Adds live streams."""

    streams: Annotated[list[Live], Field(min_length=1, max_length=64)]


class Added(BaseModel):
    """What became of one: its id, or why there is none."""

    id: str | None = None
    error: str | None = None


class AddReply(BaseModel):
    """What became of each, in order."""

    results: list[Added]


class DeleteBatch(BaseModel):
    """Deletes live streams."""

    stream_ids: Annotated[list[str], Field(max_length=1024)]
