"""Standing questions over months: none starves, no receiver or full disk ends deliveries, and nobody is waited for."""

import asyncio
import http.server
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from infinipot.embedded.world import Clip
from infinipot.serve.media.addresses import rules
from infinipot.serve.watches import webhooks
from infinipot.serve.watches.store import LONGEST_WAIT, Event, Store
from infinipot.serve.watches.webhooks import Webhooks, new_secret
from support.patience import until
from support.serving import KEYS, Running, clip, push, running, stream

NOW = "Is there a shape now?"


def event(number: int, **given: Any) -> Event:
    told = {"owner": "alice", "stream": "s", "watch": "w", "question": "q", "answer": f"a{number}"}
    return Event(**{**told, "time": float(number), "at": float(number), "quiet": False, **given})


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes all deliveries."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Any]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.got = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_every_standing_question_has_its_turn_and_clients_have_theirs(served: Running) -> None:
    """All are due with the same frame: more of them than a client may have questions waiting."""
    client, limits = served.as_("alice"), served.server.settings.limits
    assert limits.watches > limits.answers_waiting
    with stream(client, "many") as name:
        push(client, name, clip()[:2])
        path = f"/v1/streams/{name}/watches"
        for _ in range(limits.watches):
            assert client.post(path, json={"question": NOW, "every_s": 0.5}).status_code == 201
        for frame in clip()[2:5]:
            push(client, name, (frame,), wait=False)
            assert client.post(f"/v1/streams/{name}/ask", json={"question": NOW}).status_code == 200
        state = lambda: client.get(path).json()["data"]  # noqa: E731
        assert until(lambda: all(each["asked"] == 4 for each in state())), [each["asked"] for each in state()]
        assert not any(each["error"] for each in state())


def keep(store: Store, told: Event, url: str) -> None:
    """Keeps an event to be sent to an address, and its standing question, where that is not there yet."""
    if all(each["id"] != told.watch for each in store.watches()):
        store.add_watch(told.watch, told.owner, told.stream, "{}", None, "{}")
    store.believe(told.watch, "{}", told, (url, new_secret()))


async def deliver(sender: Webhooks, done: Callable[[], bool]) -> None:
    """Sends what waits until something is so."""
    sending = asyncio.create_task(sender.run())
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.01)
    sending.cancel()


def test_a_receiver_that_never_answers_holds_up_no_other(receiver: Any) -> None:
    store, allowed = Store(None, 100), rules((), ["127.0.0.0/8"])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for place, number in (("silent", 20), ("heard", 3)):
            port = {"silent": silent.getsockname()[1], "heard": receiver.server_address[1]}[place]
            for each in range(number):
                told = event(each, watch=f"silent {each // 2}" if place == "silent" else place)
                keep(store, told, f"http://127.0.0.1:{port}/")
        asyncio.run(deliver(Webhooks(store, allowed), lambda: len(receiver.got) == 3))
    assert [each["answer"] for each in receiver.got] == ["a0", "a1", "a2"]  # in their order


def test_a_delivery_that_fails_is_told_each_time(caplog: pytest.LogCaptureFixture) -> None:
    store, results = Store(None, 100), []
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    keep(store, event(1), url)
    sender = Webhooks(store, rules((), ["127.0.0.0/8"]))
    sender.on_result = lambda *given: results.append(given)
    with caplog.at_level("WARNING"):
        asyncio.run(deliver(sender, lambda: bool(results)))
    ((watch, why),) = results
    assert (watch, "refused" in why) == ("w", True)
    assert [record.getMessage() for record in caplog.records] == ["an event is not delivered yet"]


def test_a_receiver_that_goes_on_for_ever_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_LONGEST_CALL", 0.3)
    store = Store(None, 100)
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def drip() -> None:
            connection, _ = slow.accept()
            with connection, suppress(OSError):
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        keep(store, event(1), f"http://127.0.0.1:{slow.getsockname()[1]}/")
        (delivery,) = store.due(time.time() + 1, 10)
        Webhooks(store, rules((), ["127.0.0.0/8"])).deliver(delivery)
    assert store.due(time.time() + 60, 10)[0].tries == 1, "it is tried again"


