"""Bodies of chat completions, as OpenAI and vLLM have them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from infinipot.serve.asking import AnswerDetails, AskFields, Usage
from infinipot.serve.bodies import MINUS_ONE, ONE, Body
from infinipot.serve.chat.unsupported import Unsupported
from infinipot.serve.streams.protocol import StreamSettings

_PARTS = 16_384  # of all messages of a request: more are not looked at, since nobody else is answered meanwhile


class Url(Body):
    """An address, alone or in an object; fields such as `detail` are accepted and ignored."""

    url: str

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, given: Any) -> Any:
        return {"url": given} if isinstance(given, str) else given


class TextPart(BaseModel):
    """Text of a message."""

    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    """A picture: a frame of its own."""

    type: Literal["image_url"]
    image_url: Url


class VideoPart(BaseModel):
    """A video, frames in a row, or a stream of this server."""

    type: Literal["video_url"]
    video_url: Url


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]
# What is wrong is told of the kind that was meant.
Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Part], Field(fail_fast=True), Tag("parts")],
    Discriminator(lambda given: "parts" if isinstance(given, list) else "text"),
]


class Message(Body):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content | None = None

    def parts(self) -> list[TextPart | ImagePart | VideoPart]:
        """Its content, in order."""
        if isinstance(self.content, str):
            return [TextPart(type="text", text=self.content)]
        return self.content or []

    def text(self) -> str:
        """Its words."""
        return "\n".join(part.text for part in self.parts() if isinstance(part, TextPart))


Index = Annotated[int, Field(ge=0, lt=1 << 53)]
Fps = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class VideoIo(Body):
    """The options for sampling frames of a video, as in vLLM.

    Attributes:
        fps: frames a second of a video, or of a list of frames.
        num_frames: the most frames of a video, spread evenly.
        frames_indices: for a list of frames, the index of each; divided by `fps` it is the frame's time.
    """

    fps: Fps | None = None
    num_frames: Annotated[Annotated[int, Field(ge=1)] | None, MINUS_ONE] = None
    frames_indices: Annotated[list[Index], Field(max_length=_PARTS, fail_fast=True)] | None = None


class MediaIo(Body):
    """The options for reading media, by kind."""

    video: VideoIo = VideoIo()


class Processor(Body):
    """The arguments for a processor of transformers, as in vLLM; only `fps` is used."""

    fps: Fps | None = None


class SessionSettings(StreamSettings):
    """The settings of the stream of a request or session, and how long that of a session is kept.

    Attributes:
        idle_seconds: without a frame or a question after which the stream of a session is closed.
    """

    idle_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class StreamOptions(Body):
    """Options of an answer that comes as events."""

    include_usage: bool = False


class ChatRequest(Unsupported, AskFields):
    """Asks for a chat completion.

    Attributes:
        id, session_id: the stream that is asked; so does a `video_url` of `stream://<id>`.
        remember: whether the turn becomes part of the stream's memory.
        infinipot: settings of a stream that this request opens.
        media_io_kwargs: how frames are taken from a video; mm_processor_kwargs: the same, where that says no `fps`.
    """

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096, fail_fast=True)]
    model: str | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None
    id: Annotated[str | None, ONE] = None
    session_id: str | None = None
    media_io_kwargs: MediaIo = MediaIo()
    mm_processor_kwargs: Processor = Processor()
    infinipot: SessionSettings = SessionSettings()

    @field_validator("messages", mode="before")
    @classmethod
    def _few(cls, given: Any) -> Any:
        messages = [each for each in given if isinstance(each, Mapping)] if isinstance(given, list) else []
        if sum(len(each["content"]) for each in messages if isinstance(each.get("content"), list)) > _PARTS:
            raise ValueError(f"there are more than {_PARTS:,} parts in all")
        return given

    @property
    def video(self) -> VideoIo:
        """The options for sampling the frames of a video."""
        how = self.media_io_kwargs.video
        return how if how.fps is not None else how.model_copy(update={"fps": self.mm_processor_kwargs.fps})


class AnswerMessage(BaseModel):
    """The message that the model answered with."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The one answer."""

    index: int = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """An answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    infinipot: AnswerDetails
