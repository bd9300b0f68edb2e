"""Events that clients of the realtime API send, as OpenAI has them; this server's own fields are under `infinipot`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from infinipot.serve.asking import SocketAskFields
from infinipot.serve.bodies import NO_TOOLS, TEXT_ALONE, Body
from infinipot.serve.streams.protocol import StreamSettings, Time


class Own(StreamSettings):
    """This server's extension of a session: the stream that it watches and asks, or the settings of a new one.

    Attributes:
        stream: the id of an open stream; left out, the session opens one, which closes with it.
    """

    stream: str | None = None


class Session(Body):
    """The settings of a session; what is left out stays as it is."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["realtime"] = "realtime"
    model: str | None = None
    instructions: Annotated[str, Field(max_length=8192)] | None = None
    output_modalities: Annotated[Any, TEXT_ALONE] = None
    tools: Annotated[Any, NO_TOOLS] = None
    max_output_tokens: Annotated[int, Field(ge=1)] | Literal["inf"] | None = None
    infinipot: Own | None = None


class FrameTime(Body):
    """The time of a picture in seconds of the stream; left out, the time that has passed since the first one."""

    time: Time


class Content(Body):
    """A part of a message."""

    type: Literal["input_text", "input_image", "output_text", "text"]
    text: str | None = None
    image_url: str | None = None
    infinipot: FrameTime | None = None


class Item(Body):
    """A message of a conversation."""

    id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    type: Literal["message"]
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[Content], Field(max_length=512)]


class ResponseOptions(Body):
    """The settings of one response."""

    model_config = ConfigDict(extra="ignore")

    conversation: Literal["auto", "none"] = "auto"
    instructions: Annotated[str, Field(max_length=8192)] | None = None
    output_modalities: Annotated[Any, TEXT_ALONE] = None
    tools: Annotated[Any, NO_TOOLS] = None
    max_output_tokens: Annotated[int, Field(ge=1)] | Literal["inf"] | None = None
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)] | None = None
    input: Annotated[list[Item], Field(max_length=64)] | None = None
    infinipot: SocketAskFields = SocketAskFields()


class _Event(Body):
    event_id: Annotated[str, Field(max_length=512)] | None = None


class SessionUpdate(_Event):
    """Changes the session."""

    type: Literal["session.update"]
    session: Session


class ItemCreate(_Event):
    """Adds a message: pictures are watched, words wait for a response."""

    type: Literal["conversation.item.create"]
    item: Item


class ItemDelete(_Event):
    """Deletes a message whose words were not asked yet."""

    type: Literal["conversation.item.delete"]
    item_id: str


class ItemRetrieve(_Event):
    """Asks to see a message."""

    type: Literal["conversation.item.retrieve"]
    item_id: str


class ResponseCreate(_Event):
    """Asks for a response."""

    type: Literal["response.create"]
    response: ResponseOptions = ResponseOptions()


class ResponseCancel(_Event):
    """Stops the answer."""

    type: Literal["response.cancel"]
    response_id: str | None = None


class Sound(_Event):
    """Sound, which this server does not take."""

    type: Literal["input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear"]


Event = Annotated[
    SessionUpdate | ItemCreate | ItemDelete | ItemRetrieve | ResponseCreate | ResponseCancel | Sound,
    Field(discriminator="type"),
]
EVENT: TypeAdapter[Any] = TypeAdapter(Event)
