"""The official `openai` client against a real server, and vllm-omni's and VSS's ways in."""

import asyncio
import base64
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import numpy as np
import openai
import pytest
from openai.types.chat import ChatCompletion
from pydantic import TypeAdapter, ValidationError
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from infinipot.model import Model
from infinipot.serve.bodies import made_of
from infinipot.serve.chat.protocol import ChatRequest
from infinipot.serve.chat.unsupported import Unsupported
from infinipot.serve.errors import ApiError
from infinipot.serve.omni.protocol import MESSAGE, VideoFrame
from infinipot.serve.omni.serving import OmniSession
from infinipot.serve.realtime.items import Items
from infinipot.serve.realtime.protocol import EVENT, Item, ResponseOptions, Session
from infinipot.serve.realtime.serving import RealtimeSession
from infinipot.serve.settings import Settings
from infinipot.serve.streams.protocol import AskRequest, StreamRequest
from infinipot.serve.vss.protocol import Live
from infinipot.serve.watches.protocol import WatchRequest
from support.serving import KEYS, Running, alone, clip, data_url, encoded, push, stream
from support.video_files import encode

COLOUR, COUNT = "What colour was the circle?", "How many shapes have appeared so far?"


# The client takes what a server adds (`extra_body`, `reply.infinipot`), which its own types do not know: Any.
@pytest.fixture
def client(served: Running) -> Any:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEYS["alice"], max_retries=0)


def user(*content: object) -> dict:
    parts = [{"type": "text", "text": each} if isinstance(each, str) else each for each in content]
    return {"role": "user", "content": parts}


def image(url: str) -> dict:
    return {"type": "image_url", "image_url": {"url": url}}


def video(url: str) -> dict:
    return {"type": "video_url", "video_url": {"url": url}}


def test_models(client: Any) -> None:
    (model,) = client.models.list().data
    assert client.models.retrieve("embedded") == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_a_stream_is_asked_by_any_of_its_three_names(served: Running, client: Any) -> None:
    frames = clip()
    with stream(served.as_("alice"), "chat") as name:
        push(served.as_("alice"), name, frames)
        named: list[dict[str, Any]] = [
            {"messages": [user(COLOUR)], "extra_body": {"id": name}},
            {"messages": [user(COLOUR)], "extra_body": {"session_id": name}},
            {"messages": [user(COLOUR)], "extra_headers": {"x-session-id": name}},
            {"messages": [user(video(f"stream://{name}"), COLOUR)]},
        ]
        replies = [client.chat.completions.create(model="embedded", **each) for each in named]
        state = served.as_("alice").get(f"/v1/streams/{name}").json()
    (answer,) = alone(frames, COLOUR)
    assert [reply.choices[0].message.content for reply in replies] == [answer] * 4
    assert all(isinstance(reply, ChatCompletion) for reply in replies)
    usage = replies[0].usage
    assert usage.prompt_tokens_details.cached_tokens == state["tokens"]
    assert (usage.prompt_tokens, usage.completion_tokens) == (answer.prompt_tokens, answer.tokens)
    assert usage.prompt_tokens > usage.prompt_tokens_details.cached_tokens
    assert usage.prompt_tokens_details.multimodal_tokens["video"] == state["video_tokens"]
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_an_answer_that_is_streamed_is_the_one_that_is_not(served: Running, client: Any) -> None:
    with stream(served.as_("alice"), "streamed") as name:
        push(served.as_("alice"), name, clip())
        given = {"model": "embedded", "messages": [user(COUNT)], "extra_body": {"id": name}}
        whole = client.chat.completions.create(**given)
        chunks = list(client.chat.completions.create(**given, stream=True, stream_options={"include_usage": True}))
    *said, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in said).strip() == whole.choices[0].message.content
    assert said[0].choices[0].delta.role == "assistant"
    assert said[-1].choices[0].finish_reason == "stop"
    assert (last.choices, last.usage) == ([], whole.usage)
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_conversation_sent_whole_again_is_not_read_again(served: Running, client: Any) -> None:
    frames = clip()
    with stream(served.as_("alice"), "whole") as name:
        push(served.as_("alice"), name, frames)
        before = [user(image(data_url(frames[0].image)), COLOUR), {"role": "assistant", "content": "purple"}]
        for messages in ([user(COUNT)], [*before, user(COUNT)]):
            given = {"model": "embedded", "messages": messages, "extra_body": {"id": name}}
            reply = client.chat.completions.create(**given)
            assert reply.choices[0].message.content == alone(frames, COUNT)[0]
        assert served.as_("alice").get(f"/v1/streams/{name}").json()["frames"] == len(frames)


