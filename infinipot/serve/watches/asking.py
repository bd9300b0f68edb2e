"""Asks the standing questions of all streams as their time goes on, and notes what happens."""

import asyncio
import json
import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, TypeVar

from infinipot.errors import InfinipotError
from infinipot.serve.answers import Asker
from infinipot.serve.asking import AskFields, Looking
from infinipot.serve.errors import ApiError
from infinipot.serve.lane import Answered
from infinipot.serve.logs import event as log
from infinipot.serve.media.addresses import AddressError, rules
from infinipot.serve.settings import Settings
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import Served
from infinipot.serve.watches.events import Events
from infinipot.serve.watches.protocol import Quiet, WatchRequest, WatchState, Webhook
from infinipot.serve.watches.store import Event, Store
from infinipot.serve.watches.trigger import Trigger
from infinipot.serve.watches.verdict import asked, verdict
from infinipot.serve.watches.watch import Watch
from infinipot.serve.watches.webhooks import Webhooks, new_secret
from infinipot.shipped import NAMES

logger = logging.getLogger(__name__)
T = TypeVar("T")
_AHEAD = 8  # times that a question may wait to be answered
_UNHEARD = 256  # of its answers that may wait to be taken in, which takes as long as a disk takes


class Watches:
    """The standing questions of a server. Used on the event loop alone.

    Args:
        settings: of the server.
        streams: that are asked.
        asker: asks them.

    Raises:
        InfinipotError: the file of events cannot be opened.

    Attributes:
        events: what happened.
    """

    def __init__(self, settings: Settings, streams: Streams, asker: Asker) -> None:
        self._settings, self._streams, self._asker = settings, streams, asker
        self._store = Store(settings.events_path, settings.limits.events)
        self.events = Events(self._store)
        self._webhooks = Webhooks(self._store, rules(settings.webhook_hosts, settings.media_networks))
        self._webhooks.on_result = self._note_delivery
        self._watches: dict[Served, list[Watch]] = {}
        self._adding = asyncio.Lock()  # one question after another, so that the limit holds
        self._tasks: set[asyncio.Task[Any]] = set()
        self._instruct = settings.model not in NAMES

    async def start(self, saved: Callable[[str, str], bool]) -> None:
        """Goes on with the questions that were kept, of the streams that there are.

        Args:
            saved: whether a stream lies on the disk, by owner and id: one that could not be restored this time keeps
                its questions, too.
        """
        streams = {(served.owner, served.id): served for served in self._streams}
        for row in await asyncio.to_thread(self._store.watches):
            place = row["owner"], row["stream"]
            if (served := streams.get(place)) is not None:
                self._go_on(served, row)
            elif not saved(*place):
                await asyncio.to_thread(self._store.end_watch, row["id"])
        self._streams.on_taken = self._ask_due
        self._begin(self._webhooks.run())

    def _go_on(self, served: Served, row: sqlite3.Row) -> None:
        """Goes on with a question; one that this version does not understand is told of, and left where it lies."""
        try:
            request = WatchRequest.model_validate_json(row["request"])
            trigger = Trigger(**json.loads(row["believed"]))
        except (ValueError, TypeError) as error:
            why = " ".join(str(error).split())[:200]
            log(logger, "a standing question was not restored", logging.ERROR, watch=row["id"], why=why)
            return
        watch = Watch(row["id"], served, request, row["secret"], trigger, row["told"])
        self._watches.setdefault(served, []).append(watch)

    async def stop(self) -> None:
        """Stops asking standing questions, and closes the store."""
        self._streams.on_taken = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._store.close()

    async def add(self, served: Served, request: WatchRequest) -> WatchState:
        """Asks a question from now on.

        Raises:
            ApiError: there are too many, the question cannot be asked, the webhook's address may be none, or the
                stream is closed meanwhile.
        """
        if served.passing:
            message = f"{served.id} ends with the request or session that opened it: put the question to a named stream"
            raise ApiError(409, message, "stream_passing")
        held, most = self._watches.setdefault(served, []), self._settings.limits.watches
        secret = None
        if request.webhook is not None:
            try:
                self._webhooks.check(request.webhook.url)
            except AddressError as error:
                raise ApiError(400, str(error), "webhook_refused", param="webhook.url") from None
            secret = request.webhook.secret or new_secret()
        served.lane.stream.answer_limit(self._question(request), max_new_tokens=request.max_tokens, **_look(request))
        trigger = Trigger(request.on_after, request.off_after, request.cooldown_s)
        watch = Watch(f"watch-{uuid.uuid4().hex[:12]}", served, request, secret, trigger)
        hidden = request.model_copy(
            update={"webhook": request.webhook and Webhook(url=request.webhook.url, secret=None)}
        )
        believed = json.dumps(asdict(trigger))
        row = (watch.id, served.owner, served.id, hidden.model_dump_json(), secret, believed)
        async with self._adding:
            if len(held) >= most:
                message = f"{most} standing questions are put to {served.id}, which is the limit"
                raise ApiError(429, message, "too_many_watches")
            await asyncio.to_thread(self._store.add_watch, *row)
            if self._watches.get(served) is not held:
                await asyncio.to_thread(self._store.remove_watch, watch.id)
                raise ApiError(410, f"stream {served.id} was closed", "stream_closed")
            held.append(watch)
        if served.lane.stats.frames:
            self._ask_due(served)
        return watch.state(secret=True)

    def _note_delivery(self, name: str, wrong: str | None) -> None:
        """Notes how the newest delivery of a question went."""
        for watch in (each for held in self._watches.values() for each in held if each.id == name):
            watch.webhook_error = wrong

    def all(self, served: Served) -> list[WatchState]:
        """The questions that are put to a stream."""
        return [watch.state() for watch in self._watches.get(served, ())]

    def find(self, served: Served, name: str) -> Watch:
        """Finds a standing question; raises `ApiError` 404."""
        found = next((watch for watch in self._watches.get(served, ()) if watch.id == name), None)
        if found is None:
            raise ApiError(404, f"there is no standing question {name[:64]!r} on {served.id}", "watch_not_found")
        return found

    async def remove(self, watch: Watch) -> None:
        """Removes a standing question."""
        self._watches[watch.served].remove(watch)
        await asyncio.to_thread(self._store.remove_watch, watch.id)

    async def forget(self, served: Served) -> None:
        """Forgets all of a stream that is deleted."""
        if not served.passing:
            self._watches.pop(served, None)
            self.events.wake()  # who follows those of this stream meets the end
            await asyncio.to_thread(self._store.forget, served.owner, served.id)

    # Asking

    def _ask_due(self, served: Served) -> None:
        """Puts what is due after the frame that has just been taken: asked of that second, however late."""
        for watch in self._watches.get(served, ()):
            if served.time is not None and (watch.due is None or served.time >= watch.due):
                watch.put_off(served.time)
                if watch.waiting < _AHEAD and watch.unheard < _UNHEARD:
                    self._put(watch)  # else it cannot keep its pace, which its state tells

    def _put(self, watch: Watch) -> None:
        request = watch.request
        how = AskFields(max_tokens=request.max_tokens, window_s=request.window, **_look(request))
        try:
            answer = self._asker.put(watch.served, self._question(request), how)
        except ApiError as error:
            watch.error = error.message
            return
        watch.waiting += 1
        watch.unheard += 1

        def left(_: object) -> None:
            self._asker.leave(answer)
            watch.waiting -= 1

        def heard(_: object) -> None:
            watch.unheard -= 1

        # Not inside the work itself: what is cancelled before its first step never runs any of it.
        made = self._begin(answer.result(explained=False))
        made.add_done_callback(left)
        self._begin(self._hear(watch, made)).add_done_callback(heard)

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _question(self, request: WatchRequest) -> str:
        return asked(request.question, request.when, instruct=self._instruct)

    async def _hear(self, watch: Watch, made: asyncio.Task[Answered]) -> None:
        """Handles an answer, after those to the question's earlier times, each of which may have to be stored."""
        try:
            async with watch.order:
                answered = await made
                if watch in self._watches.get(watch.served, ()):
                    await self._take(watch, answered)
                    watch.error = None
        except (sqlite3.Error, OSError) as error:
            _tell_unkept(watch, error)
        except (ApiError, InfinipotError) as error:
            watch.error = " ".join(str(error).split())
        except Exception:
            watch.error = "the question could not be asked"
            logger.exception("a standing question failed")

    async def _take(self, watch: Watch, answered: Answered) -> None:
        request, trigger, served = watch.request, watch.trigger, watch.served
        watch.take_pace(answered.time)
        watch.asked += 1
        watch.last = answered.text, answered.time
        matches = verdict(answered.text, request.when)
        watch.unclear += matches is None
        before = replace(trigger)
        fires = trigger.take(matches, answered.time)
        if not fires and trigger.state == before.state:
            return
        event = webhook = None
        try:
            if fires:
                event = _event(watch, answered, await asyncio.to_thread(getattr, answered, "evidence"))
                if not event.quiet and request.webhook is not None and watch.secret is not None:
                    webhook = request.webhook.url, watch.secret
            await asyncio.to_thread(self._store.believe, watch.id, json.dumps(asdict(trigger)), event, webhook)
        except BaseException:  # what is not on the disk did not happen: the next answer that says so makes the event
            watch.trigger = before
            raise
        if event is not None:
            watch.told += 1
            log(logger, "event", stream=served.id, watch=watch.id, time=answered.time)
            self._webhooks.wake()
            self.events.wake()


