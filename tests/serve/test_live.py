"""Cameras, views, standing questions, events and webhooks over HTTP."""

import asyncio
import base64
import hashlib
import hmac
import http.server
import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from datetime import time as day_time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args
from unittest.mock import Mock

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from infinipot.camera.demo import World
from infinipot.camera.health import State
from infinipot.embedded.world import Clip
from infinipot.errors import VideoError
from infinipot.serve.cameras.player import CameraPlayer
from infinipot.serve.cameras.rules import CameraRules
from infinipot.serve.errors import ApiError
from infinipot.serve.settings import Settings
from infinipot.serve.watches.asking import Watches, in_quiet
from infinipot.serve.watches.protocol import WINDOW, Quiet, WatchRequest, Webhook
from infinipot.serve.watches.store import Event, Store
from infinipot.serve.watches.trigger import Trigger
from infinipot.serve.watches.verdict import asked, verdict
from infinipot.serve.watches.watch import Watch
from infinipot.serve.watches.webhooks import new_secret, signature
from infinipot.video import Frame
from support.patience import until
from support.serving import Running, clip, push, running, stream
from support.web_camera import web_camera

NOW = "Is there a shape now?"
ELSEWHERE = re.compile(
    r"""(?:src|href|action)=["']?(?:https?:)?//|(?:from|import|url\(|fetch\()\s*["'`]?(?:https?:)?//"""
)
QUICK = "demo://still?seed=10001&speed=20&minutes=1"


# Cameras and views


def test_a_camera_is_watched_seen_and_asked_with_the_moments_that_answers_rest_on(served: Running) -> None:
    client = served.as_("alice")
    with stream(client, "cam", source=QUICK) as name:
        assert until(lambda: client.get(f"/v1/streams/{name}").json()["time"] > 40)
        picture = client.get(f"/v1/streams/{name}/picture")
        newer = client.get(f"/v1/streams/{name}/picture", params={"after": picture.headers["x-time"], "side": 32})
        assert float(newer.headers["x-time"]) > float(picture.headers["x-time"])
        assert max(Image.open(io.BytesIO(newer.content)).size) == 32
        held = client.get(f"/v1/streams/{name}/contents").json()
        assert held["tokens"] <= held["cap"]
        assert sum(patch["tokens"] for patch in held["patches"]) <= held["cap"]
        known: list[str | None] = []  # where one asks in which third it was, that may have become unclear
        for question in client.get(f"/v1/streams/{name}/truth").json()["questions"]:
            reply = client.post(f"/v1/streams/{name}/ask", json={"question": question["question"]}).json()
            truth = client.get(
                f"/v1/streams/{name}/truth", params={"question": question["question"], "time": reply["time"]}
            )
            known.append(truth.json()["answer"])
            assert reply["evidence"], question
            small = client.get(f"/v1/streams/{name}/thumbnail", params={"time": reply["evidence"][0]["time"]})
            assert float(small.headers["x-time"]) == pytest.approx(reply["evidence"][0]["time"], abs=2)
        assert len(known) - known.count(None) >= 3
        camera = client.get(f"/v1/streams/{name}").json()["source"]["camera"]
        assert camera["state"] == "live"
        assert camera["demo"]
        levels = re.findall(r'^infinipot_cameras{state="(\w+)"} (\S+)', client.get("/metrics").text, re.MULTILINE)
        assert dict(levels).keys() == set(get_args(State))
        assert dict(levels)["live"] == "1.0"
        assert served.as_("bob").get(f"/v1/streams/{name}/picture").status_code == 404
    assert not served.server.players.cameras._watched