def test_a_turn_is_remembered_where_that_is_asked_for(served: Running, client: Any) -> None:
    with stream(served.as_("alice"), "turns", memory=768) as name:
        push(served.as_("alice"), name, clip())
        for remember in (False, True):
            given = {"messages": [user(COLOUR)], "extra_body": {"id": name, "remember": remember}}
            reply = client.chat.completions.create(model="embedded", **given)
            assert reply.infinipot["remembered"] is remember
            assert served.as_("alice").get(f"/v1/streams/{name}").json()["turns"] == int(remember)


def test_sampling_is_that_of_the_library(served: Running, client: Any) -> None:
    frames = clip()
    how: dict[str, Any] = {"temperature": 2.0, "top_p": 0.9, "seed": 7, "max_tokens": 6}
    with stream(served.as_("alice"), "sampled") as name:
        push(served.as_("alice"), name, frames)
        given = {"model": "embedded", "messages": [user(COLOUR)], "extra_body": {"id": name}}
        drawn = client.chat.completions.create(**given, **how)
        short = client.chat.completions.create(**given, temperature=5, seed=1, max_completion_tokens=1)
    library = {name: value for name, value in how.items() if name != "max_tokens"}
    assert drawn.choices[0].message.content == alone(frames, COLOUR, max_new_tokens=6, **library)[0]
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 1)


def test_a_file_frames_in_a_row_and_pictures_are_watched_for_the_request(
    served: Running, client: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    frames = clip()
    listed = ",".join(base64.b64encode(encoded(frame.image)).decode() for frame in frames)
    row: dict[str, Any] = {"messages": [user(video(f"data:video/png;base64,{listed}"), COUNT)]}
    row["extra_body"] = {"media_io_kwargs": {"video": {"fps": 2}}}
    pictures = {"messages": [user(*(image(data_url(frame.image)) for frame in frames), COUNT)]}
    for given in (row, pictures):
        reply = client.chat.completions.create(model="embedded", **given)
        assert reply.choices[0].message.content == alone(frames, COUNT)[0]
        evidence = reply.infinipot.pop("evidence")
        assert reply.infinipot == {"stream": None, "time": frames[-1].time, "remembered": False}
        assert 0 < sum(span["weight"] for span in evidence) <= 1.001

    path = encode(tmp_path_factory.mktemp("chat") / "clip.mp4", [frame.image for frame in frames], rate=2)
    inline = f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"
    root = served.folder("media_root")
    (root / "clip.mp4").write_bytes(path.read_bytes())
    for url in (inline, (root / "clip.mp4").as_uri()):
        reply = client.chat.completions.create(model="embedded", messages=[user(video(url), COUNT)])
        assert reply.infinipot["time"] == frames[-1].time
    assert all(not each.passing for each in served.server.streams)


def test_a_frame_that_a_stream_cannot_take_is_told_and_not_asked_about_without(served: Running, client: Any) -> None:
    long = np.zeros((4, 2000, 3), np.uint8)  # beyond what the model takes
    one, frame = (base64.b64encode(encoded(each, "JPEG")).decode() for each in (clip()[0].image, long))
    with stream(served.as_("alice"), "odd-frame") as name:
        for listed in (f"{one},{frame}", frame):
            address = video(f"data:video/jpeg;base64,{listed}")
            with pytest.raises(openai.BadRequestError, match="aspect ratio"):
                client.chat.completions.create(
                    model="embedded", messages=[user(address, COUNT)], extra_body={"id": name}
                )
        assert served.as_("alice").get(f"/v1/streams/{name}").json()["frames"] == 1


def test_a_session_has_one_stream_whatever_needs_it_first(
    served: Running, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = served.server.streams.open

    async def slowly(*given: Any, **how: Any) -> Any:
        await asyncio.sleep(0.3)
        return await real(*given, **how)

    monkeypatch.setattr(served.server.streams, "open", slowly)
    with client.realtime.connect(model="embedded") as connection:
        connection.send({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": COUNT}]}})  # fmt: skip
        connection.send(
            {"type": "response.create", "response": {}}
        )  # while its stream is being opened, a picture comes
        picture = {"type": "input_image", "image_url": data_url(clip()[0].image)}
        item = {"type": "message", "role": "user", "content": [picture]}
        connection.send({"type": "conversation.item.create", "item": item})
        told: list[str] = []
        while told.count("conversation.item.done") < 2 or "response.done" not in told:
            told.append(connection.recv().type)
        assert sum(each.passing for each in served.server.streams) == 1


def test_a_session_that_a_request_opens_is_given_the_whole_history(served: Running, client: Any) -> None:
    """As where a client that sends all of its messages goes on after its session was closed."""
    first, second, third = (image(data_url(frame.image)) for frame in clip()[:3])
    said = {"role": "assistant", "content": "one"}
    messages = [user(first, COUNT), said, user(second, COLOUR), said, user(COUNT)]
    given = {"model": "embedded", "temperature": 0}
    expected = client.chat.completions.create(**given, messages=messages)

    session = {**given, "extra_body": {"session_id": "reopened"}}
    broken = image("data:image/png;base64,bm8=")
    with pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(**session, messages=[user(first, COUNT), said, user(broken, COUNT)])
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**session, messages=[user(COUNT)])  # no session has seen half of a history
    reply = client.chat.completions.create(**session, messages=messages)
    assert (reply.choices, reply.usage) == (expected.choices, expected.usage)
    assert reply.infinipot["stream"] == "reopened"
    client.chat.completions.create(**session, messages=[*messages, said, user(third, COUNT)])
    assert served.as_("alice").get("/v1/streams/reopened").json()["frames"] == 3
    served.as_("alice").delete("/v1/streams/reopened")


def test_a_session_is_opened_by_its_first_frames_and_goes_on(served: Running, client: Any) -> None:
    frames = clip()[:4]
    given = {"model": "embedded", "extra_body": {"session_id": "talk"}}
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(messages=[user(COUNT)], **given)
    for frame in frames:
        system = {"role": "system", "content": "Be brief."}
        client.chat.completions.create(messages=[system, user(image(data_url(frame.image)), COUNT)], **given)
    state = served.as_("alice").get("/v1/streams/talk").json()
    assert (state["frames"], state["system"]) == (len(frames), "Be brief.")
    assert served.server.streams.find("alice", "talk").idle_seconds == 600
    own = {"model": "embedded", "extra_body": {"session_id": "short", "infinipot": {"idle_seconds": 9}}}
    client.chat.completions.create(messages=[user(image(data_url(frames[0].image)), COUNT)], **own)
    assert served.server.streams.find("alice", "short").idle_seconds == 9
    served.as_("alice").delete("/v1/streams/short")
    with pytest.raises(openai.BadRequestError, match="another system message"):
        client.chat.completions.create(messages=[{"role": "system", "content": "Shout."}, user(COUNT)], **given)
    served.as_("alice").delete("/v1/streams/talk")


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError, "gpt-4o"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "assistant", "content": "hm"}]}, openai.BadRequestError, "'user'"),
        ({"messages": [user("What is there?")]}, openai.BadRequestError, "nothing to ask about"),
        ({"n": 2}, openai.BadRequestError, "n: a request has one answer: leave it out"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            openai.BadRequestError,
            "tools: .* leave it out",
        ),
        ({"extra_body": {"id": "no-such-stream"}}, openai.NotFoundError, "no-such-stream"),
        ({"extra_body": {"id": "a", "session_id": "b"}}, openai.BadRequestError, "names 2"),
        ({"messages": [user({"type": "input_text", "text": COUNT})]}, openai.BadRequestError, "'input_text'"),
        ({"messages": [user({"type": "image_url", "image_url": {"uri": "x"}})]}, openai.BadRequestError, "url: Field"),
        ({"extra_body": {"guided_choice": ["a"]}}, openai.BadRequestError, "guided_choice: answers are text that"),
        ({"messages": [{"role": "user", "content": 5}]}, openai.BadRequestError, "content.text: .* valid string"),
        ({"extra_body": {"media_io_kwargs": {"video": {"num_frames": 10**9}}}}, openai.BadRequestError, "to ask about"),
    ],
)
def test_errors_are_those_of_the_client(
    client: Any, changed: dict, error: type[openai.APIStatusError], words: str
) -> None:
    with pytest.raises(error, match=words) as told:
        client.chat.completions.create(**{"model": "embedded", "messages": [user("What is there?")], **changed})
    body: Any = told.value.body
    assert body["type"] in ("invalid_request_error", "not_found_error")


