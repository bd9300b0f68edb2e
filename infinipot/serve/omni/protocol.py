"""Messages that clients of vllm-omni's video socket send."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from infinipot.numbers import LATEST
from infinipot.serve.asking import SocketAskFields
from infinipot.serve.bodies import TEXT_ALONE, Body
from infinipot.serve.streams.protocol import StreamSettings

Milliseconds = Annotated[float, Field(ge=0, le=1000 * LATEST, allow_inf_nan=False)]


class Config(Body):
    """Begins a session. How many frames are kept is the memory's to say: `num_frames` and the filter change nothing."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["session.config"]
    model: str | None = None
    modalities: Annotated[Any, TEXT_ALONE] = None
    system_prompt: Annotated[str, Field(max_length=8192)] | None = None
    infinipot: StreamSettings = StreamSettings()


class VideoFrame(Body):
    """A picture in base64, and when it was taken."""

    type: Literal["video.frame"]
    data: str
    frame_id: int | str | None = None
    pts_ms: Milliseconds | None = None
    capture_ts_ms: Milliseconds | None = None


class Audio(Body):
    """Sound, which this server does not take."""

    type: Literal["audio.chunk"]


class Query(Body):
    """A question."""

    type: Literal["video.query"]
    text: str
    request_id: str | None = None
    infinipot: SocketAskFields = SocketAskFields()


class Done(Body):
    """The session is over."""

    type: Literal["video.done"]


MESSAGE: TypeAdapter[Any] = TypeAdapter(
    Annotated[Config | VideoFrame | Audio | Query | Done, Field(discriminator="type")]
)
