"""Reads an excerpt and a question from the messages of lmms-eval. A request that a stream cannot serve is an error."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.protocol import ChatContent, ChatMessages

from infinipot import QuestionError
from infinipot.numbers import is_whole

_LONGEST_ANSWER = 128  # lmms-eval's own models take this where a task says nothing
_FILLER = "\n\n"  # lmms-eval gives it to every task that names no stop; its own models leave it out as well


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A video, or a part of one: path or address, and from when to when in seconds; `end=None` is its end."""

    source: str
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One question about one excerpt of a video.

    Attributes:
        excerpt: what is watched.
        system: the system message, or None for the chat template's own.
        question: the text after the video.
        max_new_tokens: the longest answer.
        until: texts at which the answer ends.
        where: the task and the document, for messages to people.
    """

    excerpt: Excerpt
    system: str | None
    question: str
    max_new_tokens: int
    until: tuple[str, ...]
    where: str


def read(instance: Instance, tasks: Mapping[str, Any], system: str | None = None) -> Request:
    """The request behind an instance of lmms-eval's chat interface.

    Args:
        instance: its arguments are context, doc_to_messages, generation settings, document number, task and split.
        tasks: the documents by task, split and number.
        system: takes the place of a system message in the conversation.

    Raises:
        QuestionError: it is not one video and a text after it, or its answer is not to be the likeliest one.
    """
    _, doc_to_messages, settings, number, task, split = instance.args
    where = f"{task}, document {number}"
    messages = ChatMessages(messages=doc_to_messages(tasks[task][split][number])).messages
    turns = [message for message in messages if message.role != "system"]
    if [message.role for message in turns] != ["user"]:
        roles = ", ".join(message.role for message in turns) or "none"
        raise QuestionError(f"{where}: a stream is asked one question at a time; these turns were given: {roles}")
    if system is None:
        system = "".join(_text(part, where) for said in messages if said.role == "system" for part in said.content)
    _require_greedy(settings, where)
    excerpt, question = _excerpt_and_question(turns[0].content, where)
    return Request(excerpt, system or None, question, _limit(settings, where), _stops(settings), where)


def _excerpt_and_question(content: Sequence[ChatContent], where: str) -> tuple[Excerpt, str]:
    kinds = [part.type for part in content]
    if kinds.count("video") != 1 or {*kinds} - {"video", "text"}:
        given = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "nothing"
        raise QuestionError(f"{where}: infinipot watches one video and is asked about it in words; given: {given}")
    video, *rest = content
    if video.type != "video":
        raise QuestionError(f"{where}: there is text before the video, but a stream is asked after what it has watched")
    return _excerpt(video, where), "".join(_text(part, where) for part in rest)


def _excerpt(video: Any, where: str) -> Excerpt:
    """The excerpt of a message: its `url` is a path or an address, or a mapping of it with a beginning and an end."""
    source, start, end = video.url, getattr(video, "start_time", None), getattr(video, "end_time", None)
    if isinstance(source, Mapping):
        start, end = source.get("video_start", start), source.get("video_end", end)
        source = source.get("url") or source.get("path") or source.get("video")
    if not isinstance(source, str | os.PathLike):
        raise QuestionError(f"{where}: a video is a path or an address here, not a {type(source).__name__}")
    return Excerpt(os.fspath(source), start or 0.0, end)


def _text(part: ChatContent, where: str) -> str:
    if part.type != "text":
        raise QuestionError(f"{where}: a system message is text, but there is {part.type} in it")
    return part.text


def _require_greedy(settings: Mapping[str, Any], where: str) -> None:
    """A stream gives the likeliest answer; any other way to decode would be another measurement."""
    asked = [
        f"{name}={settings[name]}"
        for name, plain in (("do_sample", False), ("temperature", 0), ("num_beams", 1))
        if settings.get(name) not in (None, plain)
    ]
    if asked:
        raise QuestionError(
            f"{where} asks for {', '.join(asked)}, but infinipot decodes greedily. To measure that all the same: "
            "--gen_kwargs do_sample=False,temperature=0,num_beams=1"
        )


def _limit(settings: Mapping[str, Any], where: str) -> int:
    limit: Any = settings.get("max_new_tokens")
    if limit is None:
        return _LONGEST_ANSWER
    if not is_whole(limit) or limit < 1:
        raise QuestionError(f"{where}: max_new_tokens={limit!r}: give a whole number of tokens, 1 or more")
    return int(limit)


def _stops(settings: Mapping[str, Any]) -> tuple[str, ...]:
    until = settings.get("until") or ()
    return tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop and stop != _FILLER)