def test_a_field_that_is_null_counts_as_left_out(served: Running) -> None:
    """Many clients write all of their fields; OpenAI's own description has `stream` and most others nullable."""
    http = served.as_("alice")
    with stream(http, "nulls", **dict.fromkeys(StreamRequest.model_fields.keys() - {"id"})) as name:
        push(http, name, clip()[:2])
        nulls = dict.fromkeys(ChatRequest.model_fields.keys() - {"messages", "id"})
        inside = {"stream_options": {"include_usage": None}, "media_io_kwargs": {"video": None}, "infinipot": None}
        for given in (nulls, nulls | inside):
            body = {"messages": [{"role": "user", "content": COUNT, "name": None}], "id": name, **given}
            assert http.post("/v1/chat/completions", json=body).status_code == 200
        nulls = dict.fromkeys(AskRequest.model_fields.keys() - {"question"})
        assert http.post(f"/v1/streams/{name}/ask", json={"question": COUNT, **nulls}).status_code == 200
        nulls = dict.fromkeys(WatchRequest.model_fields.keys() - {"question"})
        assert http.post(f"/v1/streams/{name}/watches", json={"question": COUNT, **nulls}).status_code == 201
        refused = http.post(f"/v1/streams/{name}/ask", json={"question": COUNT, "unknown": None})
        assert (refused.status_code, "no such field" in refused.text) == (400, True)