def _event(watch: Watch, answered: Answered, evidence: list[dict[str, Any]]) -> Event:
    """The event that an answer makes now."""
    request, served = watch.request, watch.served
    picture = served.thumbnails.nearest(answered.time)
    return Event(
        owner=served.owner,
        stream=served.id,
        watch=watch.id,
        question=request.question,
        answer=answered.text,
        time=answered.time,
        at=time.time(),
        quiet=request.quiet is not None and in_quiet(request.quiet, datetime.now().astimezone()),
        evidence=evidence,
        picture=picture and picture[1],
    )


def _tell_unkept(watch: Watch, error: Exception) -> None:
    """Reports that the effect of an answer cannot be stored: in the question's state, and once in the log."""
    message = f"the event cannot be kept: {error}"
    if watch.error != message:
        watch.error = message
        log(logger, "an event cannot be kept", logging.ERROR, watch=watch.id, stream=watch.served.id, why=str(error))


def in_quiet(quiet: Quiet, now: datetime) -> bool:
    """Whether a time of the day lies in quiet hours, which may go over midnight."""
    at = now.time().replace(tzinfo=None)
    if quiet.start <= quiet.end:
        return quiet.start <= at < quiet.end
    return at >= quiet.start or at < quiet.end


def _look(request: WatchRequest) -> dict[str, Any]:
    """The second look of a question, by the names of `Stream.ask`."""
    return request.model_dump(include=set(Looking.model_fields))
