"""The bodies of requests and responses about standing questions and their events."""

import base64
import json
from datetime import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from infinipot.errors import QuestionError
from infinipot.serve.asking import Looking
from infinipot.serve.bodies import Body
from infinipot.text import check_text

_SCHEMA = 4096  # letters of a JSON schema
_DEPTH = 16  # of a schema: one that is deeper takes long, or ends the stack
_REFUSED = (  # regular expressions may take for ever, and so do some combinations of schemas; and nothing is fetched
    *("pattern", "patternProperties", "unevaluatedItems", "unevaluatedProperties"),
    *("$ref", "$dynamicRef", "$id", "$schema"),
)

_SECRET = "whsec_"

WINDOW = 2.0  # seconds of a stream that are now, where a question is not asked less often

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def key_of(secret: str) -> bytes:
    """The key that deliveries are signed with; raises `ValueError` for a secret that holds none."""
    wrong = "a secret is whsec_ and then 24 to 64 bytes in base64, with its padding: leave it out to get a new one"
    if not secret.startswith(_SECRET):
        raise ValueError(wrong)
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET), validate=True)
    except ValueError:
        raise ValueError(wrong) from None
    if not 24 <= len(key) <= 64:
        raise ValueError(wrong)
    return key


class Quiet(Body):
    """Hours, in the server's zone, in which events are kept but not told of; from 22:00 to 07:00 goes over midnight."""

    model_config = ConfigDict(extra="forbid")

    start: time
    end: time

    @field_validator("start", "end")
    @classmethod
    def _of_here(cls, value: time) -> time:
        if value.tzinfo is not None:
            raise ValueError("quiet hours are in the server's zone: give a time without one, such as 22:00")
        return value


class Webhook(Body):
    """The address that events are sent to; deliveries are signed as standardwebhooks.com specifies."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=4096)
    secret: str | None = None

    @field_validator("secret")
    @classmethod
    def _signs(cls, value: str | None) -> str | None:
        if value is not None:
            key_of(value)
        return value


class WatchRequest(Looking):
    """Asks a question again and again.

    Attributes:
        question: asked on the stream's memory, which it does not change.
        every_s: seconds of the stream from one time to the next.
        about: "now", where the question sees only the newest seconds of the stream; or "all" that is held, for
            questions such as how often something has been there.
        window_s: how many seconds "now" is; left out, 2, or `every_s` where that is more: so nothing falls between two
            times.
        when: the answer that makes an event: "yes", "no" or another one; or a JSON schema that it has to fit.
        cooldown_s: seconds of the stream after an event in which there is no other.
        on_after, off_after: answers in a row that it takes to believe a change.
        quiet: hours in which events are kept but not sent.
        webhook: where events are sent.
        max_tokens: of an answer.
        look_again, look_pixels: see `Looking`.
    """

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=8192)
    every_s: Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)] = 5.0
    when: str | dict[str, Any] = "yes"
    cooldown_s: Seconds = 0.0
    on_after: Annotated[int, Field(ge=1, le=100)] = 1
    off_after: Annotated[int, Field(ge=1, le=100)] = 1
    quiet: Quiet | None = None
    webhook: Webhook | None = None
    max_tokens: int | None = Field(None, ge=1, le=256)
    about: Literal["now", "all"] = "now"
    window_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @field_validator("question")
    @classmethod
    def _asks(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the question is empty")
        return value.strip()

    @field_validator("when")
    @classmethod
    def _expects(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        if isinstance(value, str):
            if not value.strip() or len(value) > 200:
                raise ValueError('give an answer such as "yes", or a JSON schema')
            check_text(value, "the answer that is waited for", QuestionError)
            return value.strip()
        text = json.dumps(value)
        if len(text) > _SCHEMA or _depth(value) > _DEPTH or any(f'"{word}"' in text for word in _REFUSED):
            raise ValueError(
                f"a schema may have up to {_SCHEMA} characters and {_DEPTH} levels, but none of the keywords "
                f"{', '.join(_REFUSED)}"
            )
        from jsonschema import Draft202012Validator, SchemaError

        try:
            Draft202012Validator.check_schema(value)
        except SchemaError as error:
            raise ValueError(f"it is not a JSON schema: {error.message[:200]}") from None
        return value

    @model_validator(mode="after")
    def _of_now(self) -> "WatchRequest":
        if self.about == "all" and self.window_s is not None:
            raise ValueError('window_s is how long "now" is: leave it out where about is "all"')
        return self

    @property
    def window(self) -> float | None:
        """The newest seconds of the stream that the question sees; None for all that is held."""
        return None if self.about == "all" else self.window_s or max(WINDOW, self.every_s)


def _depth(value: Any) -> int:
    """How many objects and lists are in each other."""
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        level = [part for each in level for part in (each.values() if isinstance(each, dict) else each)]
        depth += 1
    return depth


class WatchState(BaseModel):
    """A standing question as it is now.

    Attributes:
        window_s: the newest seconds that it sees; None for all that is held.
        state: whether the answer is the one that is told of.
        asked, unclear: answers so far, and those of them that were neither.
        last_answer, last_time: the newest answer, and the second of the stream that it is of.
        asked_every_s: seconds of the stream from one answer to the next, of late; keeps_pace: whether that is what was
            wanted.
        events: told so far.
        webhook: where events are sent; its secret is shown once, where the question was given.
        webhook_error: why the newest delivery failed, which may be tried again; None once one succeeds.
        error: what went wrong the last time.
    """

    id: str
    object: Literal["watch"] = "watch"
    stream: str
    question: str
    every_s: float
    when: str | dict[str, Any]
    cooldown_s: float
    on_after: int
    off_after: int
    look_again: int
    about: Literal["now", "all"]
    window_s: float | None
    quiet: Quiet | None
    webhook: Webhook | None
    webhook_error: str | None
    state: Literal["unknown", "on", "off"]
    asked: int
    unclear: int
    last_answer: str | None
    last_time: float | None
    asked_every_s: float
    keeps_pace: bool
    events: int
    error: str | None


class WatchList(BaseModel):
    """The standing questions of a stream."""

    object: Literal["list"] = "list"
    data: list[WatchState]


class EventState(BaseModel):
    """An event of a standing question.

    Attributes:
        time: second of the stream; at: when it was told, in seconds since 1970.
        answer: that told it; quiet: whether it fell into quiet hours.
        picture: where its small picture is.
        evidence: the moments that the answer rests on, where they are known.
    """

    id: int
    object: Literal["event"] = "event"
    stream: str
    watch: str
    question: str
    answer: str
    time: float
    at: float
    quiet: bool
    picture: str | None
    evidence: list[dict[str, Any]] | None = None


class EventList(BaseModel):
    """Events, newest first; `next` is the `before` of what follows, where there is more."""

    object: Literal["list"] = "list"
    data: list[EventState]
    next: int | None
