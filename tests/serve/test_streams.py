"""Streams over HTTP: opened by their bytes, fed, asked, forked, and never another key's."""

import asyncio
import base64
import json
import re
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
import torch
from starlette.requests import Request
from websockets.sync.client import connect

from infinipot import Frame
from infinipot.engine.evidence import Gaze
from infinipot.errors import CapError, VideoError
from infinipot.model import Model
from infinipot.serve.answers import PendingAnswer, events
from infinipot.serve.lane import AskJob, FrameJob, GoneError, Lane
from infinipot.serve.logs import JsonLines
from infinipot.serve.media.decoders import CameraFoundError, DecodeError
from infinipot.serve.media.picture import Picture
from infinipot.serve.media.sources import refused
from infinipot.serve.players import Players
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import Served
from infinipot.stream import Stream
from support.patience import until
from support.places import ROOT
from support.serving import MEMORY, Running, alone, clip, data_url, encoded, push, running, stream

COLOUR, COUNT = "What colour was the circle?", "How many shapes have appeared so far?"


def ask(client: httpx.Client, name: str, question: str, **how: object) -> dict:
    reply = client.post(f"/v1/streams/{name}/ask", json={"question": question, **how})
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_answers_are_those_of_the_library_on_the_same_frames(served: Running) -> None:
    client, frames = served.as_("alice"), clip()
    with stream(client, "same") as name:
        push(client, name, frames)
        answers = [ask(client, name, question)["answer"] for question in (COLOUR, COUNT)]
        state = client.get(f"/v1/streams/{name}").json()
    assert answers == alone(frames, COLOUR, COUNT)
    assert (state["frames"], state["time"], state["cap"]) == (len(frames), frames[-1].time, MEMORY)
    assert (state["dropped"], state["waiting"], state["error"]) == ({}, 0, None)


def test_a_question_sees_all_frames_that_came_before_it_and_none_after(served: Running) -> None:
    client, frames = served.as_("alice"), clip()
    with stream(client, "order") as name:
        half = len(frames) // 2
        push(client, name, frames[:half], wait=False)
        first = ask(client, name, COUNT)
        push(client, name, frames[half:], wait=False)
        second = ask(client, name, COUNT)
    assert [first["time"], second["time"]] == [frames[half - 1].time, frames[-1].time]
    assert [first["answer"], second["answer"]] == [*alone(frames[:half], COUNT), *alone(frames, COUNT)]


def test_an_answer_comes_as_events(served: Running) -> None:
    client = served.as_("alice")
    with stream(client, "events") as name:
        push(client, name, clip()[:4])
        with client.stream("POST", f"/v1/streams/{name}/ask", json={"question": COUNT, "stream": True}) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            told = [line.partition(": ")[2] for line in reply.iter_lines() if line.startswith("data")]
    *pieces, done = map(json.loads, told)
    assert "".join(piece["text"] for piece in pieces).strip() == done["answer"]
    assert done["usage"]["completion_tokens"] >= 1


@pytest.mark.parametrize(
    ("method", "path", "how", "status", "says"),
    [
        ("POST", "/v1/streams", {"content": '{"id": "door"}'}, 400, "application/json"),  # as curl -d sends it
        ("POST", "/v1/streams", {"json": {"memroy": 512}}, 400, "memroy: there is no such field"),
        ("GET", "/v1/nothing%0A?key=secret", {}, 404, "there is no GET /v1/nothing%0A: "),
        ("PUT", "/v1/streams", {}, 405, "/v1/streams takes no PUT"),
    ],
)
def test_an_error_says_what_came_and_what_would_work(
    served: Running, method: str, path: str, how: dict[str, Any], status: int, says: str
) -> None:
    reply = served.as_("alice").request(method, path, headers={"x-request-id": "tried"}, **how)
    assert reply.status_code == status
    assert says in reply.json()["error"]["message"]
    assert "secret" not in reply.text


def test_what_fits_is_told_in_bytes_before_anything_is_allocated() -> None:
    with running(memory_total=5_000_000) as small:
        client = small.as_(None)
        taken = client.post("/v1/streams", json={"id": "first"}).json()["bytes"]
        client.post("/v1/streams", json={"id": "second"})
        reply = client.post("/v1/streams", json={"id": "third"})
        assert reply.status_code == 429
        assert f"{5_000_000 - 2 * taken:,} of 5,000,000 are free" in reply.json()["error"]["message"]
        assert client.post("/v1/streams/first/fork", json={}).status_code == 429
        assert client.get("/v1/streams").json()["bytes_reserved"] == 2 * taken
        client.delete("/v1/streams/first")
        assert client.post("/v1/streams", json={"id": "third"}).status_code == 201
        assert client.post("/v1/streams", json={"id": "third"}).status_code == 409
        assert small.server.streams.room.reserved == 2 * taken