def test_pushed_frames_are_seen_too(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their small pictures come from where they were decoded: the server's own process makes none."""
    client, frames = served.as_("alice"), clip()
    monkeypatch.delattr("infinipot.video.thumbnails.small_picture")
    with stream(client, "pushed") as name:
        assert client.get(f"/v1/streams/{name}/picture").status_code == 204
        assert client.get(f"/v1/streams/{name}/thumbnail", params={"time": 0}).status_code == 404
        push(client, name, (*frames[:3], Frame(frames[3].image, 13 / 6)))
        assert float(client.get(f"/v1/streams/{name}/picture").headers["x-time"]) == 13 / 6
        small = client.get(f"/v1/streams/{name}/thumbnail", params={"time": 0})
        assert Image.open(io.BytesIO(small.content)).size == frames[0].size[::-1]
        assert client.get(f"/v1/streams/{name}/truth").status_code == 404


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("rtsp://me:s3cret@127.0.0.1/live", "not public"),
        ("rtsp://[::ffff:10.0.0.1]/live", "not public"),
        ("rtsp://cam era/live", "names no host"),
        ("rtsp:///live", "names no host"),
        ("http://example.org/live.m3u8", "--media-hosts"),
        ("webcam://0", "--local-cameras"),
        ("/dev/video0", "--local-cameras"),
        ("srt://example.org:9", "'srt' cameras"),
        ("demo://still?speed=500", "240 pictures a second"),
        ("demo://night", "still, moving, cuts"),
    ],
)
def test_cameras_keep_to_the_servers_rules(served: Running, source: str, said: str) -> None:
    reply = served.as_("alice").post("/v1/streams", json={"source": source})
    assert reply.status_code == 400, reply.text
    assert said in reply.json()["error"]["message"]
    assert "s3cret" not in reply.text


def test_a_camera_that_its_address_does_not_tell_is_watched_as_one(tmp_path: Path) -> None:
    with web_camera(tmp_path) as address, running(media_networks=["127.0.0.0/8"]) as served:
        client = served.as_(None)
        with stream(client, "door", source=f"{address}/video") as name:
            found = lambda: client.get(f"/v1/streams/{name}").json()  # noqa: E731
            assert until(lambda: (found()["source"]["camera"] or {}).get("state") == "live" and found()["frames"] > 2)
        with stream(client, "gate", source=f"{address.replace('//', '//me:s3cret@')}/video") as name:
            assert until(lambda: (found()["source"]["camera"] or {}).get("state") == "live" and found()["frames"] > 2)
            assert "s3cret" not in json.dumps(found())
        elsewhere = address.replace("127.0.0.1", "localhost")  # cameras lead further: hosts have to be named
        with stream(client, "hall", source=f"{elsewhere}/video") as name:
            assert until(lambda: found()["source"]["state"] == "failed")
            assert "--media-hosts" in found()["source"]["error"]
        clip = {"type": "video_url", "video_url": {"url": f"{address}/video"}}
        message = {"role": "user", "content": [clip, {"type": "text", "text": "What is there?"}]}
        reply = client.post("/v1/chat/completions", json={"messages": [message]})
        assert reply.status_code == 422
        assert "a stream's source" in reply.json()["error"]["message"]


def test_a_camera_whose_name_leads_inside_is_not_connected_to(served: Running) -> None:
    client = served.as_("alice")
    with stream(client, "inside", source="rtsp://me:s3cret@localhost:9/live?key=s3cret") as name:
        found = lambda: client.get(f"/v1/streams/{name}").json()["source"]  # noqa: E731
        assert until(lambda: found()["camera"]["state"] == "gone")
        assert "not public" in found()["camera"]["trouble"]
        assert found()["camera"]["gaps"][0]["text"].startswith("no picture since")
        assert "s3cret" not in json.dumps(found())


@pytest.mark.parametrize(
    ("trusted", "source", "taken"),
    [
        ({"media_networks": ["192.168.0.0/16"]}, "http://192.168.0.7/video.mjpg", True),
        ({"media_networks": ["192.168.0.0/16"]}, "http://example.org/live.m3u8", False),
        ({"media_networks": ["192.168.0.0/16"]}, "http://1.1.1.1/live.m3u8", False),
        ({"media_networks": ["192.168.0.0/16"]}, "https://10.0.0.1/live.m3u8", False),
        ({"media_networks": ["192.168.0.0/16"]}, "rtsp://1.1.1.1/live", True),
        ({"media_hosts": ["*.example.org"]}, "http://cam.example.org/live.m3u8", True),
        ({"media_hosts": ["*.example.org"]}, "http://example.net/live.m3u8", False),
        ({"media_hosts": ["127.0.0.1"]}, "http://127.0.0.1/live.m3u8", False),
    ],
)
def test_cameras_over_http_are_watched_where_somebody_trusts_their_host(
    trusted: dict, source: str, taken: bool
) -> None:
    """A host that nobody trusts could lead FFmpeg anywhere: by a redirect, a playlist, or another look-up."""
    rules = CameraRules(Settings.read(None, model="embedded", **trusted))
    if taken:
        assert rules.check(source) == source
        return
    with pytest.raises(ApiError):
        rules.check(source)
    with pytest.raises(VideoError):
        rules.resolve(source)


