"""Messages that clients of vllm-omni's video socket send."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from infinipot.numbers import LATEST
from infinipot.serve.asking import SocketAsking
from infinipot.serve.streams.protocol import StreamSettings

Milliseconds = Annotated[float, Field(ge=0, le=1000 * LATEST, allow_inf_nan=False)]


class Config(BaseModel):
    """Begins a session. How many frames are kept is the memory's to say: `num_frames` and the filter change nothing."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["session.config"]
    model: str | None = None
    modalities: list[Literal["text"]] | None = None
    system_prompt: Annotated[str, Field(max_length=8192)] | None = None
    infinipot: StreamSettings = StreamSettings()


class VideoFrame(BaseModel):
    """A picture in base64, and when it was taken."""

    type: Literal["video.frame"]
    data: str
    frame_id: int | str | None = None
    pts_ms: Milliseconds | None = None
    capture_ts_ms: Milliseconds | None = None


class Audio(BaseModel):
    """Sound, which this server does not take."""

    type: Literal["audio.chunk"]


class Query(BaseModel):
    """A question."""

    type: Literal["video.query"]
    text: str
    request_id: str | None = None
    infinipot: SocketAsking = SocketAsking()


class Done(BaseModel):
    """The session is over."""

    type: Literal["video.done"]


MESSAGE: TypeAdapter[Any] = TypeAdapter(
    Annotated[Config | VideoFrame | Audio | Query | Done, Field(discriminator="type")]
)
