"""Sends events to webhooks: signed, tried again, and only to addresses that the server's rules allow.

One receiver that is slow, or never answers, holds up no other: each standing question has one delivery under way, in a
thread of these alone, for a bounded time.

Signed as standardwebhooks.com has it: base64 of HMAC-SHA256 over "id.timestamp.body", by the secret behind `whsec_`.
"""

import asyncio
import base64
import hashlib
import hmac
import http.client
import json
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from infinipot.serve.logs import event as log
from infinipot.serve.media.addresses import AddressError, Rules, parse
from infinipot.serve.media.remote import PinnedConnection
from infinipot.serve.watches.protocol import key_of
from infinipot.serve.watches.store import LONGEST_WAIT, Delivery, Store

logger = logging.getLogger(__name__)

_TIMEOUT, _LONGEST_CALL = 10.0, 30.0  # seconds for a receiver's next byte, and for all of them
_ROUND = 0.5  # seconds between two looks at what is to be delivered
_AT_ONCE = 16  # deliveries
_BROKEN = 30.0  # seconds until a question's events are tried again, where it could not be noted how one went
_FIRST = 2.0  # seconds between the first two tries
_TRIES = 32  # over most of a day


def new_secret() -> str:
    """A new random secret."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def signature(secret: str, number: str, stamp: str, body: bytes) -> str:
    """The header that tells a receiver who sent a body, and when."""
    signed = hmac.new(key_of(secret), b".".join([number.encode(), stamp.encode(), body]), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


class Webhooks:
    """Delivers what waits in a store.

    Args:
        store: that holds it.
        rules: which addresses there may be.

    Attributes:
        on_result: is called, on the event loop, with each question that had an event delivered, and what was wrong, or
            None.
    """

    def __init__(self, store: Store, rules: Rules) -> None:
        self._store, self._rules = store, rules
        self.on_result: Callable[[str, str | None], None] | None = None
        self._threads = ThreadPoolExecutor(_AT_ONCE, "webhook")
        self._sending: dict[str, asyncio.Task[None]] = {}  # by the question whose event it is
        self._more = asyncio.Event()

    def wake(self) -> None:
        """There is something new to deliver."""
        self._more.set()

    async def run(self) -> None:
        """Delivers what is due, until it is cancelled."""
        try:
            while True:
                self._more.clear()
                try:
                    await self._begin_due()
                except Exception:  # such as a disk that is full, for now
                    logger.exception("a delivery that is due cannot be read")
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ROUND):
                        await self._more.wait()
        finally:
            for each in self._sending.values():
                each.cancel()
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _begin_due(self) -> None:
        due = await asyncio.to_thread(self._store.due, time.time(), _AT_ONCE + len(self._sending))
        for each in due:
            if each.event.watch not in self._sending and len(self._sending) < _AT_ONCE:
                self._sending[each.event.watch] = asyncio.create_task(self._deliver(each))

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            wrong = await asyncio.get_running_loop().run_in_executor(self._threads, self.deliver, delivery)
            if self.on_result is not None:
                self.on_result(delivery.event.watch, wrong)
        except Exception:
            logger.exception("the outcome of a delivery could not be stored")
            await asyncio.sleep(_BROKEN)  # it was made: not again and again
        finally:
            self._sending.pop(delivery.event.watch, None)
            self._more.set()

    def check(self, url: str) -> None:
        """Raises `AddressError` for an address that can be none; its host is looked up at each delivery."""
        self._rules.check_host(parse(url).host)

    def deliver(self, delivery: Delivery) -> str | None:
        """Sends one event, and notes how that went; returns what was wrong. Waits for the receiver."""
        status, wrong = None, None
        try:
            status = self._send(delivery)
            wrong = None if 200 <= status < 300 else f"status {status}"
        except (AddressError, OSError, http.client.HTTPException, ValueError) as error:
            wrong = str(error) or type(error).__name__
        last = status == 410 or delivery.tries + 1 >= _TRIES  # 410: the receiver wants no more
        if wrong is None or last:
            self._store.delivered(delivery.event.id)
        else:
            wait = min(LONGEST_WAIT, _FIRST * 2.0**delivery.tries) * random.uniform(0.7, 1.0)
            self._store.postpone(delivery.event.id, time.time() + wait)
        if wrong is not None:
            told = "an event was not delivered" if last else "an event is not delivered yet"
            log(logger, told, logging.WARNING, event=delivery.event.id, watch=delivery.event.watch, why=wrong)
        return wrong

    def _send(self, delivery: Delivery) -> int:
        address, found = parse(delivery.url), delivery.event
        body = json.dumps(
            {
                "type": "event",
                "id": found.id,
                "stream": found.stream,
                "watch": found.watch,
                "question": found.question,
                "answer": found.answer,
                "time": found.time,
                "at": found.at,
                "evidence": found.evidence,
            }
        ).encode()
        number, stamp = f"event-{found.id}", str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "infinipot",
            "webhook-id": number,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(delivery.secret, number, stamp, body),
        }
        connection = PinnedConnection(address, str(self._rules.resolve(address)[0]), _TIMEOUT)
        over = threading.Timer(_LONGEST_CALL, connection.hang_up)
        over.start()
        try:
            connection.request("POST", address.path, body, headers)
            return connection.getresponse().status  # where it leads elsewhere is not followed
        finally:
            over.cancel()
            connection.close()
