"""Requests that mean harm, or nothing: each gets its status and an error, and the next good one an answer."""

import base64
import gc
import json
import os
import random
import re
import socket
import string
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from support.patience import until
from support.serving import KEYS, Running, clip, encoded, keys_file, push, running, stream

COUNT = "How many shapes have appeared so far?"
PICTURE = encoded(clip()[0].image)
HERS = {"Authorization": f"Bearer {KEYS['alice']}"}


@pytest.fixture(autouse=True)
def good_afterwards(served: Running) -> Iterator[None]:
    """After each test a stream is opened, fed, asked and closed, and nothing is left behind."""
    before = len(served.server.streams), served.server.streams.room.reserved
    yield
    with stream(served.as_("alice"), "afterwards") as name:
        push(served.as_("alice"), name, clip()[:2])
        reply = served.as_("alice").post(f"/v1/streams/{name}/ask", json={"question": COUNT})
        assert reply.status_code == 200
    until = time.monotonic() + 30
    while (len(served.server.streams), served.server.streams.room.reserved) != before:
        assert time.monotonic() < until, "a stream was left behind"
        time.sleep(0.01)


def refused(reply: httpx.Response, *statuses: int) -> None:
    """An error in OpenAI's form, with one of these statuses, that says nothing of the server's inside."""
    assert reply.status_code in statuses, (reply.status_code, reply.text[:300])
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "\n" not in error["message"]
    for inside in ("Traceback", "site-packages", "infinipot/", "0x7f"):
        assert inside not in reply.text


# What a client may say wrong: values of every JSON type and of odd sizes, in each field.
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1e308,
    "",
    "x" * 70_000,
    "\x00",
    "\ud800",
    [],
    [[]],
    {},
    {"a": {}},
    "../../etc/passwd",
    "NaN",
]
BODIES = {
    "/v1/streams": ["id", "source", "memory", "policy", "fps", "keep", "block", "reserve", "dialogue", "positions",
                    "system", "pixels", "gate", "look_again", "pace", "idle_seconds", "unknown"],
    "/v1/streams/odd/ask": ["question", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "remember",
                               "evidence", "look_again", "look_pixels", "window_s"],
    "/v1/chat/completions": ["messages", "model", "id", "session_id", "max_tokens", "temperature", "stream_options",
                             "n", "media_io_kwargs", "infinipot", "response_format", "stop"],
    "/v1/generate_captions": ["id", "prompt", "model", "system_prompt", "media_info", "chunk_duration", "infinipot",
                              "num_frames_per_second_or_fixed_frames_chunk", "chunk_overlap_duration", "look_again"],
}  # fmt: skip
GOOD: dict[str, dict[str, Any]] = {
    "/v1/streams": {},
    "/v1/streams/odd/ask": {"question": COUNT},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": COUNT}], "id": "odd"},
    "/v1/generate_captions": {"id": "odd", "prompt": COUNT},
}


@pytest.mark.parametrize("path", BODIES)
def test_every_field_of_every_body_with_every_odd_value(served: Running, path: str) -> None:
    """More than 400 bodies. What happens to be sound is answered; all else is refused as the client's fault."""
    client = served.as_("alice")
    with stream(client, "odd"):
        push(client, "odd", clip()[:2])
        for field in BODIES[path]:
            for value in ODD:
                content = json.dumps({**GOOD[path], field: value}).encode("utf-8", "surrogatepass")
                reply = client.post(path, content=content, headers={"content-type": "application/json"})
                if reply.status_code >= 300:
                    refused(reply, 400, 404, 409, 413, 429)
                elif path == "/v1/streams":
                    assert client.delete(f"/v1/streams/{reply.json()['id']}").status_code == 204


