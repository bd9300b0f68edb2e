"""A gate and second looks through the server: as settings of a stream, as defaults, and of single questions."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from infinipot.errors import InfinipotError
from infinipot.evaluate.needle.case import CELLS
from infinipot.serve.settings import Settings
from support.serving import MEMORY, Running, clip, embedded, push, running, stream

NOW = "Is there a shape now?"
DRAWN: dict[str, Any] = {"temperature": 5.0, "seed": 6}  # so that any change of the logits shows
LOOK: dict[str, Any] = {"look_again": 2, "look_pixels": (9216, 9216)}


def ask(client: httpx.Client, name: str, **how: Any) -> dict:
    reply = client.post(f"/v1/streams/{name}/ask", json={"question": NOW, **DRAWN, **how})
    assert reply.status_code == 200, reply.text
    return reply.json()


def library(settings: dict[str, Any], *hows: dict[str, Any]) -> tuple[list[str], int]:
    """What the library answers on the same frames, and how many tokens its gate left out."""
    with embedded().stream(MEMORY, **settings) as watched:
        for frame in clip():
            watched.watch(frame)
        return [watched.ask(NOW, **DRAWN, **how) for how in hows], watched.stats().gated_tokens


def test_a_streams_gate_and_second_looks_are_the_librarys(served: Running) -> None:
    client, settings = served.as_("alice"), {"gate": 0.03, "look_again": 2}
    hows: list[dict[str, Any]] = [{}, {"look_again": 1}, LOOK]
    answers, gated = library(settings, *hows)
    assert gated > 0
    assert len(set(answers)) > 1
    with stream(client, "looks", **settings) as name:
        push(client, name, clip())
        assert [ask(client, name, **how)["answer"] for how in hows] == answers
        state = client.get(f"/v1/streams/{name}").json()
        body = {"model": "embedded", "id": name, "messages": [{"role": "user", "content": NOW}], **DRAWN, **LOOK}
        chat = client.post("/v1/chat/completions", json=body).json()
        assert chat["choices"][0]["message"]["content"] == answers[-1]
        assert client.post(f"/v1/streams/{name}/fork", json={"id": "copy"}).json()["look_again"] == 2
        assert ask(client, "copy", **LOOK)["answer"] == answers[-1]
        client.delete("/v1/streams/copy")
    assert (state["gate"], state["look_again"], state["gated_tokens"]) == (0.03, 2, gated)


def test_the_pictures_of_gates_and_looks_are_admitted_to_the_byte(served: Running) -> None:
    client = served.as_("alice")
    sizes = {}
    kinds: dict[str, dict[str, Any]] = {"plain": {}, "gate": {"gate": "otsu"}, "look": {"look_again": 3}}
    for label, settings in kinds.items():
        before = served.server.streams.room.reserved
        with stream(client, label, **settings):
            sizes[label] = served.server.streams.room.reserved - before
            own = embedded().stream_bytes(MEMORY, **settings)
            assert sizes[label] == own + served.server.settings.limits.pictures
        assert served.server.streams.room.reserved == before
    assert sizes["look"] > sizes["gate"] > sizes["plain"]
    with running(memory_total=sizes["look"] - 1) as small:
        refused = small.as_(None).post("/v1/streams", json={"look_again": 3})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "memory_exhausted")
        assert small.as_(None).post("/v1/streams", json={"look_again": 2}).status_code == 201


def test_what_a_server_sets_holds_where_a_stream_says_nothing() -> None:
    with running(gate="otsu", look_again=1) as server:
        client = server.as_(None)
        opened = [client.post("/v1/streams", json=asked).json() for asked in ({}, {"gate": "off", "look_again": 0})]
        with_none = client.post("/v1/streams", json={"gate": None}).json()
    assert [(each["gate"], each["look_again"]) for each in opened] == [("otsu", 1), (None, 0)]
    assert with_none["gate"] == "otsu"


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("", {"gate": "foo"}, "gate='foo': give \"patches\""),
        ("", {"gate": True}, 'gate=True: give "patches"'),
        ("", {"gate": 0.1, "policy": "recent-frames"}, "needs whole patches"),
        ("", {"look_again": -1}, "look_again: "),
        ("/few/ask", {"question": NOW, "look_again": 2}, "open it with look_again=2"),
        ("/few/ask", {"question": NOW, "look_again": 1, "look_pixels": [9, 3]}, "least and the most pixels"),
        ("/few/ask", {"question": NOW, "look_pixels": [3, 9]}, "give look_again, too"),
        (
            "/few/ask",
            {"question": NOW, "look_again": 1, "look_pixels": [10**12, 10**13]},
            "a frame may have up to 16,000,000 pixels",
        ),
        ("/few/watches", {"question": NOW, "look_again": 2}, "open it with look_again=2"),
    ],
)
def test_what_cannot_be_says_what_can(path: str, body: dict, says: str, served: Running) -> None:
    client = served.as_("alice")
    with stream(client, "few", look_again=1):
        push(client, "few", clip()[:2])
        reply = client.post(f"/v1/streams{path}", json=body)
    assert reply.status_code == 400
    assert says in reply.json()["error"]["message"]


def test_an_answer_beside_a_second_look_is_as_long_as_there_is_room(served: Running) -> None:
    client = served.as_("alice")
    with stream(client, "short", look_again=2, reserve=64) as name:
        push(client, name, clip()[:6])
        plain, looking = (
            ask(client, name, max_tokens=10_000, repetition_penalty=5.0, temperature=9.0, seed=16, **how)
            for how in ({}, {"look_again": 2})
        )
    assert plain["usage"]["completion_tokens"] > looking["usage"]["completion_tokens"] > 0
    assert looking["finish_reason"] == "length"
    video = [each["usage"]["prompt_tokens_details"]["multimodal_tokens"]["video"] for each in (plain, looking)]
    more = looking["usage"]["prompt_tokens"] - plain["usage"]["prompt_tokens"]
    assert video[1] - video[0] == more == CELLS, "what is looked at is video, too"


def test_a_standing_question_looks_again_and_through_its_window(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, asked = served.as_("alice"), []
    begin_ask = type(embedded().stream()).begin_ask

    def noting(self: Any, *args: Any, **how: Any) -> Any:
        asked.append(how)
        return begin_ask(self, *args, **how)

    monkeypatch.setattr("infinipot.stream.Stream.begin_ask", noting)
    with stream(client, "stands", look_again=2) as name:
        standing = {"question": NOW, "every_s": 1, "look_again": 2, "window_s": 3}
        watch = client.post(f"/v1/streams/{name}/watches", json=standing).json()
        push(client, name, clip()[:8])
        ask(client, name)
        ask(client, name, window_s=2)
        told = client.get(f"/v1/streams/{name}/watches/{watch['id']}").json()
    assert (told["look_again"], told["about"], told["window_s"], told["error"]) == (2, "now", 3.0, None)
    assert told["asked"] > 0
    assert {(how["look_again"], how["window"]) for how in asked if "temperature" not in how} == {(2, 3.0)}
    assert [how.get("window") for how in asked if "temperature" in how] == [None, 2.0]


def test_the_command_line_and_the_environment_set_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINIPOT_SERVE_GATE", "0.05")
    file = tmp_path / "server.toml"
    file.write_text('model = "embedded"\nlook_again = 3\ngate = "otsu"\n')
    settings = Settings.read(file)
    assert (settings.stream["gate"], settings.stream["look_again"]) == ("0.05", 3)
    assert Settings.read(file, gate="off").stream["gate"] is None
    with pytest.raises(InfinipotError, match="gate='foo': give \"patches\""):
        Settings.read(file, gate="foo")