@pytest.mark.parametrize(
    ("kind", "given", "nullable"),
    [
        (EVENT, {"type": "response.create"}, ("event_id", "response")),
        (EVENT, {"type": "response.create", "response": {}}, tuple(ResponseOptions.model_fields)),
        (EVENT, {"type": "session.update", "session": {}}, tuple(Session.model_fields)),
        (MESSAGE, {"type": "video.query", "text": COUNT}, ("request_id", "infinipot")),
        (MESSAGE, {"type": "session.config"}, ("model", "modalities", "system_prompt", "infinipot")),
    ],
)
def test_a_field_of_a_sockets_message_that_is_null_counts_as_left_out(
    kind: TypeAdapter[Any], given: dict, nullable: tuple[str, ...]
) -> None:
    nulls = dict.fromkeys(nullable)
    name = next((name for name in ("response", "session") if name in given), None)
    written = {**given, name: nulls} if name else given | nulls
    assert kind.validate_python(written) == kind.validate_python(given)


def test_what_would_change_an_answer_is_refused_unless_it_changes_nothing() -> None:
    """Fields of OpenAI and vLLM: each has a sentence that says what to do."""
    asked = {"messages": [user(COUNT)]}
    harmless = {"n": 1, "modalities": ["text"], "tools": [], "logprobs": False, "top_logprobs": 0}
    harmless |= {"presence_penalty": 0.0, "min_p": 0.0, "min_tokens": 0, "ignore_eos": False, "stop_token_ids": []}
    harmless |= {"use_beam_search": False, "logit_bias": {}, "bad_words": [], "structured_outputs": {}}
    assert made_of(ChatRequest, asked | harmless)
    for name in Unsupported.model_fields:
        for wrong in (2, True, ["a"]):
            if wrong is True and name in ("n", "best_of"):
                continue  # which is 1
            with pytest.raises(ApiError, match=f"^{name}: .*leave (it|this) out") as told:
                made_of(ChatRequest, asked | {name: wrong})
            assert told.value.param == name
    for field, value in (("tools", [{"type": "function"}]), ("output_modalities", ["audio"])):
        for event in (
            {"type": "session.update", "session": {field: value}},
            {"type": "response.create", "response": {field: value}},
        ):
            with pytest.raises(ValidationError, match="leave it out"):
                EVENT.validate_python(event)


def test_a_pictures_address_may_stand_alone(client: Any) -> None:
    alone_ = {"type": "image_url", "image_url": data_url(clip()[0].image)}
    given = [user(alone_, COUNT)], [user(image(alone_["image_url"]), COUNT)]
    one, other = (client.chat.completions.create(model="embedded", messages=each) for each in given)
    assert one.choices[0].message.content == other.choices[0].message.content


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"system": "x" * 9000}, 400, "system: .* 8192"),
        ({"media_io_kwargs": {"video": {"num_frames": 10**9}}}, 413, "512 are allowed"),
        ({"media_io_kwargs": {"video": {"frames_indices": [10**400]}}}, 400, "frames_indices"),
        ({"pictures": 513}, 413, "has 513 pictures and videos; at most 512 are allowed"),
        ({"video_seconds": 0.001}, 422, "within 0.001 s"),
        ({"video_seconds": 0.001, "pictures": 1}, 422, "within 0.001 s"),
    ],
)
def test_what_a_request_asks_too_much_of_is_its_own_fault(
    served: Running, monkeypatch: pytest.MonkeyPatch, changed: dict, status: int, words: str
) -> None:
    if "video_seconds" in changed:
        monkeypatch.setattr(served.server.settings.limits, "video_seconds", changed.pop("video_seconds"))
    system = [{"role": "system", "content": changed.pop("system")}] if "system" in changed else []
    media = [video("data:video/mp4;base64,AAAA"), image(data_url(clip()[0].image))]
    media = media[1:] * changed.pop("pictures") if "pictures" in changed else media
    question = user(*media, COUNT)
    reply = served.as_("alice").post("/v1/chat/completions", json={"messages": [*system, question], **changed})
    assert reply.status_code == status, reply.text
    assert re.search(words, reply.json()["error"]["message"])


def test_what_other_servers_take_is_taken(served: Running, client: Any) -> None:
    frames = clip()
    given: dict[str, Any] = {"messages": [user(image(data_url(frames[0].image)), COUNT)]}
    body: dict[str, Any] = {
        "id": ["listed"],
        "top_k": -1,
        "media_io_kwargs": {"video": {"num_frames": -1}},
        "guided_json": None,
    }
    with stream(served.as_("alice"), "listed") as name:
        reply = client.chat.completions.create(model="embedded", **given, extra_body=body)
        assert reply.infinipot["stream"] == name
    listed = ",".join(base64.b64encode(encoded(frame.image)).decode() for frame in frames[:3])
    body = {"mm_processor_kwargs": {"fps": 4, "num_crops": 1}}
    given = {"messages": [user(video(f"data:video/png;base64,{listed}"), COUNT)], "extra_body": body}
    assert client.chat.completions.create(model="embedded", **given).infinipot["time"] == 2 / 4


