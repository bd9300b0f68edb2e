"""The events that tell the client of a realtime session about one response. Asks the model nothing itself."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from infinipot.serve.answers import usage
from infinipot.serve.asking import AnswerDetails
from infinipot.serve.errors import ApiError
from infinipot.serve.lane import Answered
from infinipot.serve.realtime import protocol
from infinipot.serve.realtime.items import Items, described


class ResponseEvents:
    """Sends the events of one response to the client.

    Args:
        tell: sends an event of the given kind.
        asked: the options of the response.
        conversation: the id of the session's conversation.
        items: the items of that conversation.

    Attributes:
        remembers: whether the turn becomes part of the conversation.
    """

    def __init__(
        self, tell: Callable[..., Awaitable[None]], asked: protocol.ResponseOptions, conversation: str, items: Items
    ) -> None:
        self._tell, self._asked, self._items = tell, asked, items
        self.remembers = asked.conversation == "auto"
        self._conversation = conversation if self.remembers else None
        self._id, self._item = new_id("resp"), new_id("item")
        self._where = {"response_id": self._id, "item_id": self._item, "output_index": 0, "content_index": 0}
        self._text = ""
        self._speaking = False
        self._previous: str | None = None

    def _message(self, status: str) -> dict[str, Any]:
        """The message that is the answer."""
        return described(self._item, "assistant", [{"type": "output_text", "text": self._text}], status)

    async def begin(self) -> None:
        """Announces that the response has begun."""
        await self._tell("response.created", response=self._response("in_progress"))

    async def piece(self, text: str) -> None:
        """Sends a piece of its text."""
        if not self._speaking:
            await self._open()
        self._text += text
        await self._tell("response.output_text.delta", **self._where, delta=text)

    async def end(
        self,
        status: str,
        answered: Answered | None = None,
        problem: ApiError | None = None,
        asked: AnswerDetails | None = None,
    ) -> None:
        """Sends how the response ended, and its usage."""
        if answered is not None:
            if not self._speaking:
                await self._open()
            self._text = answered.text
        if self._speaking:
            await self._close(status)
        own = {} if asked is None else {"infinipot": asked.model_dump()}
        await self._tell("response.done", response=self._response(status, answered, problem) | own)

    async def _open(self) -> None:
        self._speaking = True
        item = self._message("in_progress") | {"content": []}
        await self._tell("response.output_item.added", response_id=self._id, output_index=0, item=item)
        if self.remembers:
            self._previous = self._items.last
            await self._join("added", item)
        part = {"type": "text", "text": ""}
        await self._tell("response.content_part.added", **self._where, part=part)

    async def _close(self, status: str) -> None:
        await self._tell("response.output_text.done", **self._where, text=self._text)
        part = {"type": "text", "text": self._text}
        await self._tell("response.content_part.done", **self._where, part=part)
        item = self._message("completed" if status == "completed" else "incomplete")
        if self.remembers:
            await self._join("done", item)
        await self._tell("response.output_item.done", response_id=self._id, output_index=0, item=item)

    async def _join(self, what: str, item: dict[str, Any]) -> None:
        """Makes the message part of the conversation, as it is now, and tells that it was `added` or is `done`."""
        self._items.keep(item)
        await self._tell(f"conversation.item.{what}", previous_item_id=self._previous, item=item)

    def _response(
        self, status: str, answered: Answered | None = None, problem: ApiError | None = None
    ) -> dict[str, Any]:
        details: dict[str, Any] | None = None
        if answered is not None and answered.answer.finish_reason == "length":
            status, details = "incomplete", {"type": "incomplete", "reason": "max_output_tokens"}
        if status == "cancelled":
            details = {"type": "cancelled", "reason": "client_cancelled"}
        if problem is not None:
            error = {"type": problem.kind, "code": problem.code, "message": problem.message}
            details = {"type": "failed", "error": error}
        done = status != "in_progress" and self._speaking
        return {
            "object": "realtime.response",
            "id": self._id,
            "status": status,
            "status_details": details,
            "output": [self._message("completed" if status == "completed" else "incomplete")] if done else [],
            "conversation_id": self._conversation,
            "output_modalities": ["text"],
            "max_output_tokens": self._asked.max_output_tokens or "inf",
            "metadata": self._asked.metadata,
            "usage": None if answered is None else _usage(answered),
        }


def _usage(answered: Answered) -> dict[str, Any]:
    """The usage of a response, as the realtime API counts it."""
    tokens = usage(answered)
    return {
        "input_tokens": tokens.prompt_tokens,
        "output_tokens": tokens.completion_tokens,
        "total_tokens": tokens.total_tokens,
        "input_token_details": {
            "cached_tokens": answered.memory_tokens,
            "image_tokens": answered.video_tokens,
            "text_tokens": tokens.prompt_tokens - answered.video_tokens,
        },
        "output_token_details": {"text_tokens": tokens.completion_tokens},
    }


def new_id(kind: str) -> str:
    """An id like OpenAI's: a kind, and a part that nobody can guess."""
    return f"{kind}_{uuid.uuid4().hex[:20]}"