BAD_PART, PICTURE_PART = {"type": "x"}, {"type": "image_url", "image_url": "data:,"}
TURNS = [{"role": "user", "content": [PICTURE_PART] * 300}] * 100
NESTED: dict[str, Any] = {"type": "object"}
for _ in range(20):
    NESTED = {"anyOf": [NESTED]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/streams/hard/ask", {"question": COUNT, "stop": "x" + "y" * 300_000}),
        ("/v1/streams/hard/ask", {"question": COUNT, "stop": ["x"] * 1000}),
        ("/v1/streams/hard/ask", {"question": COUNT, "temperature": 1, "repetition_penalty": 1e-45}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [BAD_PART] * 100_000}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [PICTURE_PART] * 100_000}]}),
        ("/v1/chat/completions", {"messages": TURNS}),
        (
            "/v1/chat/completions",
            {
                "messages": [{"role": "user", "content": COUNT}],
                "media_io_kwargs": {"video": {"frames_indices": [-1] * 500_000}},
            },
        ),
        ("/v1/streams/hard/watches", {"question": COUNT, "when": NESTED}),
        ("/v1/streams/hard/watches", {"question": COUNT, "when": {"unevaluatedProperties": False}}),
        ("/v1/streams/hard/watches", {"question": COUNT, "when": "\ud800"}),
        ("/v1/streams", {"memory": 512, "pixels": [60_000_000, 67_000_000]}),
        ("/v1/streams", {"memory": 512, "pixels": [1_000_000, 1_000_000]}),
        ("/v1/streams", {"source": "http://admin:s3cret\uff201@192.168.0.7/video"}),
        ("/v1/streams", {"source": "http://[x/video"}),
        ("/v1/streams", {"source": "file://[x/video"}),
    ],
)
def test_what_would_take_long_is_refused_at_once(
    served: Running, path: str, body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asks for it: all others would wait."""
    client = served.as_("alice")
    with stream(client, "hard"):
        push(client, "hard", clip()[:2])
        begun = time.monotonic()
        content = json.dumps(body).encode()
        refused(client.post(path, content=content, headers={"content-type": "application/json"}), 400, 413)
        assert time.monotonic() - begun < 5
    assert "s3cret" not in caplog.text


def test_requests_together_hold_no_more_bytes_than_they_may() -> None:
    size = 1 << 20
    with running(limits={"bodies_bytes": 2 * size + size // 2}) as small:
        host, port = small.url.removeprefix("http://").split(":")
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size + 10}\r\n\r\n"
        with ExitStack() as opened:
            for _ in range(2):
                held = opened.enter_context(socket.create_connection((host, int(port))))
                held.sendall(head.encode() + b" " * size)
            client = small.as_(None)
            question = {"messages": [{"role": "user", "content": "x" * size}]}
            assert until(lambda: client.post("/v1/chat/completions", json=question).status_code == 503)
            assert client.get("/health").status_code == 200
        assert until(lambda: client.post("/v1/chat/completions", json=question).status_code == 400), "all is given back"


def test_bodies_that_are_no_json(served: Running) -> None:
    client, drawn = served.as_("alice"), random.Random(0)
    good = json.dumps(GOOD["/v1/chat/completions"]).encode()
    bodies = [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{" * 50_000, b"[" * 100_000 + b"]" * 100_000]
    bodies += [b'{"messages": NaN}', b'{"id": "a", "id": "b"}', good[:-1], good + good, b"a=b&c=d"]
    for _ in range(60):
        mangled = bytearray(good)
        for _ in range(drawn.randint(1, 6)):
            mangled[drawn.randrange(len(mangled))] = drawn.randrange(256)
        bodies.append(bytes(mangled))
    for body in bodies:
        reply = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        refused(reply, 400, 404, 422)
    for kind in ("text/plain", "multipart/form-data", "multipart/form-data; boundary=x", "image/png", ""):
        refused(client.post("/v1/streams", content=b"{}", headers={"content-type": kind}), 400, 422)


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "a%00b", "a%2fb", "x" * 5000, "%ff", "é", " "]
)
def test_sglang_cve_2026_7302_no_id_leads_out_of_its_folder(served: Running, name: str) -> None:
    client = served.as_("alice")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/snapshot"), ("POST", "/frames"), ("POST", "/ask")):
        given: dict[str, Any] = {"json": {"question": COUNT}} if path == "/ask" else {}
        reply = client.request(method, f"{served.url}/v1/streams/{name}{path}", **given)
        refused(reply, 400, 404, 405, 422, 307)
    refused(client.post("/v1/streams", json={"id": name}), 400)
    assert not list(served.folder("snapshots").parent.glob("*passwd*"))


def test_sglang_cve_2026_7301_and_7304_nothing_that_is_given_is_unpickled(served: Running) -> None:
    """A pickle that would write a file, wherever bytes are taken; the package loads none and runs no foreign code."""
    mark = served.folder("snapshots").parent / "unpickled"
    harm = f"cposix\nsystem\n(S'touch {mark}'\ntR.".encode()
    client, text = served.as_("alice"), base64.b64encode(harm).decode()
    with stream(client, "pickled") as name:
        refused(client.post(f"/v1/streams/{name}/frames", content=harm), 422)
        for url in (f"data:image/png;base64,{text}", f"data:video/mp4;base64,{text}", f"data:video/jpeg;base64,{text}"):
            kind = "image_url" if "image" in url else "video_url"
            content = [{"type": kind, kind: {"url": url}}, {"type": "text", "text": COUNT}]
            refused(client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]}), 422)
    assert not mark.exists()
    import infinipot.serve

    folder = os.path.dirname(infinipot.serve.__file__)
    sources = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names if name.endswith(".py")]
    for path in sources:
        with open(path) as source:
            said = source.read()
        assert not any(
            word in said for word in ("import pickle", "pickle.", "trust_remote_code", "torch.load", "eval(")
        )


def test_frigate_cve_2026_33470_what_is_saved_of_one_owner_is_not_restored_for_another(served: Running) -> None:
    alice, bob = served.as_("alice"), served.as_("bob")
    with stream(alice, "house") as name:
        push(alice, name, clip()[:4])
        alice.post(f"/v1/streams/{name}/snapshot")
        with stream(bob, name):
            bob.post(f"/v1/streams/{name}/snapshot")
            assert bob.get(f"/v1/streams/{name}").json()["saved_time"] == 0
            folders = [path.parent.parent.name for path in served.folder("snapshots").rglob("stream.json")]
            assert sorted(folders) == ["alice", "bob"]
        body = {"messages": [{"role": "user", "content": COUNT}]}
        for how in ({"id": name}, {"session_id": name}):
            refused(bob.post("/v1/chat/completions", json={**body, **how}), 404)
        video = [{"type": "video_url", "video_url": {"url": f"stream://{name}"}}, {"type": "text", "text": COUNT}]
        refused(bob.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": video}]}), 404)
        refused(bob.delete(f"/v1/streams/delete/{name}"), 404)
        assert name not in bob.get("/metrics").text
    assert not list(served.folder("snapshots").rglob("stream.json"))


def test_wrong_keys_and_none(served: Running) -> None:
    wrong = ["", "Bearer", "Bearer wrong", "Basic YWxpY2U6eA==", KEYS["alice"], f"bearer{KEYS['alice']}"]
    wrong += [f"Bearer {KEYS['alice'][:-1]}", f"Bearer {KEYS['alice']}x", f"Bearer {KEYS['alice'].upper()}"]
    for route in served.server_routes():
        refused(httpx.request(route[0], served.url + route[1]), 401)
    for value in wrong:
        refused(httpx.get(f"{served.url}/v1/models", headers={"authorization": value}), 401)
    assert httpx.get(f"{served.url}/health").status_code == 200
    assert httpx.get(f"{served.url}/ready").status_code == 200


def test_a_body_is_bounded_before_it_is_read_and_in_time() -> None:
    limits = {"body_bytes": 10_000, "body_seconds": 1.5, "header_seconds": 1.0, "frame_bytes": 5_000}
    with running(limits=limits) as server:
        client = server.as_(None)
        client.post("/v1/streams", json={"id": "small"})
        refused(client.post("/v1/streams/small/frames", content=b"x" * 6_000), 413)
        refused(client.post("/v1/streams", content=b"x" * 20_000), 413)
        refused(
            client.post("/v1/streams", content=(b"x" * 1000 for _ in range(30))), 413
        )  # in chunks, without a length
        head = b"POST /v1/streams HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        said = raw(server.port, head + b"Content-Length: 9000000000\r\n\r\n")
        assert b" 413 " in said.splitlines()[0]
        whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        starts = (head + b"Content-Length: 100\r\n\r\n{", whole[:-11], whole + whole[:-11])  # and then nothing more
        with ThreadPoolExecutor(len(starts)) as waiting:
            slow, *others = waiting.map(lambda start: raw(server.port, start), starts)
        assert b" 408 " in slow.splitlines()[0]
        assert json.loads(slow.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_slow"
        for said in others:  # in a later request too
            assert json.loads(said.rpartition(b"\r\n\r\n")[2])["error"]["code"] == "header_too_slow"
        assert client.get("/v1/streams/small").status_code == 200


def raw(port: int, content: bytes) -> bytes:
    """What the server says to these bytes until it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(content)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    "content",
    [
        b"no http at all\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/streams HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/streams HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=range(7),
)
def test_what_is_no_http_is_told_so(served: Running, content: bytes) -> None:
    said = raw(served.port, content)
    assert said.splitlines()[0].split()[1] == b"400"
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"]


def test_a_header_is_bounded(served: Running) -> None:
    for path in ("/health", "/v1/models"):
        refused(httpx.get(served.url + path, headers={"x": "b" * 70_000}), 400, 431)


def test_web_pages_of_other_origins_and_names_reach_nothing() -> None:
    with running() as server:
        refused(httpx.get(f"{server.url}/v1/models", headers={"host": "rebound.example"}), 403)
        preflight = {"origin": "http://evil.example", "access-control-request-method": "POST"}
        reply = httpx.options(f"{server.url}/v1/streams", headers=preflight)
        assert "access-control-allow-origin" not in reply.headers
        refused(httpx.post(f"{server.url}/v1/streams", content=b"{}", headers={"content-type": "text/plain"}), 400)
        own = server.url
        for origin, status in (("http://evil.example", 403), ("null", 403), (own, 404)):  # what a form can send
            headers = {"origin": origin, "content-type": "multipart/form-data; boundary=x"}
            refused(httpx.post(f"{server.url}/v1/streams/a/frames", content=b"", headers=headers), status)
        assert httpx.get(f"{server.url}/v1/models", headers={"origin": "http://evil.example"}).status_code == 200
        with (
            pytest.raises(Exception, match="403"),
            connect(f"ws://127.0.0.1:{server.port}/v1/realtime", origin=Origin("http://evil.example")),
        ):
            pass
        with connect(f"ws://127.0.0.1:{server.port}/v1/realtime", origin=Origin(f"http://127.0.0.1:{server.port}")):
            pass


def test_a_web_page_that_is_named_calls_with_its_key_and_reads_what_is_refused(tmp_path: Path) -> None:
    page = {"origin": "https://page.example"}
    with running(api_keys=keys_file(tmp_path), cors_origins=page["origin"]) as server:
        asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        preflight = httpx.options(f"{server.url}/v1/streams", headers=page | asks)  # which brings no key
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, page["origin"])
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        for key, status in ((KEYS["alice"], 200), ("wrong", 401)):
            reply = httpx.get(f"{server.url}/v1/models", headers=page | {"authorization": f"Bearer {key}"})
            assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (status, page["origin"])
            assert "X-Request-Id" in reply.headers["access-control-expose-headers"]
        other = httpx.options(f"{server.url}/v1/streams", headers=asks | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("headers", [{"host": "[::1"}, {"host": "a]"}, {"origin": "http://["}, {"origin": "\xff"}])
def test_hosts_and_origins_that_are_none_are_no_fault_of_the_server(served: Running, headers: dict) -> None:
    given = {name: value.encode("latin-1") for name, value in headers.items()}
    assert served.as_("alice").get("/v1/models", headers=given).status_code in (200, 400, 403)


def test_numbers_that_are_too_large_are_refused(served: Running) -> None:
    client, huge = served.as_("alice"), "9" * 30
    with stream(client, "large", fps=100) as name:
        path = f"/v1/streams/{name}"
        for place in (f"/events?before={huge}", f"/events/{huge}/picture", f"/events?before={'9' * 5000}"):
            refused(client.get(path + place), 400)
        for last in (huge, "9" * 5000, "-1", "x"):
            headers = {"accept": "text/event-stream", "last-event-id": last}
            refused(client.get(f"{path}/events", headers=headers), 400)
        for time_ in ("1e308", "1e16", "1.7e18"):  # such as nanoseconds: the stream would take no other frame again
            refused(client.post(f"{path}/frames?time={time_}", content=PICTURE), 400)
        assert client.post(f"{path}/frames?time=1", content=PICTURE).json()["time"] == 1


def test_a_client_that_hangs_up_in_the_midst_of_a_body_is_no_fault(
    served: Running, caplog: pytest.LogCaptureFixture
) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
    cut = [
        ("/v1/streams/cut/frames", "image/jpeg", PICTURE),
        ("/v1/streams/cut/frames", "multipart/form-data; boundary=x", part),
        ("/v1/files", "multipart/form-data; boundary=x", part),
        ("/v1/streams", "application/json", b"{"),
    ]
    with stream(served.as_("alice"), "cut"), caplog.at_level("ERROR"):
        for path, kind, content in cut:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {HERS['Authorization']}\r\n"
            head += f"Content-Type: {kind}\r\nContent-Length: 100000\r\n\r\n"
            with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
                connection.sendall(head.encode() + content)
                time.sleep(0.05)
        until = time.monotonic() + 30
        text = lambda: served.as_("alice").get("/metrics").text  # noqa: E731
        while len(re.findall(r'route="[^"]*(?:frames|files)",status="499"', text())) < 2:
            assert time.monotonic() < until
            time.sleep(0.02)
    assert not caplog.records


def test_what_is_read_may_be_asked_about_by_its_header_alone(served: Running) -> None:
    for path in ("/health", "/ready", "/v1/models", "/metrics", "/"):
        reply = served.as_("alice").head(path)
        assert (reply.status_code, reply.content) == (200, b"")


def test_events_out_of_order_and_what_are_none(served: Running) -> None:
    drawn = random.Random(1)
    kinds = ["session.update", "conversation.item.create", "conversation.item.delete", "conversation.item.retrieve",
             "response.create", "response.cancel", "input_audio_buffer.append", "session.config", "video.frame",
             "video.query", "audio.chunk", "nothing"]  # fmt: skip
    fields = ["session", "item", "item_id", "response", "response_id", "data", "text", "frame_id", "event_id"]
    for path in ("/v1/realtime", "/v1/video/chat/stream", "/v1/streams/events/frames"):
        with (
            stream(served.as_("alice"), "events"),
            connect(f"ws://127.0.0.1:{served.port}{path}", additional_headers=HERS, max_queue=None) as socket,
        ):
            for _ in range(60):
                event = {"type": drawn.choice(kinds), **{drawn.choice(fields): drawn.choice(ODD) for _ in range(3)}}
                socket.send(json.dumps(event))
            texts = "", "{", "null", "[" * 100_000, "\x00", "x" * 100_000
            for odd in (*texts, b"", b"\xff" * 1000, random.Random(2).randbytes(5000)):
                socket.send(odd)
            told: list[dict] = []
            while len(told) < 50:
                told.append(json.loads(socket.recv(timeout=30)))
            assert sum("error" in json.dumps(each) or each["type"] == "video.frame.ack" for each in told) >= 49


def test_a_message_larger_than_is_allowed_ends_the_socket(served: Running) -> None:
    address = f"ws://127.0.0.1:{served.port}/v1/realtime"
    with connect(address, additional_headers=HERS, max_size=None) as socket, pytest.raises(ConnectionClosed):
        socket.send(b"x" * (3 * int(served.server.settings.limits.frame_bytes)))
        while True:
            socket.recv(timeout=30)


@pytest.mark.slow
def test_thousands_of_sessions_leave_nothing_behind() -> None:
    with running(memory_total=40_000_000, limits={"connections": 60, "streams": 10}) as server:
        client, process = server.as_(None), psutil.Process()

        def round_of(count: int) -> None:
            for number in range(count):
                reply = client.post("/v1/streams", json={"id": f"s{number % 25}"})
                assert reply.status_code in (201, 409, 429)
            opened = [each["id"] for each in client.get("/v1/streams").json()["data"]]
            assert len(opened) == 10
            for name in opened:
                client.delete(f"/v1/streams/{name}")
            for _ in range(10):
                with connect(f"ws://127.0.0.1:{server.port}/v1/realtime") as socket:
                    json.loads(socket.recv())
            sockets = [socket_to(server.port) for _ in range(100)]
            for each in sockets:
                each.close()
            wait_for_connections(server)

        def socket_to(port: int) -> socket.socket:
            return socket.create_connection(("127.0.0.1", port), timeout=5)

        round_of(100)
        gc.collect()
        descriptors, resident = process.num_fds(), process.memory_info().rss
        for _ in range(3):
            round_of(350)
        gc.collect()
        until = time.monotonic() + 30  # sockets that were closed while they waited to be accepted are still to be met
        while process.num_fds() > descriptors + 2:
            assert time.monotonic() < until, "descriptors stay behind"
            time.sleep(0.05)
        assert process.memory_info().rss < resident + 30 * 2**20
        assert (len(server.server.streams), server.server.streams.room.reserved) == (0, 0)


def wait_for_connections(server: Running) -> None:
    until = time.monotonic() + 30
    while len(server.uvicorn.server_state.connections) > 2:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_names_of_metrics_hold_no_secret_and_their_labels_are_bounded(served: Running) -> None:
    client = served.as_("alice")
    for _ in range(30):
        name = "".join(random.Random(_).choices(string.ascii_letters, k=20))
        client.get(f"/v1/streams/{name}")
        client.request(name[:8].upper(), f"/{name}")
    text = client.get("/metrics").text
    assert not any(key in text for key in KEYS.values())
    lines = [line for line in text.splitlines() if line.startswith("infinipot_http_requests_total")]
    assert len(lines) < 150
    assert sum('route="unknown"' in line for line in lines) < 10
