"""Reads from a list of messages which stream, frames and question it names. Opens nothing.

The rule: a stream is the conversation. What is asked is the last message, which is the user's; its pictures are frames
that come now. What stands before it is not read again: the stream has seen it, and holds the turns that it was told to
remember. A stream that the request opens has seen nothing: it is given the pictures of all messages, and the turns
before the last message stand before the question as text.
"""

from dataclasses import dataclass

from infinipot.serve.chat.protocol import ChatRequest, ImagePart, Message, VideoPart
from infinipot.serve.errors import ApiError
from infinipot.serve.streams.protocol import NAME

_SCHEME = "stream://"
_SAYS = {"user": "User", "assistant": "Assistant"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What messages show and ask.

    Attributes:
        media: addresses of pictures and videos, in order; each with whether it is a picture.
        question: in words.
    """

    media: tuple[tuple[str, bool], ...]
    question: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The stream, frames and question that a request names.

    Attributes:
        name: of the stream, None for one of this request.
        opens: whether a stream of that name is opened where there is none.
        system: what the system messages say.
        last: what the last message shows and asks, for a stream that has seen those before it.
        whole: what all of them do, for a stream that this request opens.
    """

    name: str | None
    opens: bool
    system: str | None
    last: Asked
    whole: Asked


def read(request: ChatRequest, session: str | None) -> Reading:
    """Reads the stream, frames and question from a request.

    Args:
        request: its body.
        session: the header `x-session-id`.

    Raises:
        ApiError: it names several streams, or the last message is not a question of the user's.
    """
    last = request.messages[-1]
    if last.role != "user":
        message = "the last message is the question: give it the role 'user'"
        raise ApiError(400, message, "no_question", param="messages")
    name, opens = _stream(request, session)
    system = "\n".join(each.text() for each in request.messages if each.role in ("system", "developer")) or None
    dialogue = [each for each in request.messages if each.role in _SAYS]
    reading = Reading(name, opens, system, _asked([last]), _asked(dialogue))
    if not (reading.whole if name is None else reading.last).question.strip():
        raise ApiError(400, "the last message has no text: it is the question", "no_question", param="messages")
    return reading


def _stream(request: ChatRequest, session: str | None) -> tuple[str | None, bool]:
    """The stream that a request names, and whether as its session."""
    videos = [part for message in request.messages for part in message.parts() if isinstance(part, VideoPart)]
    named = {part.video_url.url.removeprefix(_SCHEME) for part in videos if part.video_url.url.startswith(_SCHEME)}
    sessions = {each for each in (request.session_id, session) if each is not None}
    names = named | sessions | ({request.id} if request.id is not None else set())
    if len(names) > 1:
        message = f"a request asks one stream, but this one names {len(names)}"
        raise ApiError(400, message, "several_streams", param="messages")
    if not names:
        return None, False
    (name,) = names
    if not NAME.fullmatch(name):
        raise ApiError(404, "there is no stream with this id", "stream_not_found", param="id")
    return name, bool(sessions)


def _asked(messages: list[Message]) -> Asked:
    return Asked(_media(messages), _with_turns(messages))


def _media(messages: list[Message]) -> tuple[tuple[str, bool], ...]:
    media: list[tuple[str, bool]] = []
    for message in messages:
        for part in message.parts():
            if isinstance(part, ImagePart):
                media.append((part.image_url.url, True))
            elif isinstance(part, VideoPart) and not part.video_url.url.startswith(_SCHEME):
                media.append((part.video_url.url, False))
    return tuple(media)


def _with_turns(messages: list[Message]) -> str:
    """The question with the turns before it, a line each."""
    *before, last = messages
    turns = [f"{_SAYS[each.role]}: {each.text()}" for each in before if each.text().strip()]
    return "\n".join([*turns, last.text()])
