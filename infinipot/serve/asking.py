"""The fields of questions and of answers that all APIs of this server share."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from infinipot.serve.bodies import MINUS_ONE, Body

Stop = Annotated[str, Field(max_length=1000)]
"""A text that ends an answer."""


class Looking(Body):
    """The options for a second look at frames: see `Stream.ask`.

    Attributes:
        look_again: the last frames that are looked at once more, as many as the stream keeps at the most.
        look_pixels: least and most pixels of those frames; left out, those of the stream.
    """

    look_again: Annotated[int, Field(ge=0)] = 0
    look_pixels: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None


class Generating(Looking):
    """The options that limit the length of an answer and choose its tokens: see `Stream.ask`."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[Annotated[int, Field(ge=0)] | None, MINUS_ONE] = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None


class AskFields(Generating):
    """The options of a question: see `Stream.ask`.

    Attributes:
        window_s: the newest seconds of the stream that the question is about; left out, all that is held.
    """

    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=64)] | None = None
    remember: bool = False
    evidence: bool = True
    window_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class SocketAskFields(AskFields):
    """The options of a question over a socket of another API, whose messages hold them under `infinipot`.

    Attributes:
        evidence: over a socket, it is given only where it is asked for.
    """

    model_config = ConfigDict(extra="forbid")

    evidence: bool = False


class Usage(BaseModel):
    """The usage of an answer, as OpenAI counts it: tokens held in memory count as cached."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, Any]


class Evidence(BaseModel):
    """A stretch of the video that an answer rests on: where the tokens looked that made it.

    Attributes:
        start, end: in seconds of the stream; time: of the moment in it that was looked at most.
        weight: its share of all that was looked at.
        cells: shares of the weight by row and column of the frame's grid.
    """

    start: float
    end: float
    weight: float
    time: float
    cells: list[list[float]]


class AnswerDetails(BaseModel):
    """The details of an answer that other APIs carry under `infinipot`.

    Attributes:
        stream: the one that was asked; None for one that was opened for this request or session.
        time: of the newest frame that it was asked on, in seconds of the stream.
        remembered: whether the turn became part of the stream's memory.
        evidence: see `Evidence`.
    """

    stream: str | None
    time: float
    remembered: bool
    evidence: list[Evidence] = []