def test_a_wrong_key_is_an_authentication_error(served: Running) -> None:
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="wrong", max_retries=0).models.list()


def item(*content: dict) -> dict:
    return {"type": "message", "role": "user", "content": list(content)}


def own_stream(served: Running) -> Any:
    """The one stream that a session opened for itself."""
    (own,) = [each for each in served.server.streams if each.passing]
    return own


def until(connection: Any, kind: str) -> list:
    events = []
    for event in connection:
        events.append(event)
        if event.type in (kind, "error"):
            return events
    return events


def test_realtime_watches_pictures_and_answers(served: Running, client: Any) -> None:
    frames = clip()[:6]
    with client.realtime.connect(model="embedded") as connection:
        assert until(connection, "session.created")[-1].session.model == "embedded"
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        assert until(connection, "session.updated")[-1].type == "session.updated"
        for frame in frames:
            at = {"infinipot": {"time": frame.time}}
            connection.conversation.item.create(
                item=item({"type": "input_image", "image_url": data_url(frame.image), **at})
            )
            assert until(connection, "conversation.item.done")[-1].type == "conversation.item.done"
        answers = []
        for conversation in ("none", "auto"):
            connection.conversation.item.create(item=item({"type": "input_text", "text": COUNT}))
            connection.response.create(response={"conversation": conversation})
            events = until(connection, "response.done")
            done = events[-1].response
            deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
            answers.append(done.output[0].content[0].text)
            assert done.status == "completed"
            assert "".join(deltas).strip() == answers[-1]
            assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
            order = [event.type for event in events if event.type.startswith("response.")]
            assert order[:3] == ["response.created", "response.output_item.added", "response.content_part.added"]
            joined = [event for event in events if event.type == "conversation.item.added"][1:]
            assert [each.item.id for each in joined] == ([done.output[0].id] if conversation == "auto" else [])
            own = own_stream(served)
            assert own.lane.stats.turns == (conversation == "auto")
        asked = [event.item.id for event in events if event.type == "conversation.item.done"]
        assert (asked[1], joined[0].previous_item_id) == (done.output[0].id, asked[0])
        own.used -= 1e9
        assert not served.server.streams.is_idle(own)  # a session that goes on keeps its stream, whatever it says
    assert answers == alone(frames, COUNT) * 2
    wait_until(lambda: not any(each.passing for each in served.server.streams))


def test_realtime_on_a_stream_that_is_open_and_its_errors(served: Running, client: Any) -> None:
    with stream(served.as_("alice"), "room") as name:
        push(served.as_("alice"), name, clip()[:4])
        with client.realtime.connect(model="embedded", extra_query={"stream": name}) as connection:
            until(connection, "session.created")
            connection.send({"type": "response.create", "event_id": "mine"})
            problem = until(connection, "error")[-1]
            assert problem.error.event_id == "mine"  # nothing was asked
            assert re.fullmatch("event_[0-9a-f]{20}", problem.event_id)
            for wrong in (
                {"type": "response.cancel"},
                {"type": "no.such.event"},
                {"type": "input_audio_buffer.append", "audio": ""},
                {"type": "conversation.item.create", "item": {"type": "message", "role": "user"}},
                {"type": "conversation.item.delete", "item_id": "none"},
                {"type": "session.update", "session": {"type": "realtime", "instructions": "Shout."}},
            ):
                connection.send(wrong)
                assert until(connection, "error")[-1].type == "error", wrong
            connection.conversation.item.create(item=item({"type": "input_text", "text": COUNT}))
            connection.response.create(response={"conversation": "none"})
            assert until(connection, "response.done")[-1].response.status == "completed"
        assert served.as_("alice").get(f"/v1/streams/{name}").json()["turns"] == 0


def test_no_picture_of_a_realtime_session_is_lost_without_a_word(served: Running, client: Any) -> None:
    picture = {"type": "input_image", "image_url": data_url(clip()[0].image)}
    with client.realtime.connect(model="embedded") as connection:
        connection.send({"type": "session.update", "session": {"infinipot": {"fps": 0.01}}})
        for pictures, skipped in ((3, 0), (1, 0)):
            connection.conversation.item.create(item=item(*[picture] * pictures))
            told = until(connection, "conversation.item.done")[-1].item
            assert getattr(told, "infinipot", {"skipped": 0})["skipped"] == skipped
        own = own_stream(served)
        assert own.time == 300
        connection.conversation.item.create(item=item({**picture, "infinipot": {"time": 301}}, picture))
        assert until(connection, "conversation.item.done")[-1].item.infinipot == {"skipped": 1}
        question = item(picture, picture, {"type": "input_text", "text": COUNT})
        connection.response.create(response={"input": [question]})
        assert until(connection, "response.done")[-1].response.infinipot["time"] == own.time == 600
        assert own.lane.stats.frames == 7


