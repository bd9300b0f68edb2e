"""Bodies of VSS's routes of streams."""

import time
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from infinipot.serve.asking import Generating
from infinipot.serve.bodies import ONE, Body
from infinipot.serve.streams.protocol import StreamSettings, Time

Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class Live(Body):
    """A live stream to be added; what is known of its place and sensor is accepted and ignored.

    Attributes:
        username, password: of the camera, where its address names none.
    """

    model_config = ConfigDict(extra="ignore")

    live_stream_url: Annotated[str, Field(alias="liveStreamUrl", max_length=4096)]
    description: str = Field("", max_length=1024)
    username: Annotated[str, Field(max_length=256)] = ""
    password: Annotated[str, Field(max_length=256)] = ""

    @property
    def source(self) -> str:
        """The address with the name and password, which is never shown."""
        scheme, slashes, rest = self.live_stream_url.partition("://")
        if not (self.username and slashes) or "@" in rest.partition("/")[0]:
            return self.live_stream_url
        user = quote(self.username, safe="") + (f":{quote(self.password, safe='')}" if self.password else "")
        return f"{scheme}://{user}@{rest}"


class AddRequest(BaseModel):
    """Adds live streams."""

    streams: Annotated[list[Live], Field(min_length=1, max_length=64)]


class Added(BaseModel):
    """The result of adding one stream: its id, or why it was not added."""

    id: str | None = None
    error: str | None = None


class AddReply(BaseModel):
    """The results of adding streams, in order."""

    results: list[Added]


class DeleteBatch(BaseModel):
    """Deletes live streams."""

    stream_ids: Annotated[list[str], Field(max_length=1024)]


class Offsets(Body):
    """A part of a file, in seconds; without an end, to the end of the file."""

    type: Literal["offset"] = "offset"
    start_offset: Time = 0.0
    end_offset: Time | None = None


class SummaryRequest(Generating):
    """Asks for a summary of a file or stream; a request for captions has the same fields and more.

    Attributes:
        id: of a file or a stream; a list of one is taken, too.
        prompt: the question; system_prompt: in place of the model's own.
        use_fps_for_chunking: whether `num_frames_per_second_or_fixed_frames_chunk` is frames a second of a file, rather
            than frames of a chunk.
        infinipot: how the stream is opened that watches a file.
    """

    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, ONE, Field(max_length=64)]
    prompt: Annotated[str, Field(min_length=1, max_length=8192)]
    model: str | None = None
    system_prompt: Annotated[str, Field(max_length=8192)] | None = None
    media_info: Offsets = Offsets()
    chunk_duration: Seconds = 10.0
    num_frames_per_second_or_fixed_frames_chunk: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = (
        None
    )
    use_fps_for_chunking: bool = True
    stream: bool = False
    infinipot: StreamSettings = StreamSettings()

    @property
    def fps(self) -> float | None:
        """Frames a second of a file that are watched; None for the stream's own."""
        number = self.num_frames_per_second_or_fixed_frames_chunk
        if number is None or self.use_fps_for_chunking or not self.chunk_duration:
            return number if self.use_fps_for_chunking else None
        return number / self.chunk_duration


class CaptionRequest(SummaryRequest):
    """Asks for a caption of each stretch of a file, or of a stream as it goes on.

    Attributes:
        chunk_duration: seconds of one; 0: all of a file is one.
        chunk_overlap_duration: seconds that two share.
    """

    chunk_overlap_duration: Seconds = 0.0


class Caption(BaseModel):
    """The caption of a stretch, in seconds of the file or stream."""

    start_time: float
    end_time: float
    content: str


class Chunks(BaseModel):
    """The number of captions."""

    total_chunks_processed: int


class Captioned(BaseModel):
    """All captions of a file."""

    id: str
    object: Literal["caption"] = "caption"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    chunk_responses: list[Caption]
    usage: Chunks


class SummaryMessage(BaseModel):
    """A summary."""

    role: Literal["assistant"] = "assistant"
    content: str


class SummaryChoice(BaseModel):
    """The one summary."""

    index: int = 0
    message: SummaryMessage
    finish_reason: Literal["stop", "length"]


class Summary(BaseModel):
    """A file or a stream in words; `media_info` says of which seconds."""

    id: str
    object: Literal["summarization.completion"] = "summarization.completion"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    media_info: Offsets
    choices: list[SummaryChoice]
    usage: Chunks
