"""A standing question as it stands: when it is due, what is believed, how it keeps its pace. Asks nothing itself."""

import asyncio
import math
from dataclasses import dataclass, field

from infinipot.serve.streams.served import Served
from infinipot.serve.watches.protocol import WatchRequest, WatchState, Webhook
from infinipot.serve.watches.trigger import Trigger

_SMOOTH = 0.2  # weight of the newest time between two answers
_TOLD = {"question", "every_s", "when", "cooldown_s", "on_after", "off_after", "look_again", "about"}
_SLACK = 1.5  # a question is behind if its real interval exceeds `every_s` by this factor


@dataclass(slots=True, eq=False)
class Watch:
    """A standing question.

    Attributes:
        id, served: its name, and the stream it is put to.
        request: as it was given.
        trigger: what is believed.
        due: second of the stream at which it is asked next; None as soon as there is a frame.
        waiting: times that it was asked and is not answered yet; unheard: whose answers are not taken in yet.
        order: in which answers are taken in.
    """

    id: str
    served: Served
    request: WatchRequest
    secret: str | None
    trigger: Trigger
    told: int = 0
    due: float | None = None
    waiting: int = 0
    unheard: int = 0
    order: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: int = 0
    unclear: int = 0
    last: tuple[str, float] | None = None
    every: float = field(default=0.0)
    error: str | None = None
    webhook_error: str | None = None

    def state(self, *, secret: bool = False) -> WatchState:
        """The standing question as the API describes it, with its secret only when that was just created."""
        request = self.request
        webhook = request.webhook and Webhook(url=request.webhook.url, secret=self.secret if secret else None)
        every = self.every or request.every_s
        return WatchState(
            id=self.id,
            stream=self.served.id,
            **request.model_dump(include=_TOLD),
            window_s=request.window,
            quiet=request.quiet,
            webhook=webhook,
            webhook_error=self.webhook_error,
            state=self.trigger.state,
            asked=self.asked,
            unclear=self.unclear,
            last_answer=self.last and self.last[0],
            last_time=self.last and self.last[1],
            asked_every_s=every,
            keeps_pace=every <= _SLACK * request.every_s,
            events=self.told,
            error=self.error,
        )

    def put_off(self, asked_at: float) -> None:
        """Sets the next due time: the first multiple of `every_s`, counted from the first asking, after `asked_at`."""
        every, due = self.request.every_s, asked_at if self.due is None else self.due
        self.due = round(due + every * (math.floor((asked_at - due) / every + 1e-6) + 1), 6)

    def take_pace(self, at: float) -> None:
        """Updates the mean interval between answers with one that was asked at a second of the stream."""
        if self.last is not None:
            since = max(at - self.last[1], 0.0)
            self.every = since if not self.every else (1 - _SMOOTH) * self.every + _SMOOTH * since