@pytest.mark.parametrize(("limits", "expected"), [({}, 60.0), ({"frozen_seconds": 0}, None)])
def test_a_picture_may_stand_still_where_the_server_says_so(
    limits: dict, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def opened(address: str, **how: Any) -> None:
        given.update(how)
        raise VideoError("it is not opened")

    async def play() -> None:
        player.play(cast(Any, SimpleNamespace(config=SimpleNamespace(fps=2.0), live_from=float)), "demo://still")

    monkeypatch.setattr("infinipot.serve.cameras.player.open_camera", opened)
    settings = Settings.read(None, model="embedded", limits=limits)
    player = CameraPlayer(cast(Any, None), CameraRules(settings), settings.limits)
    with pytest.raises(VideoError, match="not opened"):
        asyncio.run(play())
    assert given["frozen_after"] == expected


def test_the_longest_time_without_a_picture_is_that_of_a_camera_that_is_still_watched() -> None:
    player = CameraPlayer(cast(Any, None), cast(Any, None), Settings.read(None, model="embedded").limits)
    assert player.lag() == 0
    for state, lag in (("live", 0.2), ("gone", 60.0), ("opening", None), ("over", 9000.0)):
        health = SimpleNamespace(state=state, lag=lag)
        player._watched[cast(Any, state)] = cast(Any, SimpleNamespace(camera=Mock(health=Mock(return_value=health))))
    assert player.lag() == 60


def test_cameras_are_closed_together() -> None:
    """A server that ends closes those first, and its streams are saved after that."""
    together = threading.Barrier(40, timeout=10)
    player = CameraPlayer(cast(Any, None), cast(Any, None), Settings.read(None, model="embedded").limits)
    watched = [
        SimpleNamespace(stopping=threading.Event(), camera=SimpleNamespace(close=together.wait)) for _ in range(40)
    ]
    player._watched = cast(Any, dict(enumerate(watched)))
    asyncio.run(asyncio.wait_for(player.close(), 10))
    assert all(each.stopping.is_set() for each in watched)


# What an answer says, and when it is an event


@pytest.mark.parametrize(
    ("answer", "when", "said"),
    [
        ("Yes, there is.", "yes", True),
        ("no", "yes", False),
        ("No.", "no", True),
        ("yesterday", "yes", None),
        ("I cannot tell", "yes", None),
        ("", "yes", None),
        ("A red car", "red car", False),
        ("Red car.", "red car", True),
        ('Sure: {"people": 3}', {"type": "object", "properties": {"people": {"minimum": 2}}}, True),
        ('{"people": 1}', {"type": "object", "properties": {"people": {"minimum": 2}}}, False),
        ("three people", {"type": "object"}, None),
    ],
)
def test_verdicts(answer: str, when: str | dict, said: bool | None) -> None:
    assert verdict(answer, when) is said


def test_models_that_know_no_questions_by_heart_are_told_how_to_answer() -> None:
    assert asked(NOW, "yes", instruct=False) == NOW
    assert asked(NOW, "yes", instruct=True).endswith("yes or no.")
    assert '"minimum": 2' in asked(NOW, {"minimum": 2}, instruct=True)


verdicts = st.lists(st.sampled_from([True, False, None]), max_size=60)


@given(verdicts, st.integers(1, 4), st.integers(1, 4), st.floats(0, 10))
def test_events_are_edges_apart_by_the_cool_down(said: list, on_after: int, off_after: int, cooldown: float) -> None:
    trigger = Trigger(on_after, off_after, cooldown)
    events = [time for time, each in enumerate(said) if trigger.take(each, float(time))]
    assert all(later - earlier >= cooldown for earlier, later in pairwise(events))
    for earlier, later in pairwise(events):
        between = [each for each in said[earlier:later] if each is not None]
        assert between.count(False) >= off_after, "it has to be believed off before it is on again"
    for event in events:
        believed = [each for each in said[: event + 1] if each is not None][-on_after:]
        assert believed == [True] * on_after


@pytest.mark.parametrize(
    ("start", "end", "hour", "quiet"),
    [
        ("22:00", "07:00", 23, True),
        ("22:00", "07:00", 6, True),
        ("22:00", "07:00", 12, False),
        ("09:00", "17:00", 12, True),
    ],
)
def test_quiet_hours_go_over_midnight(start: str, end: str, hour: int, quiet: bool) -> None:
    hours = Quiet(start=day_time.fromisoformat(start), end=day_time.fromisoformat(end))
    assert in_quiet(hours, datetime(2026, 1, 1, hour)) is quiet


def test_quiet_hours_of_another_zone_are_refused() -> None:
    for start, end in (("22:00Z", "07:00"), ("22:00", "07:00+02:00")):
        with pytest.raises(ValidationError, match="server's zone"):
            WatchRequest.model_validate({"question": NOW, "quiet": {"start": start, "end": end}})


@pytest.mark.parametrize(
    "when", [{"pattern": "(a+)+$"}, {"$ref": "http://10.0.0.1/"}, {"type": "nothing"}, {"x": "y" * 5000}, " "]
)
def test_schemas_that_lead_elsewhere_or_take_for_ever_are_refused(when: object) -> None:
    with pytest.raises(ValidationError):
        WatchRequest.model_validate({"question": NOW, "when": when})


@pytest.mark.parametrize(
    ("how", "window"),
    [
        ({"every_s": 1}, WINDOW),
        ({"every_s": 600}, 600.0),
        ({"every_s": 1, "window_s": 2.5}, 2.5),
        ({"about": "all"}, None),
    ],
)
def test_a_question_about_now_sees_all_since_it_was_asked_last(how: dict, window: float | None) -> None:
    assert WatchRequest.model_validate({"question": NOW, **how}).window == window


@pytest.mark.parametrize(
    "how", [{"about": "all", "window_s": 5}, {"about": "then"}, {"window_s": 0}, {"window_s": "x"}]
)
def test_a_window_that_cannot_be_is_refused(served: Running, how: dict) -> None:
    client = served.as_("alice")
    with stream(client, "narrow") as name:
        reply = client.post(f"/v1/streams/{name}/watches", json={"question": NOW, **how})
        assert reply.status_code == 422 or reply.status_code == 400, reply.text
        assert next(iter(reversed(how))) in reply.text


@given(st.floats(0.1, 10), st.lists(st.floats(0, 5), min_size=1, max_size=30))
def test_a_question_is_due_behind_the_frame_that_it_was_asked_of_and_on_its_grid(every: float, steps: list) -> None:
    asked = WatchRequest.model_validate({"question": NOW, "every_s": every})
    watch = Watch("w", None, asked, None, Trigger())  # type: ignore[arg-type]
    at, first = 0.0, steps[0]
    for step in steps:
        at += step
        if watch.due is None or at >= watch.due:
            watch.put_off(at)
            assert watch.due is not None
            assert at < watch.due <= at + every + 1e-4
            assert abs((watch.due - first) / every - round((watch.due - first) / every)) < 1e-3


# Standing questions


def test_every_event_is_told_once_and_watching_goes_on_undisturbed(served: Running) -> None:
    client, world = served.as_("alice"), Clip(10_002, 20, events=3, cast="varied")
    truth = [event.start for event in world.events]
    with stream(client, "standing") as name:
        path = f"/v1/streams/{name}"
        watch = client.post(f"{path}/watches", json={"question": NOW, "every_s": 0.5}).json()
        state = lambda: client.get(f"{path}/watches/{watch['id']}").json()  # noqa: E731
        for frame in world:
            push(client, name, (frame,))
        assert until(lambda: state()["last_time"] == frame.time)
        events = client.get(f"{path}/events").json()["data"]
        assert [event["time"] for event in reversed(events)] == truth
        assert Image.open(io.BytesIO(client.get(events[0]["picture"]).content)).format == "JPEG"
        assert (state()["events"], state()["state"], state()["asked"]) == (len(truth), "off", len(world))
        assert client.get(path).json()["turns"] == 0
        found = lambda **query: client.get(f"{path}/events", params=query).json()  # noqa: E731
        assert len(found(query="shape yes")["data"]) == len(truth)
        assert not found(query="%")["data"]
        page = found(limit=2)
        assert [event["id"] for event in page["data"]] == [event["id"] for event in events[:2]]
        assert found(before=page["next"])["data"][0]["id"] == events[2]["id"]
        assert served.as_("bob").get(f"{path}/events").status_code == 404
        assert client.delete(f"{path}/watches/{watch['id']}").status_code == 204
        assert client.get(f"{path}/watches").json()["data"] == []
        assert len(found()["data"]) == len(truth), "events stay"


def test_a_world_far_faster_than_life_waits_so_that_every_event_of_it_is_told_once(served: Running) -> None:
    """No picture is dropped, however busy the machine is, and each question is of its second of the stream.

    In this world three shapes come in its second minute: it runs while the question is still on its way to the server.
    """
    client, minutes = served.as_("alice"), 2
    address = f"demo://still?seed=10006&minutes={minutes}&events=4&speed=120"
    with stream(client, "far", source=address) as name:
        path = f"/v1/streams/{name}"
        watch = client.post(f"{path}/watches", json={"question": NOW, "every_s": 1.5, "max_tokens": 1}).json()
        begun = client.get(path).json()["time"]
        last = lambda: client.get(f"{path}/watches/{watch['id']}").json()["last_time"] or 0.0  # noqa: E731
        # Once an answer is taken in, so are the events of all before it: of a frame that was watched that is not said.
        assert until(lambda: last() >= 60 * minutes, 60)
        told = [event["time"] for event in reversed(client.get(f"{path}/events").json()["data"])]
        state, asked = client.get(path).json(), client.get(f"{path}/watches/{watch['id']}").json()
    truth = [event for event in World.of(address).clip.events if event.start > begun]
    assert len(truth) >= 2
    told = [at for at in told if at >= truth[0].start]
    assert len(told) == len(truth)
    assert all(event.start <= at < event.end + 1.5 for at, event in zip(told, truth, strict=True))
    assert (state["source"]["camera"]["dropped"], state["dropped"]) == (0, {})
    assert (asked["asked_every_s"], asked["keeps_pace"]) == (pytest.approx(1.5), True)


def test_events_are_streamed_from_where_a_client_was(served: Running) -> None:
    client = served.as_("alice")
    with stream(client, "streamed", source=QUICK) as name:
        path = f"/v1/streams/{name}/events"
        client.post(f"/v1/streams/{name}/watches", json={"question": NOW, "every_s": 0.5})
        numbers: list[int] = []
        for last, most in ((None, 2), ("seen", 4)):
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(numbers[-1])} if last else {})
            with client.stream("GET", path, headers=headers) as reply:
                for line in reply.iter_lines():
                    if line.startswith("data: "):
                        numbers.append(json.loads(line[6:])["id"])
                    if len(numbers) >= most:
                        break
        assert numbers == [event["id"] for event in reversed(client.get(path).json()["data"])][:4]
        second = client.post(f"/v1/streams/{name}/watches", json={"question": NOW, "every_s": 0.5}).json()["id"]
        headers["Last-Event-ID"] = "0"
        with client.stream("GET", path, headers=headers, params={"query": "circle"}) as refused:
            assert refused.status_code == 400
        with client.stream("GET", path, headers=headers, params={"watch": second}) as reply:
            told = next(json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: "))
        assert told["watch"] == second


def test_a_question_that_cannot_keep_its_pace_or_be_asked_says_so(served: Running) -> None:
    client = served.as_("alice")
    with stream(client, "pace", source="demo://still?speed=100&minutes=9") as name:
        made = client.post(f"/v1/streams/{name}/watches", json={"question": NOW, "every_s": 0.1}).json()
        assert until(lambda: not client.get(f"/v1/streams/{name}/watches/{made['id']}").json()["keeps_pace"])
        long = client.post(f"/v1/streams/{name}/watches", json={"question": "Is it so? " * 300})
        assert long.status_code == 400
        assert "reserve" in long.json()["error"]["message"]


class Receiver(http.server.BaseHTTPRequestHandler):
    """Refuses the first delivery, and takes all others."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))  # type: ignore[attr-defined]
        self.send_response(503 if len(self.server.got) == 1 else 204)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.got = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_events_are_sent_signed_and_again_until_they_are_taken(receiver: http.server.ThreadingHTTPServer) -> None:
    url = f"http://127.0.0.1:{receiver.server_address[1]}/hook"
    with running(media_networks=["127.0.0.0/8"]) as served:
        client = served.as_(None)
        client.post("/v1/streams", json={"id": "hooked", "source": QUICK})
        watch = {"question": NOW, "every_s": 0.5, "webhook": {"url": url}}
        made = client.post("/v1/streams/hooked/watches", json=watch).json()
        secret = made["webhook"]["secret"]
        assert client.get(f"/v1/streams/hooked/watches/{made['id']}").json()["webhook"]["secret"] is None
        deaf = {**watch, "webhook": {"url": "http://127.0.0.1:9/"}}
        deaf = client.post("/v1/streams/hooked/watches", json=deaf).json()
        got: list = receiver.got  # type: ignore[attr-defined]
        numbers = lambda: [json.loads(body)["id"] for _, body in got]  # noqa: E731
        assert until(lambda: len(numbers()) > len(set(numbers())) >= 2), "the first one comes again"
        wrong = lambda: client.get(f"/v1/streams/hooked/watches/{deaf['id']}").json()["webhook_error"]  # noqa: E731
        assert until(lambda: "refused" in (wrong() or ""))
    for headers, body in got:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert signature(secret, headers["webhook-id"], headers["webhook-timestamp"], body) == f"v1,{expected}"
        assert json.loads(body)["question"] == NOW


@pytest.mark.parametrize("size", [24, 33, 64])
def test_a_secret_is_a_key_in_base64(size: int) -> None:
    secret = f"whsec_{base64.b64encode(bytes(size)).decode()}"
    assert Webhook(url="https://example.org", secret=secret).secret == secret
    assert signature(secret, "1", "2", b"3").startswith("v1,")


@pytest.mark.parametrize(
    "secret",
    [*(f"whsec_{'A' * letters}" for letters in (33, 34, 43)), "whsec_", "A" * 32, f"whsec_{'A' * 92}", "whsec_é"],
)
def test_a_secret_that_signs_nothing_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError, match="24 to 64 bytes in base64"):
        Webhook(url="https://example.org", secret=secret)


def test_a_question_that_is_cancelled_before_its_first_step_counts_no_more() -> None:
    """A server that ends waits for answers: one that is never left would hold it up."""
    left: list[object] = []
    answer = SimpleNamespace(result=lambda **how: asyncio.sleep(60))
    asker = SimpleNamespace(put=lambda *given: answer, leave=left.append)
    request = WatchRequest.model_validate({"question": NOW})
    watch = SimpleNamespace(request=request, served=None, waiting=0, unheard=0, order=asyncio.Lock())

    async def put_and_stop() -> None:
        watches = object.__new__(Watches)
        vars(watches).update(_tasks=set(), _asker=asker, _instruct=False, _watches={})
        watches._put(cast(Any, watch))
        tasks = [*watches._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    asyncio.run(put_and_stop())
    assert (left, watch.waiting, watch.unheard) == ([answer], 0, 0)


def test_webhooks_keep_to_the_servers_rules(served: Running) -> None:
    client = served.as_("alice")
    with stream(client, "hook") as name:
        inside = ("http://127.0.0.1/", "https://[::1]:8443/", "http://169.254.169.254/latest")
        for url in ("http://user@example.org/", "ftp://example.org/", "http://exa mple.org/", *inside):
            watch = {"question": NOW, "webhook": {"url": url}}
            assert client.post(f"/v1/streams/{name}/watches", json=watch).status_code == 400, url


# What is kept


def event(number: int, **given) -> Event:
    told = {
        "owner": "alice",
        "stream": "s",
        "watch": "w",
        "question": "q",
        "answer": f"a{number}",
        "time": float(number),
    }
    return Event(**{**told, "at": float(number), "quiet": False, **given})


def test_events_are_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    store = Store(tmp_path / "events.sqlite", most=5)
    store.add_watch("w", "alice", "s", "{}", None, "{}")
    for number in range(12):
        store.believe("w", "{}", event(number), ("http://x", "y") if number == 0 else None)
    store.believe("w", "{}", event(0, owner="bob"), None)
    assert [each.answer for each in store.events("alice", "s")] == ["a11", "a10", "a9", "a8", "a7"]
    assert not store.due(time.time() + 9, 10), "what is gone is not sent"
    store.forget("alice", "s")
    assert store.believe("w", "{}", event(12), None) is None
    assert not store.events("alice", "s"), "a later stream of that id tells nothing of this one"
    store.close()


def test_what_was_told_is_there_when_the_process_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from infinipot.serve.watches.store import Event, Store\n"
        "store = Store(Path(sys.argv[1]), 100); store.add_watch('w', 'alice', 's', '{}', None, '{}')\n"
        "for number in range(20):\n"
        "    event = Event('alice', 's', 'w', 'q', str(number), number, number, False)\n"
        "    store.believe('w', str(number), event, None); print(number, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "events.sqlite"
    killed = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    store = Store(path, 100)
    assert len(store.events("alice", "s")) == len(killed.stdout.split()) == 20
    assert store.watches()[0]["believed"] == "19"
    assert len(list(tmp_path.iterdir())) == 3
    assert all(each.stat().st_mode & 0o077 == 0 for each in tmp_path.iterdir()), "webhooks have secrets"
    store.close()


def test_questions_go_on_after_a_restart(tmp_path: Path) -> None:
    with running(snapshots=tmp_path / "kept") as served:
        client = served.as_(None)
        client.post("/v1/streams", json={"id": "kept"})
        push(client, "kept", clip()[:6])
        made = client.post("/v1/streams/kept/watches", json={"question": NOW, "every_s": 0.5}).json()
        assert until(lambda: client.get(f"/v1/streams/kept/watches/{made['id']}").json()["asked"])
    with running(snapshots=tmp_path / "kept") as served:
        client = served.as_(None)
        push(client, "kept", clip()[6:9])
        again = lambda: client.get(f"/v1/streams/kept/watches/{made['id']}").json()  # noqa: E731
        assert until(lambda: again()["asked"])
        assert again()["question"] == NOW
        store = served.server.watches._store
        odd, none = f"{made['id']}-odd", f"{made['id']}-none"
        store.add_watch(odd, "everyone", "kept", '{"question": "?", "of": "a later version"}', None, "{}")
        store.add_watch(none, "everyone", "no such stream", '{"question": "?"}', None, "{}")
        store.believe(none, "{}", event(1, watch=none), ("http://127.0.0.1:9/", new_secret()))
    # One that has no room this time is as it was, once it has; what is understood no more holds up nothing.
    with running(snapshots=tmp_path / "kept", memory_total=1000) as served:
        assert served.as_(None).get("/v1/streams/kept").status_code == 404
    with running(snapshots=tmp_path / "kept") as served:
        client = served.as_(None)
        assert [each["id"] for each in client.get("/v1/streams/kept/watches").json()["data"]] == [made["id"]]
        assert {row["id"] for row in served.server.watches._store.watches()} == {made["id"], odd}
        assert served.server.watches._store._rows("SELECT * FROM deliveries"), "what was told is still delivered"
        assert client.delete("/v1/streams/kept").status_code == 204
    settings, earlier = Settings(model="embedded", snapshots=tmp_path / "kept"), tmp_path / "kept-events.sqlite"
    assert settings.events_path == tmp_path / "kept" / "events.sqlite"
    assert not earlier.exists()
    earlier.touch()
    assert settings.events_path == earlier, "what an earlier version kept beside the folder is not lost"


def test_a_camera_goes_on_where_its_stream_was_saved(tmp_path: Path) -> None:
    with running(snapshots=tmp_path / "kept") as served:
        client = served.as_(None)
        client.post("/v1/streams", json={"id": "cam", "source": QUICK})
        assert until(lambda: client.get("/v1/streams/cam").json()["time"] > 3)
    with running(snapshots=tmp_path / "kept") as served:
        client = served.as_(None)
        state = lambda: client.get("/v1/streams/cam").json()  # noqa: E731
        saved = state()["restored_at"]
        assert until(lambda: state()["time"] > saved + 1)
        assert state()["gap_seconds"] > 0
        assert state()["source"]["camera"]["state"] == "live"


def test_the_page_is_there_without_a_key_and_asks_for_nothing_from_elsewhere(served: Running) -> None:
    client: httpx.Client = served.as_(None)
    index = client.get("/")
    assert index.status_code == 200
    assert "default-src 'none'" in index.headers["content-security-policy"]
    for part in Path("infinipot/serve/page/files").iterdir():
        reply = client.get(f"/page/{part.name}")
        assert reply.status_code == 200
        assert not ELSEWHERE.search(reply.text), part
    for name in ("..%2frouter.py", "router.py", "nothing.js"):
        assert client.get(f"/page/{name}").status_code in (401, 404)
    assert client.get("/v1/streams").status_code == 401