def test_a_fork_has_the_same_past_and_a_future_of_its_own(served: Running) -> None:
    client, frames = served.as_("alice"), clip()
    half = len(frames) // 2
    with stream(client, "original") as name:
        push(client, name, frames[:half], wait=False)
        assert client.post(f"/v1/streams/{name}/fork", json={"id": "copy"}).status_code == 201
        push(client, name, frames[half:])
        assert ask(client, "copy", COUNT)["answer"] == alone(frames[:half], COUNT)[0]
        assert ask(client, name, COUNT)["answer"] == alone(frames, COUNT)[0]
        assert client.delete("/v1/streams/copy").status_code == 204


@pytest.mark.parametrize("frames", [2, 3])
def test_a_stream_is_saved_with_the_frame_that_waits_for_its_patch(served: Running, frames: int) -> None:
    client = served.as_("alice")
    with stream(client, "odd", look_again=2) as name:
        push(client, name, clip()[:frames])
        saved = client.post(f"/v1/streams/{name}/snapshot")
        assert (saved.status_code, saved.json().get("time")) == (200, clip()[frames - 1].time)


def test_a_turn_that_cannot_be_saved_is_not_remembered(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client = served.as_("alice")
    monkeypatch.setattr(served.server.snapshots, "_folder", None)
    with stream(client, "unsaved") as name:
        push(client, name, clip()[:1])
        for streamed in (False, True):
            body = {"question": COUNT, "remember": True, "durable": True, "stream": streamed}
            refused = client.post(f"/v1/streams/{name}/ask", json=body)
            assert refused.json()["error"]["code"] == "snapshots_off"
        assert client.get(f"/v1/streams/{name}").json()["turns"] == 0


def test_a_stream_that_the_device_cannot_give_out_keeps_no_other_from_being_saved(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stream, "save", lambda *_: raised(torch.OutOfMemoryError("CUDA out of memory")))
    with stream(served.as_("alice"), "full") as name:
        reply = served.as_("alice").post(f"/v1/streams/{name}/snapshot")
        assert (reply.status_code, reply.json()["error"]["code"]) == (507, "snapshot_failed")


def test_frames_come_as_multipart_and_over_a_socket(served: Running) -> None:
    client, frames = served.as_("alice"), clip()[:6]
    with stream(client, "ways") as name:
        files = [("frame", (f"{frame.time}.png", encoded(frame.image), "image/png")) for frame in frames[:3]]
        reply = client.post(f"/v1/streams/{name}/frames", files=files, params={"time": 0}).json()
        assert (reply["accepted"], reply["time"]) == (3, frames[2].time)
        address = f"ws://127.0.0.1:{served.port}/v1/streams/{name}/frames"
        with connect(address, additional_headers={"Authorization": "Bearer alice-key"}) as socket:
            for frame in frames[3:]:
                socket.send(json.dumps({"time": frame.time}))
                socket.send(encoded(frame.image))
                assert json.loads(socket.recv())["time"] == frame.time
            socket.send(b"no picture")
            assert json.loads(socket.recv())["error"]["code"] == "media_not_decoded"
            assert ask(client, name, COUNT)["answer"] == alone(frames, COUNT)[0]
            client.delete(f"/v1/streams/{name}")
            client.post("/v1/streams", json={"id": name})  # the next frame is for the one that has the name now
            socket.send(encoded(frames[0].image))
            assert json.loads(socket.recv())["accepted"] == 1
        assert served.server.streams.find("alice", name).time == 0


def held_up(served: Running, name: str) -> tuple[Lane, threading.Event]:
    """The lane of a stream, in which everything waits until the event is set."""
    lane, go_on = served.server.streams.find("alice", name).lane, threading.Event()
    served.server.worker.alone(lane, lambda _: go_on.wait(30))
    return lane, go_on


def test_a_request_that_waits_for_its_frames_displaces_none_of_them(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, size, waiting = served.as_("alice"), clip()[0].image.nbytes, []
    real = served.server.decoders.picture

    async def picture(content: bytes) -> Picture:
        waiting.append(served.server.streams.find("alice", "many").lane.waiting()[0])
        return await real(content)

    monkeypatch.setattr(served.server.decoders, "picture", picture)
    monkeypatch.setattr(served.server.streams, "_frames", 4)
    files = [("frame", (f"{frame.time}.png", encoded(frame.image), "image/png")) for frame in clip()[:9]]
    for most in (100 * size, 3 * size):
        monkeypatch.setattr(served.server.settings.limits, "waiting_bytes", most)
        with stream(client, "many") as name:
            lane, go_on = held_up(served, name)
            threading.Timer(0.05, go_on.set).start()
            reply = client.post(f"/v1/streams/{name}/frames", files=files, params={"time": 0, "wait": True}).json()
            assert (reply["accepted"], reply["dropped"], reply["waiting"]) == (9, {}, 0)
            assert lane.stats.frames == 9
    assert max(waiting) == 1


def test_frames_of_a_request_that_does_not_wait_count_unless_newer_ones_displaced_them(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.server.streams, "_frames", 2)
    files = [("frame", ("0.png", encoded(frame.image), "image/png")) for frame in clip()[:5]]
    with stream(served.as_("alice"), "few") as name:
        _, go_on = held_up(served, name)
        reply = served.as_("alice").post(f"/v1/streams/{name}/frames", files=files).json()
        go_on.set()
    assert (reply["accepted"], reply["dropped"]) == (2, {"queue": 3})


def test_frames_that_come_faster_than_fps_are_skipped_and_told(served: Running) -> None:
    client, picture = served.as_("alice"), encoded(clip()[0].image)
    with stream(client, "fast", fps=2) as name:
        told = [
            client.post(f"/v1/streams/{name}/frames", params={"time": at / 10}, content=picture).json()
            for at in range(20)
        ]
        assert [each["accepted"] for each in told] == [1, 0, 0, 0, 0] * 4
        assert told[-1]["dropped"] == {"fps": 16}
        back = client.post(f"/v1/streams/{name}/frames", params={"time": 0.2}, content=picture)
        assert (back.status_code, back.json()["error"]["code"]) == (400, "frame_out_of_order")


def test_the_oldest_frames_give_way_where_too_many_wait_and_all_are_accounted_for(served: Running) -> None:
    client, picture = served.as_("alice"), encoded(clip()[0].image)
    with stream(client, "flood") as name:
        held = threading.Event()
        served.server.worker.call(lambda: held.wait(10))
        for at in range(100):
            told = client.post(f"/v1/streams/{name}/frames", params={"time": at / 2}, content=picture).json()
        held.set()
        assert told["dropped"] == {"queue": 100 - served.server.settings.limits.frames_waiting}
        ask(client, name, COUNT)
        state = client.get(f"/v1/streams/{name}").json()
        assert state["frames"] + sum(state["dropped"].values()) == 100
        assert state["time"] == 49.5


def test_a_stream_is_behind_by_how_long_its_oldest_frame_has_waited_whatever_the_times_of_frames() -> None:
    """Before the second frame the camera was away for an hour."""
    opened: Any = SimpleNamespace(stats=lambda: SimpleNamespace(time=0.0))
    lane, now = Lane(opened, frames=2), time.monotonic()
    assert lane.behind() == 0
    for at, waited in ((0.0, 30), (3600.0, 20), (3600.5, 10)):
        lane.push(FrameJob(Frame(clip()[0].image, at), came=now - waited))
    assert lane.behind() == pytest.approx(20, abs=1), "the oldest one gave way"
    lane.working = lane.next()
    assert lane.behind() == pytest.approx(20, abs=1), "one that is being watched counts"
    lane.working = None
    assert lane.behind() == pytest.approx(10, abs=1)


def test_frames_that_wait_take_so_much_memory_and_no_more(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the streams' own memory, which is reserved: large frames, of many streams, of which each may have one."""
    client, size = served.as_("alice"), clip()[0].image.nbytes
    monkeypatch.setattr(served.server.settings.limits, "waiting_bytes", 5 * size)
    with stream(client, "one"), stream(client, "other"):
        lanes = [served.server.streams.find("alice", name).lane for name in ("one", "other")]
        held = threading.Event()
        saving = [served.server.worker.alone(lane, lambda _: held.wait(30)) for lane in lanes]  # meanwhile frames wait
        try:
            push(client, "one", clip()[:9], wait=False)
            assert lanes[0].waiting()[0] == 5
            push(client, "other", clip()[:3], wait=False)
            assert lanes[1].waiting()[0] == 1
            assert sum(lane.waiting_bytes for lane in lanes) == 6 * size
        finally:
            held.set()
        for lane, name, frames in zip(lanes, ("one", "other"), (5, 1), strict=True):
            until = time.monotonic() + 30
            while lane.busy:
                assert time.monotonic() < until
                time.sleep(0.01)
            told = client.get(f"/v1/streams/{name}").json()
            assert (told["frames"], lane.waiting_bytes) == (frames, 0)
            assert told["dropped"] == {"queue": {"one": 4, "other": 2}[name]}
        assert all(done.result(30) for done in saving)


def test_what_comes_for_a_stream_that_is_closed_is_told_so_and_waits_for_nothing(served: Running) -> None:
    """As where a standing question is due at the moment when its stream is deleted."""
    client, worker = served.as_("alice"), served.server.worker
    with stream(client, "gone") as name:
        lane = served.server.streams.find("alice", name).lane
    asked, pushed = AskJob(COUNT, {}, lambda _: None), FrameJob(clip()[0])
    worker.ask(lane, asked)
    worker.push(lane, pushed)
    futures: list[Any] = [asked.answered, pushed.watched, worker.alone(lane, lambda each: each), worker.fork(lane, 8)]
    for future in futures:
        with pytest.raises(GoneError):
            future.result(10)


def test_an_answer_that_nobody_reads_on_stops_within_a_step(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client, steps, real = served.as_("alice"), [0], Model.step

    def slowly(*given: Any) -> int:
        steps[0] += 1
        time.sleep(0.05)
        return real(*given)

    with stream(client, "endless", memory=768) as name:
        push(client, name, clip()[:4])
        before = client.get(f"/v1/streams/{name}").json()
        monkeypatch.setattr(type(served.server.model.adapter), "stop_ids", frozenset())
        monkeypatch.setattr(Model, "step", slowly)
        asked = {"question": COUNT, "stream": True, "remember": True}
        with client.stream("POST", f"/v1/streams/{name}/ask", json=asked) as reply:
            next(reply.iter_lines())
        seen = steps[0]
        until = time.monotonic() + 30
        while served.server.asker.waiting:
            assert time.monotonic() < until
            time.sleep(0.005)
        time.sleep(0.2)
        assert steps[0] - seen <= 3  # one that was under way, and those until the connection's end was heard of
        monkeypatch.undo()
        after = client.get(f"/v1/streams/{name}").json()
        saved = {"saved_at": None, "saved_time": None}  # by the clock, which may strike between
        assert after | saved == before | saved
        assert ask(client, name, COUNT)["answer"] == alone(clip()[:4], COUNT, memory=768)[0]


def test_what_tells_events_ends_with_the_response_that_is_left_while_it_sends() -> None:
    """Not when somebody lets go of it: until then a question would go on."""
    ended = []

    async def told() -> AsyncGenerator[str, None]:
        try:
            while True:
                yield "data: more\n\n"
        finally:
            ended.append(True)

    async def left() -> object:
        gone, sent = asyncio.Event(), []

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)
            if len(sent) == 3:
                gone.set()
                await asyncio.sleep(60)

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "asgi": {"spec_version": "2.0"}}
        response = await events(Request(scope, receive), told())
        await asyncio.wait_for(response(scope, receive, send), 30)
        assert ended
        return response

    assert asyncio.run(left())


def test_a_client_that_does_not_wait_is_no_longer_answered(served: Running) -> None:
    client = served.as_("alice")
    with stream(client, "left") as name:
        push(client, name, clip()[:4])
        served.server.worker.call(lambda: time.sleep(0.3))
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"/v1/streams/{name}/ask", json={"question": COUNT}, timeout=0.1)
        until = time.monotonic() + 30
        while served.server.asker.waiting:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert ask(client, name, COUNT)["answer"] == alone(clip()[:4], COUNT)[0]
        assert client.get(f"/v1/streams/{name}").json()["frames"] == 4


def test_an_error_that_nobody_expected_is_in_the_log_under_the_id_of_its_request(
    served: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("a fault of the server's own")

    caplog.handler.setFormatter(JsonLines())
    with stream(served.as_("alice"), "faulty") as name:
        push(served.as_("alice"), name, clip()[:2])
        monkeypatch.setattr(PendingAnswer, "result", fails)
        monkeypatch.setattr(served.server.decoders, "picture", fails)
        asked = {"question": COUNT, "id": name, "messages": [{"role": "user", "content": COUNT}], "stream": True}
        for way, fields in ((f"streams/{name}/ask", ("question",)), ("chat/completions", ("id", "messages"))):
            body = {field: asked[field] for field in (*fields, "stream")}
            reply = served.as_("alice").post(f"/v1/{way}", json=body, headers={"x-request-id": way.partition("/")[0]})
            assert "internal_error" in reply.text
        headers = {"Authorization": "Bearer alice-key", "x-request-id": "socket"}
        with connect(f"ws://127.0.0.1:{served.port}/v1/streams/{name}/frames", additional_headers=headers) as socket:
            assert socket.response is not None
            assert socket.response.headers["x-request-id"] == "socket"
            socket.send(b"picture")
            assert json.loads(socket.recv())["error"]["code"] == "internal_error"
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    traced = [line["request_id"] for line in lines if "the server's own" in line.get("trace", "")]
    assert traced == ["streams", "chat", "socket"]


def test_each_key_sees_its_own_streams_and_no_others(served: Running) -> None:
    alice, bob, other = served.as_("alice"), served.as_("bob"), served.as_("second")
    with stream(alice, "private") as name:
        push(alice, name, clip()[:2])
        routes = [
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/frames"),
            ("POST", "/ask"),
            ("POST", "/fork"),
            ("POST", "/snapshot"),
        ]
        for method, path in routes:
            body: dict[str, Any] = (
                {"content": encoded(clip()[0].image)} if path == "/frames" else {"json": {"question": COUNT}}
            )
            body = {} if method != "POST" or path == "/snapshot" else body
            body = {"json": {}} if path == "/fork" else body
            for client in (bob, served.as_(None)):
                reply = client.request(method, f"/v1/streams/{name}{path}", **body)
                assert reply.status_code == (404 if client is bob else 401), (method, path)
        assert name not in bob.get("/v1/streams").text
        assert name in other.get("/v1/streams").text
        with stream(bob, name):  # the same id, another stream
            assert bob.get(f"/v1/streams/{name}").json()["frames"] == 0
        assert alice.get(f"/v1/streams/{name}").json()["frames"] == 2


def test_an_answer_that_takes_longer_than_a_session_may_be_idle_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a request's own stream and of a session's, whose client has nothing to say meanwhile."""
    real, slow = Model.step, threading.Event()

    def slowly(*given: Any) -> int:
        time.sleep(0.4 * slow.is_set())
        return real(*given)

    monkeypatch.setattr(Model, "step", slowly)
    picture = data_url(clip()[0].image)
    with running(limits={"session_idle_seconds": 0.3}) as server:
        slow.set()
        content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": COUNT}]
        body = {"messages": [{"role": "user", "content": content}]}
        assert server.as_(None).post("/v1/chat/completions", json=body).status_code == 200
        slow.clear()
        with connect(f"ws://127.0.0.1:{server.port}/v1/realtime") as socket:
            content = [{"type": "input_image", "image_url": picture}, {"type": "input_text", "text": COUNT}]
            item = {"type": "message", "role": "user", "content": content}
            socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
            slow.set()
            socket.send(json.dumps({"type": "response.create"}))
            told = [json.loads(message) for message in socket]  # until the session ends, since nothing comes
        (done,) = (each for each in told if each["type"] == "response.done")
        assert done["response"]["status"] == "completed"
        assert told[-1]["error"]["code"] == "session_idle"


def test_what_counts_over_all_streams_never_falls(served: Running) -> None:
    """Prometheus takes a counter that falls for one that began anew, and adds all of it once more."""
    client, names = served.as_("alice"), ("evicted_tokens", "gated_tokens", "compress_seconds")

    def counted() -> list[float]:
        text = client.get("/metrics").text
        return [float(re.search(rf"^infinipot_{name}_total (\S+)", text, re.M)[1]) for name in names]  # type: ignore

    before = counted()
    with stream(client, "counted", memory=256, gate="otsu") as name:
        push(client, name, clip(1, 60.0)[:100])
        stats = served.server.streams.find("alice", name).lane.stats
        held = counted()
    grown = [now - then for now, then in zip(held, before, strict=True)]
    told = [stats.full_tokens - stats.tokens, stats.gated_tokens, stats.seconds["compress"]]
    assert grown == pytest.approx(told)
    assert min(grown) > 0
    assert counted() == held


def test_every_metric_is_counted_and_says_what_it_counts(served: Running) -> None:
    sources = "".join(path.read_text() for path in (ROOT / "infinipot/serve").rglob("*.py"))
    for name in vars(served.server.metrics).keys() - {"registry"}:
        assert re.search(rf"\.{name}\.(inc|observe|labels)\(", sources), name
    said = re.findall(r"^# HELP infinipot_\S+(?<!_created) (.*)$", served.as_("alice").get("/metrics").text, re.M)
    assert len(said) > 20
    assert not [text for text in said if not re.fullmatch(r"(?!(That|Of|In|To|From|By) )[A-Z]\w+ .+\.", text)]


def test_a_stream_whose_source_cannot_be_opened_is_not_left_open(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*given: Any, **how: Any) -> None:
        raise VideoError("no such kind of camera here")

    monkeypatch.setattr("infinipot.serve.cameras.player.open_camera", none)
    client, reserved = served.as_("alice"), served.server.streams.room.reserved
    reply = client.post("/v1/streams", json={"id": "none", "source": "demo://still"})
    assert (reply.status_code, "no such kind" in reply.text) == (400, True)
    assert (client.get("/v1/streams/none").status_code, served.server.streams.room.reserved) == (404, reserved)


def test_a_camera_goes_on_when_its_frames_give_way_to_those_of_a_client_or_meet_an_error_of_the_model(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = served.as_("alice")
    with stream(client, "both", source="demo://still?speed=1&fps=20", fps=20) as name:
        found = served.server.streams.find("alice", name)
        assert until(lambda: found.lane.stats.frames)
        real = found.lane.push
        pushed: list[Any] = []

        def full(job: Any) -> Any:  # as where a client's frames fill the queue behind it
            pushed.append(job)
            return job if len(pushed) == 1 else real(job)

        found.lane.push = full
        assert until(lambda: len(pushed) >= 3), "the camera is watched no more"
        assert found.dropped["queue"] == 1
        watch, errors = Stream.begin_watch, [torch.OutOfMemoryError("CUDA out of memory")]
        monkeypatch.setattr(Stream, "begin_watch", lambda *given: raised(errors.pop()) if errors else watch(*given))
        assert until(lambda: found.error == "CUDA out of memory")
        watched = found.lane.stats.frames
        assert until(lambda: found.lane.stats.frames > watched), "the camera is watched no more"
        assert (found.dropped["refused"], found.source and found.source.state) == (1, "playing")


def test_a_camera_goes_on_behind_frames_that_others_gave_its_stream(served: Running) -> None:
    client = served.as_("alice")
    with stream(client, "mixed", source="demo://still?speed=1&fps=20", fps=20) as name:
        found = served.server.streams.find("alice", name)
        assert until(lambda: found.lane.stats.frames > 2)
        reply = client.post(f"/v1/streams/{name}/frames?time=5000", content=encoded(clip()[0].image))
        assert reply.json()["accepted"] == 1
        assert until(lambda: found.lane.stats.time > 5000.2), "the camera is watched no more"
        pictures = ",".join(base64.b64encode(encoded(frame.image, "JPEG")).decode() for frame in clip()[:8])
        part = {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{pictures}"}}
        asked = {"id": name, "messages": [{"role": "user", "content": [part, {"type": "text", "text": COUNT}]}]}
        reply = client.post("/v1/chat/completions", json=asked)
        assert reply.status_code == 200, reply.text
        seen = found.lane.stats.time
        assert until(lambda: found.lane.stats.time > seen + 0.2)
        assert (found.dropped["refused"], found.source and found.source.state) == (0, "playing")


def test_a_file_goes_on_behind_frames_that_others_gave_its_stream() -> None:
    times: list[float] = []
    served = SimpleNamespace(id="door", time=None, config=SimpleNamespace(fps=2.0))
    source = SimpleNamespace(state="opening", error=None)
    clip = SimpleNamespace(live=False, frames=lambda: frames())

    async def frames() -> AsyncIterator[Picture]:
        for number in range(6):
            if number == 3:
                served.time = 100.0  # a client's
            yield Picture(np.zeros((4, 4, 3), np.uint8), number / 2, b"")

    async def give(_: Any, frame: Picture, *, wait: bool) -> None:
        served.time = frame.time
        times.append(frame.time)

    players = cast(Any, object.__new__(Players))
    players._give = give
    asyncio.run(players._watch(served, source, clip, None, realtime=False))
    assert times == [0.0, 0.5, 1.0, 100.5, 101.0, 101.5]


def test_what_an_answer_rests_on_is_not_worked_out_on_the_event_loop(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, spans = set[str](), Gaze.spans
    monkeypatch.setattr(Gaze, "spans", lambda gaze: (threads.add(threading.current_thread().name), spans(gaze))[1])
    client = served.as_("alice")
    with stream(client, "why") as name:
        push(client, name, clip()[:6])
        assert ask(client, name, COUNT, evidence=True)["evidence"]
    assert threads
    assert all(each.startswith("asyncio_") for each in threads)


def test_an_error_of_a_whole_step_is_the_servers(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client, step, errors = served.as_("alice"), Model.step, [IndexError("in the midst of a step")]
    with stream(client, "step") as name:
        push(client, name, clip()[:4])
        with monkeypatch.context() as patch:
            patch.setattr(Model, "step", lambda *given: raised(errors.pop()) if errors else step(*given))
            reply = client.post(f"/v1/streams/{name}/ask", json={"question": COUNT})
            assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
        assert ask(client, name, COUNT)["answer"]


def raised(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "ends"),
    [(torch.OutOfMemoryError("CUDA out of memory"), False), (CapError("too large"), True), (GoneError("closed"), True)],
)
def test_a_source_outlives_errors_of_the_model(error: Exception, ends: bool) -> None:
    """Where one frame does not fit the stream, none of its source does."""
    job = FrameJob(clip()[0])
    job.watched.set_exception(error)
    nothing: Any = SimpleNamespace(push=lambda *_: job)
    giving = Players(nothing, nothing, nothing)._give(nothing, nothing, wait=True)
    with pytest.raises(type(error)) if ends else nullcontext():
        asyncio.run(giving)


class Connections:
    """Stands for the sources: what each connection gives, and how it ends."""

    def __init__(self, *given: tuple[bool | None, list[float], Exception | bool]) -> None:
        self._given = list(given)
        self.starts: list[float] = []
        self.check = str

    @asynccontextmanager
    async def clip(self, address: str, *, start: float, **_: object) -> AsyncIterator[Any]:
        self.starts.append(start)
        live, times, end = self._given.pop(0)

        async def frames() -> AsyncIterator[Picture]:
            for each in times:
                yield Picture(clip()[0].image, each, b"")
            if isinstance(end, Exception):
                raise end

        yield SimpleNamespace(live=live, incomplete=end is True, frames=frames)


GONE = DecodeError("it cannot be reached")


@pytest.mark.parametrize(
    ("restored", "given", "watched", "starts", "state"),
    [
        (
            False,
            [
                (True, [0, 4], DecodeError("it stalled")),
                (None, [], GONE),
                (True, [0, 2], True),
                (True, [1], False),
            ],
            [0, 4, 44, 46, 87],
            [0, 4, 4, 46],
            "ended",
        ),
        (True, [(None, [], GONE), (True, [0, 2], False)], [150, 152], [100, 100], "ended"),
        (True, [(False, [98, 102], GONE)], [102], [100], "failed"),
        (False, [(None, [], GONE)], [], [0], "failed"),
    ],
)
def test_a_live_source_that_breaks_off_is_tried_again_and_goes_on_behind_its_last_frame(
    restored: bool, given: list, watched: list, starts: list, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with an end is over where it fails, and one that never came is tried once. A frame lasts 40 seconds."""
    monkeypatch.setattr("infinipot.serve.players.pause", lambda _: 0.0)
    lane: Any = SimpleNamespace(stream=SimpleNamespace(config=SimpleNamespace(fps=0.025)))
    served, seen, connections = Served("alice", "live", lane, 0, 60.0), list[float](), Connections(*given)
    if restored:
        served.time, served.saved_at = 100.0, time.time() - 50

    def push(served: Served, frame: Picture) -> FrameJob:
        assert served.plays is not None, "what is tried again is kept for another start, and its stream is not idle"
        seen.append(round(frame.time))
        job = served.take(frame)
        job.watched.set_result(None)
        return job

    async def play() -> None:
        anything: Any = SimpleNamespace(push=push, rules=SimpleNamespace(takes=lambda _: False))
        players = Players(anything, cast(Any, connections), anything)
        if restored:
            players.resume(served, "http://camera/live.ts", realtime=False)
        else:
            players.play(served, "http://camera/live.ts")
        await players._playing[served]

    asyncio.run(play())
    assert served.source is not None
    assert (seen, connections.starts, served.source.state, served.plays) == (watched, starts, state, None)


def test_a_camera_that_failed_or_may_not_be_watched_is_told_of_and_kept_for_another_start(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infinipot.serve.cameras.player.small_picture", lambda *_: raised(ValueError("no such shade")))
    works, refused = "demo://still?speed=1&fps=20", "rtsp://user:word@192.168.0.7/door"
    with stream(served.as_("alice"), "failed", source=works), stream(served.as_("alice"), "refused"):
        kept = served.server.streams.find("alice", "refused")

        async def resume() -> None:
            served.server.players.resume(kept, refused, realtime=False)

        asyncio.run(resume())
        source = kept_for_another_start(served, "refused", refused)
        assert source["address"] == "rtsp://192.168.0.7/door"
        assert "allow its network" in source["error"]
        assert until(lambda: "failed" in served.as_("alice").get("/v1/streams/failed").json()["source"]["state"])
        source = kept_for_another_start(served, "failed", works)
        assert (source["error"], source["camera"]["state"]) == ("no such shade", "closed")


@pytest.mark.parametrize("restored", [True, False])
def test_a_source_that_is_found_to_be_a_camera_and_may_not_be_watched_is_kept_only_where_it_was_played(
    restored: bool,
) -> None:
    lane: Any = SimpleNamespace(stream=SimpleNamespace(config=SimpleNamespace(fps=2)))
    served, found = Served("alice", "live", lane, 0, 60.0), CameraFoundError("it is a camera's")

    def refuse(served: Served, address: str) -> None:
        raise refused("name its host with --media-hosts")

    async def play() -> None:
        cameras: Any = SimpleNamespace(rules=SimpleNamespace(takes=lambda _: False), play=refuse)
        players = Players(cast(Any, None), cast(Any, Connections((None, [], found))), cameras)
        if restored:
            players.resume(served, "http://camera/video", realtime=True)
        else:
            players.play(served, "http://camera/video", realtime=True)
        await players._playing[served]

    asyncio.run(play())
    assert served.source is not None
    assert (served.source.state, served.source.error) == ("failed", "name its host with --media-hosts")
    assert served.plays == (("http://camera/video", True) if restored else None)


def kept_for_another_start(served: Running, name: str, address: str) -> dict[str, Any]:
    """What is told of a source that is not played, but with a stream that is not idle, and saved with it."""
    client, found = served.as_("alice"), served.server.streams.find("alice", name)
    found.used -= 10 * found.idle_seconds
    assert not served.server.streams.is_idle(found)
    client.post(f"/v1/streams/{name}/snapshot")
    (told,) = served.folder("snapshots").glob(f"*/{name}/stream.json")
    assert json.loads(told.read_text())["plays"] == [address, False]
    source = client.get(f"/v1/streams/{name}").json()["source"]
    assert source["state"] == "failed"
    return source


def test_a_stream_is_idle_from_when_its_frame_was_watched(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    real, ended = Model.step, []

    def noted(*given: Any) -> int:
        tokens = real(*given)
        ended.append(time.monotonic())
        return tokens

    monkeypatch.setattr(Model, "step", noted)
    with stream(served.as_("alice"), "used") as name:
        push(served.as_("alice"), name, clip()[:1])
        assert served.server.streams.find("alice", name).used >= ended[-1]


def test_a_stream_that_comes_back_into_use_while_others_are_closed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinipot.serve.server._ROUND", 0.05)
    closed = list[str]()

    async def grow_idle(streams: Streams) -> None:
        for each in streams if len(streams) == 2 and not closed else ():
            each.used = time.monotonic() - each.idle_seconds - 1

    monkeypatch.setattr(Streams, "tidy", grow_idle)
    with running() as server:
        streams = server.server.streams

        async def close(served: Served) -> None:
            closed.append(served.id)
            for each in streams:
                each.used = time.monotonic()

        monkeypatch.setattr(server.server.serving, "close", close)
        for name in ("first", "second"):
            server.as_(None).post("/v1/streams", json={"id": name})
        assert until(lambda: closed)
        time.sleep(0.1)
        assert closed == ["first"]


def test_an_idle_stream_is_closed_and_one_that_is_used_is_not() -> None:
    with running() as server:
        client = server.as_(None)
        client.post("/v1/streams", json={"id": "idle", "idle_seconds": 0.5})
        client.post("/v1/streams", json={"id": "used"})
        until = time.monotonic() + 30
        while client.get("/v1/streams/idle").status_code == 200:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert client.get("/v1/streams/used").status_code == 200
        assert len(server.server.streams) == 1