def test_a_realtime_session_tells_of_a_picture_for_a_stream_that_was_closed(served: Running, client: Any) -> None:
    picture = {"type": "input_image", "image_url": data_url(clip()[0].image)}
    served.as_("alice").post("/v1/streams", json={"id": "gone"})
    with client.realtime.connect(model="embedded", extra_query={"stream": "gone"}) as connection:
        until(connection, "session.created")
        served.as_("alice").delete("/v1/streams/gone")
        connection.conversation.item.create(item=item(picture))
        assert until(connection, "conversation.item.done")[-1].error.code == "stream_closed"


@pytest.fixture
def endless_answers(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers go on until there is no more room, slowly."""
    real = Model.step

    def slowly(*given: Any) -> int:
        time.sleep(0.02)
        return real(*given)

    monkeypatch.setattr(type(served.server.model.adapter), "stop_ids", frozenset())
    monkeypatch.setattr(Model, "step", slowly)


@pytest.mark.usefixtures("endless_answers")
def test_a_stream_of_a_request_is_closed_when_its_client_leaves(served: Running, client: Any) -> None:
    picture = image(data_url(clip()[0].image))
    with client.chat.completions.create(model="embedded", messages=[user(picture, COUNT)], stream=True) as chunks:
        next(iter(chunks))
        assert any(each.passing for each in served.server.streams)
    wait_until(lambda: not any(each.passing for each in served.server.streams))
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="embedded", messages=[user(picture, COUNT)], timeout=0.3)
    wait_until(lambda: not any(each.passing for each in served.server.streams) and not served.server.asker.waiting)


@pytest.mark.usefixtures("endless_answers")
def test_a_realtime_response_is_cancelled(served: Running, client: Any) -> None:
    with client.realtime.connect(model="embedded") as connection:
        until(connection, "session.created")
        picture = {"type": "input_image", "image_url": data_url(clip()[0].image)}
        connection.conversation.item.create(item=item(picture, {"type": "input_text", "text": COUNT}))
        connection.response.create(response={})
        until(connection, "response.output_text.delta")
        connection.response.create(response={"input": [item({"type": "input_text", "text": COUNT})]})
        assert until(connection, "error")[-1].error.code == "conversation_already_has_active_response"
        connection.response.cancel()
        events = until(connection, "response.done")
        assert events[-1].response.status == "cancelled"
        assert events[-1].response.output[0].status == "incomplete"
        (own,) = [each for each in served.server.streams if each.passing]
        assert own.lane.stats.turns == 0


@pytest.mark.usefixtures("endless_answers")
def test_a_question_waits_until_a_response_has_answered_it(served: Running, client: Any) -> None:
    picture = {"type": "input_image", "image_url": data_url(clip()[0].image)}
    with client.realtime.connect(model="embedded") as connection:
        connection.conversation.item.create(item=item(picture, {"type": "input_text", "text": COUNT}))
        until(connection, "conversation.item.done")
        connection.response.create(response={})
        connection.response.cancel()
        assert until(connection, "response.done")[-1].response.status == "cancelled"
        for status in ("failed", "incomplete"):
            with pytest.MonkeyPatch.context() as patch:
                if status == "failed":
                    patch.setattr(served.server.settings.limits, "answers", 0)
                connection.response.create(response={"max_output_tokens": 1})
                assert until(connection, "response.done")[-1].response.status == status
        connection.response.create(response={})
        assert until(connection, "response.done")[-1].error.code == "no_question"  # it was answered


def test_a_response_that_is_cancelled_at_once_is_told_of_all_the_same() -> None:
    told: list[str] = []

    async def send(event: dict) -> None:
        told.append(event["type"])

    async def opening(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    async def create_and_cancel() -> None:
        streams: Any = SimpleNamespace(open=opening)
        none: Any = None
        session = RealtimeSession("alice", Settings.read(None, model="embedded"), streams, none, none, send)
        response = {"input": [item({"type": "input_text", "text": COUNT})]}
        for event in ({"type": "response.create", "response": response}, {"type": "response.cancel"}):
            await session.handle(EVENT.validate_python(event))
        await session.end()

    asyncio.run(create_and_cancel())
    assert told == ["response.created", "response.done"]


def test_a_session_keeps_so_many_items_and_letters_and_no_more() -> None:
    items = Items()
    for number in range(600):
        text = "x" * (10 if number < 300 else 20_000)
        part = {"type": "input_text", "text": text}
        items.add(Item.model_validate({"type": "message", "role": "user", "content": [part]}), str(number))
        assert items.last == str(number)
        assert len(items.question()) <= 1_100_000
    kept = [number for number in range(600) if items.get(str(number))]
    assert kept == list(range(600 - (1 << 20) // 20_000, 600))
    items.add(
        Item.model_validate({"type": "message", "role": "user", "content": [part | {"text": "x" * (1 << 21)}]}), "y"
    )
    assert [items.get(str(number)) for number in range(600)] == [None] * 600
    assert items.drop("y")
    assert items._letters == 0


def test_sockets_ask_for_a_key_and_their_own_stream(served: Running) -> None:
    for path in ("/v1/realtime", "/v1/video/chat/stream", "/v1/streams/any/frames"):
        with pytest.raises(InvalidStatus) as told, connect(f"ws://127.0.0.1:{served.port}{path}"):
            pass
        assert told.value.response.status_code == 401
        assert json.loads(told.value.response.body)["error"]["code"] == "invalid_api_key"
    offered = [Subprotocol(each) for each in ("realtime", f"openai-insecure-api-key.{KEYS['bob']}")]
    with connect(f"ws://127.0.0.1:{served.port}/v1/realtime", subprotocols=offered) as socket:
        assert socket.subprotocol == "realtime"
    with stream(served.as_("alice"), "hers") as name:
        headers = {"Authorization": f"Bearer {KEYS['bob']}"}
        for path in (f"/v1/realtime?stream={name}", f"/v1/streams/{name}/frames"):
            address = f"ws://127.0.0.1:{served.port}{path}"
            with pytest.raises(InvalidStatus) as told, connect(address, additional_headers=headers):
                pass
            assert told.value.response.status_code == 404


def test_the_socket_of_vllm_omni(served: Running) -> None:
    frames = clip()[:6]
    headers = {"Authorization": f"Bearer {KEYS['alice']}"}
    with connect(f"ws://127.0.0.1:{served.port}/v1/video/chat/stream", additional_headers=headers) as socket:

        def said(message: dict) -> dict:
            socket.send(json.dumps(message))
            return json.loads(socket.recv())

        assert said({"type": "video.query", "text": COUNT})["code"] == "session_not_open"
        socket.send(json.dumps({"type": "session.config", "model": "embedded", "num_frames": 4}))
        for number, frame in enumerate(frames):
            data = base64.b64encode(encoded(frame.image)).decode()
            ack = said({"type": "video.frame", "data": data, "frame_id": number, "pts_ms": frame.time * 1000})
            assert (ack["type"], ack["frame_id"], ack["accepted"]) == ("video.frame.ack", number, True)
        assert said({"type": "video.frame", "data": "bm8="})["accepted"] is False
        consumed = said({"type": "video.query", "text": COUNT})
        assert consumed["frame_ids"] == list(range(len(frames)))
        told = [json.loads(socket.recv())]
        while told[-1]["type"] != "response.text.done":
            told.append(json.loads(socket.recv()))
        assert told[0]["type"] == "response.start"
        assert told[-1]["text"] == alone(frames, COUNT)[0]
        assert said({"type": "video.done"})["type"] == "session.done"
        with pytest.raises(ConnectionClosedOK):
            socket.recv(timeout=30)
    wait_until(lambda: not any(each.passing for each in served.server.streams))


def test_no_clock_that_is_set_puts_frames_of_vllm_omnis_socket_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    wait, placed = SimpleNamespace(waiting=lambda: (0, 0)), list[float]()
    served: Any = SimpleNamespace(time=None, config=SimpleNamespace(fps=2.0), dropped=Counter(), lane=wait)
    served.admit = lambda *given: None

    def offer(served: Any, picture: object, at: float) -> bool:
        placed.append(at)
        served.time = max(at, served.time or 0.0)
        return True

    streams, asker, decoders = cast(Any, SimpleNamespace(offer=offer)), cast(Any, None), AsyncMock()
    session = OmniSession("alice", Settings(model="embedded"), streams, asker, decoders, AsyncMock())
    session._served = served
    for now, wall, captured in (
        (100.0, 5000.0, None),
        (101.0, 10.0, None),  # the server's clock was set back
        (102.0, 11.0, 7000.0),
        (103.0, 12.0, 8000.0),
        (104.0, 13.0, None),
        (105.0, 14.0, 10000.0),
        (106.0, 15.0, 1000.0),  # the client's was
        (107.0, 16.0, 2000.0),
        (107.5, 16.5, 1900.0),
    ):
        clock = SimpleNamespace(monotonic=lambda now=now: now, time=lambda wall=wall: wall)
        monkeypatch.setattr("infinipot.serve.omni.serving.time", clock)
        asyncio.run(session.handle(VideoFrame(type="video.frame", data="bm8=", capture_ts_ms=captured)))
    assert placed == [0, 1, 2, 3, 4, 5, 6, 7, 6.9], "only what is a little behind is out of order"


def test_both_sockets_tell_the_evidence_of_http_where_it_is_asked_for(served: Running, client: Any) -> None:
    frames, http, keys = clip()[:8], served.as_("alice"), {"Authorization": f"Bearer {KEYS['alice']}"}
    with stream(http, "seen") as name:
        push(http, name, frames)
        expected = http.post(f"/v1/streams/{name}/ask", json={"question": COUNT}).json()
        with client.realtime.connect(model="embedded", extra_query={"stream": name}) as connection:
            until(connection, "session.created")
            told = []
            for how in ({"evidence": True}, {}, {"evidence": True, "nonsense": 1}):
                question = item({"type": "input_text", "text": COUNT})
                response = {"conversation": "none", "input": [question], "infinipot": how}
                connection.send({"type": "response.create", "response": response})
                told.append(until(connection, "error" if "nonsense" in how else "response.done")[-1])
    answer, plain, wrong = told
    assert answer.response.infinipot["evidence"] == expected["evidence"] != []
    assert (answer.response.infinipot["stream"], answer.response.infinipot["time"]) == (name, expected["time"])
    assert plain.response.infinipot["evidence"] == []
    assert wrong.error.param.endswith("infinipot.nonsense")

    with connect(f"ws://127.0.0.1:{served.port}/v1/video/chat/stream", additional_headers=keys) as socket:
        socket.send(json.dumps({"type": "session.config", "infinipot": {"look_again": 1}}))
        for frame in frames:
            data = base64.b64encode(encoded(frame.image)).decode()
            socket.send(json.dumps({"type": "video.frame", "data": data, "pts_ms": frame.time * 1000}))
            assert json.loads(socket.recv())["accepted"]
        for how in ({"evidence": True}, {"look_again": 1}):
            socket.send(json.dumps({"type": "video.query", "text": COUNT, "infinipot": how}))
            while (done := json.loads(socket.recv()))["type"] != "response.text.done":
                assert done["type"] != "error", done
            assert done["infinipot"]["evidence"] == (expected["evidence"] if "evidence" in how else [])
            assert (done["infinipot"]["stream"], done["infinipot"]["time"]) == (None, expected["time"])


def test_a_file_is_played_by_the_names_of_vss(served: Running, client: Any) -> None:
    root, http = served.folder("media_root"), served.as_("alice")
    encode(root / "played.mp4", [frame.image for frame in clip()[:3]], rate=2)
    live = {"liveStreamUrl": (root / "played.mp4").as_uri(), "description": "at the gate"}
    reply = http.post("/v1/streams/add", json={"streams": [live]})
    (added,) = reply.json()["results"]
    name = added["id"]
    (told,) = http.get("/v1/streams/get-stream-info").json()
    assert (told["id"], told["description"]) == (name, "at the gate")
    assert served.as_("bob").get("/v1/streams/get-stream-info").json() == []
    wait_until(lambda: http.get(f"/v1/streams/{name}").json()["source"]["state"] == "ended")
    assert served.server.streams.find("alice", name).plays is None, "a stream whose source is over may grow idle"
    given = {"model": "embedded", "messages": [user(COUNT)], "extra_body": {"id": name}}
    assert client.chat.completions.create(**given).infinipot["time"] == 1.0
    assert http.delete(f"/v1/streams/delete/{name}").json()["status"] == "deleted"
    assert http.request("DELETE", "/v1/streams/delete-batch", json={"stream_ids": [name]}).json()["results"][0]["error"]


def test_what_vss_adds_is_told_of_each_stream_whatever_goes_wrong(
    served: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root, http, real = served.folder("media_root"), served.as_("alice"), served.server.streams.open
    encode(root / "added.mp4", [clip()[0].image], rate=2)

    async def open_one(*given: Any, **how: Any) -> Any:
        if len(served.server.streams.of("alice")) == 1:
            raise MemoryError
        return await real(*given, **how)

    monkeypatch.setattr(served.server.streams, "open", open_one)
    live = {"liveStreamUrl": (root / "added.mp4").as_uri(), "sensorId": "gate"}
    added, failed = http.post("/v1/streams/add", json={"streams": [live, live]}).json()["results"]
    assert (added["error"], failed["id"], "its log has more" in failed["error"]) == (None, None, True)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [MemoryError]
    http.delete(f"/v1/streams/{added['id']}")


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({"username": "a@b", "password": "p/w"}, "rtsp://a%40b:p%2Fw@camera/live"),
        ({"username": "a"}, "rtsp://a@camera/live"),
        ({"username": None, "password": "p"}, "rtsp://camera/live"),
        ({"username": "a", "liveStreamUrl": "rtsp://b:c@camera/live"}, "rtsp://b:c@camera/live"),
    ],
)
def test_a_cameras_name_and_password_become_part_of_its_address(given: dict, source: str) -> None:
    assert Live.model_validate({"liveStreamUrl": "rtsp://camera/live", **given}).source == source


def wait_until(holds: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
