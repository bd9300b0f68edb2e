"""The bodies of requests and responses about streams."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from infinipot.numbers import LATEST
from infinipot.serve.asking import AskFields, Evidence, Usage
from infinipot.serve.bodies import Body
from infinipot.serve.settings import GateSetting

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
"""Ids of streams: they stand in paths, in addresses and in names of files' folders."""

Time = Annotated[float, Field(ge=0, le=LATEST, allow_inf_nan=False)]
"""Seconds of a stream."""


class StreamSettings(Body):
    """The settings of a stream; those left out are the server's, or the model's. See `Model.stream`.

    Attributes:
        gate: "otsu", or how far a cell must change to be seen again; "off" for none where the server has one.
        look_again: the last frames that are kept as pictures, for questions that look at them again.
    """

    model_config = ConfigDict(extra="forbid")

    memory: int | str | None = None
    policy: Annotated[str, Field(max_length=1000)] | None = None
    fps: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    keep: float | None = None
    block: int | None = None
    reserve: int | None = None
    dialogue: int | None = None
    positions: Literal["rebase", "native"] | None = None
    system: Annotated[str, Field(max_length=8192)] | None = None
    pixels: tuple[int, int] | None = None
    gate: GateSetting | None = None
    look_again: Annotated[int, Field(ge=0)] | None = None

    def given(self) -> dict[str, Any]:
        """The settings that were given, as arguments of `Model.stream`."""
        return self.model_dump(include=set(StreamSettings.model_fields), exclude_none=True)


class StreamRequest(StreamSettings):
    """Opens a stream.

    Attributes:
        id: a name of your own; left out, the server gives one.
        source: an address that the server plays into the stream: http, https, or file below the media root; or a
            camera's, which it watches without end: rtsp, or demo.
        pace: whether a source is played as fast as the stream takes it, or as fast as it was recorded.
        idle_seconds: without a frame or a question after which the stream is closed.
    """

    id: str | None = None
    source: Annotated[str, Field(max_length=4096)] | None = None
    pace: Literal["fast", "realtime"] = "fast"
    idle_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @field_validator("id")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None and not NAME.fullmatch(value):
            raise ValueError("an id must have 1 to 64 letters, digits and . _ : -, the first one a letter or a digit")
        return value


class CameraState(BaseModel):
    """The state of a camera: see `infinipot.camera.Health`.

    Attributes:
        lag_seconds: seconds since its newest picture came, by which its decoder is behind included.
        dropped: pictures that were due and did not wait for the stream.
        begun: what time of the day the stream's second 0 was; speed: how many of its seconds pass in one.
        gaps: times without a picture, in seconds of the stream and as times of the day.
        demo: whether it shows the synthetic world.
    """

    state: Literal["opening", "live", "frozen", "gone", "over", "closed"]
    trouble: str = ""
    lag_seconds: float | None = None
    width: int = 0
    height: int = 0
    pictures: int = 0
    dropped: int = 0
    connections: int = 0
    begun: str
    speed: float = 1.0
    gaps: list[dict[str, Any]] = []
    demo: bool = False


class SourceState(BaseModel):
    """The state of a source: `opening`, `playing`, `ended` or `failed`; for a camera, its health.

    Attributes:
        error: why it failed, or why it is being opened again.
    """

    address: str
    state: Literal["opening", "playing", "ended", "failed"]
    error: str | None = None
    camera: CameraState | None = None


class StreamInfo(BaseModel):
    """The current state of a stream.

    Attributes:
        state: `live`; one that was saved is restored before the server takes requests.
        memory, policy, fps, gate, look_again: as they are.
        tokens, video_tokens, text_tokens, cap: how many are held now, and how many may ever be held, per layer and KV
            head.
        bytes: reserved for it, all of them allocated.
        frames, waiting, dropped: how many frames it has watched, how many wait, and how many it will not see, by
            reason.
        time: of the newest frame watched, in seconds of the stream; last_frame_at: when a frame last came.
        behind_seconds: since the oldest frame that is not watched yet came; 0 where all are.
        compressions, turns, gated_tokens: see `Stats`.
        saved_at, saved_time: when it was last saved, and up to which second of it.
        restored_at: the second up to which it remembers what came before the server started; None where it was opened
            since then.
        gap_seconds: between that and the first frame that came after.
        error: what last went wrong with a frame that had been taken.
    """

    id: str
    object: Literal["stream"] = "stream"
    created: int
    model: str
    policy: str
    fps: float
    gate: float | str | None = None
    look_again: int = 0
    system: str | None = None
    state: Literal["live"] = "live"
    tokens: int
    video_tokens: int
    text_tokens: int
    cap: int
    bytes: int
    frames: int
    waiting: int
    dropped: dict[str, int]
    time: float
    last_frame_at: float | None
    behind_seconds: float
    compressions: int
    turns: int
    gated_tokens: int = 0
    source: SourceState | None = None
    saved_at: float | None = None
    saved_time: float | None = None
    restored_at: float | None = None
    gap_seconds: float | None = None
    error: str | None = None


class StreamList(BaseModel):
    """All streams of an owner."""

    object: Literal["list"] = "list"
    data: list[StreamInfo]
    bytes_reserved: int
    bytes_total: int


class FramesTaken(BaseModel):
    """The result of sending frames.

    Attributes:
        accepted, skipped: how many frames were taken and not dropped since, and how many came closer together than the
            stream's `fps`.
        time: of the newest frame taken, in seconds of the stream.
        waiting: frames that wait to be watched now.
        dropped: how many frames the stream has dropped so far, by reason; where more come than are watched, the oldest
            that wait are dropped.
        error: what last went wrong with a frame that had been taken.
    """

    id: str
    accepted: int
    skipped: int
    time: float | None
    waiting: int
    dropped: dict[str, int]
    error: str | None = None


class AskRequest(AskFields):
    """Asks a stream.

    Attributes:
        question: about all frames that were taken so far.
        remember: whether the turn becomes part of the stream's memory.
        durable: whether a remembered turn is saved before it is answered for.
        stream: whether the answer comes as events while it is made.
    """

    model_config = ConfigDict(extra="forbid")

    question: str
    durable: bool = False
    stream: bool = False


class AskReply(BaseModel):
    """An answer; `time` is that of the newest frame it was asked on, in seconds of the stream."""

    id: str
    answer: str
    time: float
    finish_reason: Literal["stop", "length"]
    usage: Usage
    remembered: bool
    saved_at: float | None = None
    evidence: list[Evidence] = []


class ForkRequest(Body):
    """Opens a second stream with the same past."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = None
    _named = field_validator("id")(StreamRequest._named.__func__)  # type: ignore[attr-defined]


class Saved(BaseModel):
    """A stream was saved: up to which second of it, and when."""

    id: str
    time: float
    saved_at: float
    bytes: int