def test_what_a_store_cannot_take_ends_no_delivery(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full for a while."""
    store, real = Store(None, 100), Store.due
    monkeypatch.setattr(webhooks, "_ROUND", 0.01)
    failing = iter([sqlite3.OperationalError("database or disk is full")] * 3)

    def due(*given: Any) -> list:
        for error in failing:
            raise error
        return real(*given)

    monkeypatch.setattr(Store, "due", due)
    keep(store, event(1), f"http://127.0.0.1:{receiver.server_address[1]}/")
    sender = Webhooks(store, rules((), ["127.0.0.0/8"]))
    asyncio.run(deliver(sender, lambda: not store._rows("SELECT * FROM deliveries")))
    assert len(receiver.got) == 1


def test_a_delivery_that_was_put_off_before_the_clock_was_set_back_is_due() -> None:
    store = Store(None, 100)
    keep(store, event(1), "http://x")
    store.postpone(1, time.time() + 86_400)
    assert store.due(time.time(), 10)
    store.postpone(1, time.time() + LONGEST_WAIT - 1)
    assert not store.due(time.time(), 10)


def test_an_event_that_could_not_be_kept_happens_with_the_next_answer(
    served: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client, real = served.as_("alice"), Store.believe
    world = Clip(10_002, 20, events=3, cast="varied")
    shown = [frame for frame in world if frame.time >= world.events[0].start][:4]

    failed: list[Any] = []

    def full(*given: Any) -> None:
        failed.append(given)
        raise sqlite3.OperationalError("database or disk is full")

    with stream(client, "full") as name:
        path = f"/v1/streams/{name}"
        made = client.post(f"{path}/watches", json={"question": NOW, "every_s": 0.5}).json()
        state = lambda: client.get(f"{path}/watches/{made['id']}").json()  # noqa: E731
        monkeypatch.setattr(Store, "believe", full)
        push(client, name, tuple(shown[:2]))
        assert until(lambda: len(failed) == 2 and state()["asked"] == 2)
        assert until(lambda: state()["error"] == "the event cannot be kept: database or disk is full")
        assert (state()["events"], state()["state"]) == (0, "unknown")
        assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
            "an event cannot be kept"
        ]
        monkeypatch.setattr(Store, "believe", real)
        push(client, name, tuple(shown[2:]))
        assert until(lambda: state()["events"] == 1)
        assert until(lambda: state()["error"] is None)
        (told,) = client.get(f"{path}/events").json()["data"]
        assert told["time"] == shown[2].time


def test_who_follows_events_meets_the_end_of_the_stream(served: Running) -> None:
    client = served.as_("alice")
    client.post("/v1/streams", json={"id": "ends"})
    with client.stream("GET", "/v1/streams/ends/events", headers={"Accept": "text/event-stream"}) as reply:
        lines = reply.iter_lines()
        assert next(lines) == ": here"
        assert served.as_("alice").delete("/v1/streams/ends").status_code == 204
        assert not any(line.startswith("data") for line in lines)  # and no more


def test_a_server_that_ends_does_not_wait_for_those_who_would_never_leave() -> None:
    with ExitStack() as opened:
        with running(limits={"drain_seconds": 25}) as server:
            client = server.as_(None)
            client.post("/v1/streams", json={"id": "on"})
            push(client, "on", clip()[:2])
            follower = opened.enter_context(httpx.Client(base_url=server.url, timeout=30))
            events = follower.stream("GET", "/v1/streams/on/events", headers={"Accept": "text/event-stream"})
            assert next(opened.enter_context(events).iter_lines()) == ": here"
            asked = {"id": "on", "prompt": NOW, "stream": True, "chunk_duration": 1000}
            captions = follower.stream("POST", "/v1/generate_captions", json=asked)
            assert next(opened.enter_context(captions).iter_lines()) == ": here"
            begun = time.monotonic()
        assert time.monotonic() - begun < 15


def test_no_more_questions_are_taken_at_once_than_there_may_be_and_none_of_a_stream_that_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on, begun, real = threading.Event(), threading.Event(), Store.add_watch

    def slow(*given: Any) -> None:
        begun.set()
        assert goes_on.wait(30)
        real(*given)

    monkeypatch.setattr(Store, "add_watch", slow)
    with running(limits={"watches": 1}) as served, ThreadPoolExecutor(3) as threads:
        client, store = served.as_(None), served.server.watches._store
        add = lambda: client.post("/v1/streams/few/watches", json={"question": NOW}).status_code  # noqa: E731
        client.post("/v1/streams", json={"id": "few"})
        added = [threads.submit(add) for _ in range(3)]
        assert begun.wait(10)
        time.sleep(0.05)
        goes_on.set()
        assert sorted(each.result() for each in added) == [201, 429, 429]
        assert client.delete(f"/v1/streams/few/watches/{store.watches()[0]['id']}").status_code == 204
        goes_on.clear()
        begun.clear()
        late = threads.submit(add)
        assert begun.wait(10)
        assert client.delete("/v1/streams/few").status_code == 204
        goes_on.set()
        assert late.result() == 410
        assert not store.watches()


def test_a_standing_question_is_put_to_a_stream_that_stays(served: Running) -> None:
    headers = {"Authorization": f"Bearer {KEYS['alice']}"}
    with connect(f"ws://127.0.0.1:{served.port}/v1/video/chat/stream", additional_headers=headers) as session:
        session.send(json.dumps({"type": "session.config"}))
        assert until(lambda: [each for each in served.server.streams if each.passing])
        (passing,) = (each for each in served.server.streams if each.passing)
        reply = served.as_("alice").post(f"/v1/streams/{passing.id}/watches", json={"question": NOW})
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "stream_passing")
