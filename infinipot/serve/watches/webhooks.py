"""Sends events to webhooks: signed, tried again, and only to addresses that the server's rules allow.

Signed as standardwebhooks.com has it: base64 of HMAC-SHA256 over "id.timestamp.body", by the secret behind `whsec_`.
"""

import base64
import hashlib
import hmac
import http.client
import json
import logging
import random
import secrets
import time

from infinipot.serve.logs import event as log
from infinipot.serve.media.addresses import AddressError, Rules, parse
from infinipot.serve.media.remote import PinnedConnection
from infinipot.serve.watches.store import Delivery, Store

logger = logging.getLogger(__name__)

_TIMEOUT = 10.0
_FIRST, _LONGEST = 2.0, 3600.0  # seconds between two tries
_TRIES = 20  # over most of a day


def new_secret() -> str:
    """A secret that nobody has."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def signature(secret: str, number: str, stamp: str, body: bytes) -> str:
    """The header that tells a receiver who sent a body, and when."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, b".".join([number.encode(), stamp.encode(), body]), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


class Webhooks:
    """Delivers what waits in a store.

    Args:
        store: that holds it.
        rules: which addresses there may be.
    """

    def __init__(self, store: Store, rules: Rules) -> None:
        self._store, self._rules = store, rules

    def check(self, url: str) -> None:
        """Raises `AddressError` for an address that can be none; its host is looked up at each delivery."""
        self._rules.check_host(parse(url).host)

    def deliver(self, delivery: Delivery) -> None:
        """Sends one event, and notes how that went. Waits for the receiver."""
        number = delivery.event.id
        try:
            status = self._send(delivery)
        except (AddressError, OSError, http.client.HTTPException, ValueError) as error:
            self._fail(delivery, str(error) or type(error).__name__)
            return
        if 200 <= status < 300:
            self._store.delivered(number)
        elif status == 410:  # the receiver wants no more
            self._give_up(delivery, "status 410")
        else:
            self._fail(delivery, f"status {status}")

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
        try:
            connection.request("POST", address.path, body, headers)
            return connection.getresponse().status  # where it leads elsewhere is not followed
        finally:
            connection.close()

    def _fail(self, delivery: Delivery, why: str) -> None:
        if delivery.tries + 1 >= _TRIES:
            self._give_up(delivery, why)
            return
        wait = min(_LONGEST, _FIRST * 2.0**delivery.tries) * random.uniform(0.7, 1.0)
        self._store.postpone(delivery.event.id, time.time() + wait)

    def _give_up(self, delivery: Delivery, why: str) -> None:
        self._store.delivered(delivery.event.id)
        log(logger, "an event was not delivered", logging.WARNING, event=delivery.event.id, why=why)
