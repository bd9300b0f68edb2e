"""Files that clients hand over, and NVIDIA VSS's captions and summaries of them."""

import http.client
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from infinipot import Frame, open_video
from infinipot.serve.errors import ApiError
from infinipot.serve.files.uploads import Uploads
from infinipot.serve.media.decoders import DecodedVideo
from infinipot.serve.media.picture import Picture
from infinipot.serve.settings import Limits
from support.patience import until
from support.serving import KEYS, MEMORY, Running, alone, clip, encoded, push, running, stream
from support.video_files import encode

COUNT = "How many shapes have appeared so far?"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Ten seconds at 2 pictures a second."""
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    encode(path, [frame.image for frame in clip()[:20]], rate=2)
    return path.read_bytes()


def upload(client: httpx.Client, content: bytes, name: str = "clip.mp4", **fields: str) -> httpx.Response:
    return client.post("/v1/files", files={"file": (name, content)}, data={"purpose": "vision", **fields})


@pytest.fixture
def file(served: Running, video: bytes) -> Iterator[str]:
    reply = upload(served.as_("alice"), video, media_type="video")
    assert reply.status_code == 200, reply.text
    name = reply.json()["id"]
    yield name
    served.as_("alice").delete(f"/v1/files/{name}")


def decoded(video: bytes, folder: Path) -> tuple[Frame, ...]:
    (folder / "clip.mp4").write_bytes(video)
    with open_video(folder / "clip.mp4", fps=2) as opened:
        return tuple(opened)


def test_a_file_is_kept_told_and_deleted_and_nobody_elses(served: Running, video: bytes) -> None:
    client, other = served.as_("alice"), served.as_("bob")
    told = upload(client, video, name="../../etc/door.mp4").json()
    name = told["id"]
    assert told == client.get(f"/v1/files/{name}").json()
    assert (told["bytes"], told["filename"], told["media_type"]) == (len(video), "door.mp4", "video")
    assert [each["id"] for each in client.get("/v1/files").json()["data"]] == [name]
    assert client.get("/v1/files", params={"purpose": "other"}).json()["data"] == []
    assert other.get("/v1/files").json()["data"] == []
    captions = {"id": name, "prompt": COUNT}
    for status in (
        other.get(f"/v1/files/{name}").status_code,
        other.delete(f"/v1/files/{name}").status_code,
        other.post("/v1/generate_captions", json=captions).status_code,
        other.post("/v1/summarize", json=captions).status_code,
        other.post(
            "/v1/chat/completions", json={"id": name, "messages": [{"role": "user", "content": COUNT}]}
        ).status_code,
    ):
        assert status == 404
    assert client.delete(f"/v1/files/{name}").json() == {"id": name, "object": "file", "deleted": True}
    assert client.get(f"/v1/files/{name}").status_code == 404


def test_files_are_listed_by_the_pages_of_openais_client(served: Running) -> None:
    files = openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEYS["alice"], max_retries=0).files
    picture = encoded(clip()[0].image)
    image: Any = {"media_type": "image"}
    created = [files.create(file=picture, purpose="vision", extra_body=image).id for _ in range(3)]
    for limit in (1, 2, 3, 10_000):
        assert [each.id for each in islice(files.list(limit=limit, purpose="vision"), 9)] == created
    assert [each.id for each in files.list(order="desc", after=created[1])] == [created[0]]
    assert files.retrieve(created[0]).filename == "upload"
    with pytest.raises(openai.NotFoundError):
        files.list(after="gone")
    with pytest.raises(openai.BadRequestError):
        files.list(limit=0)
    for each in files.list():
        assert files.delete(each.id).deleted
    assert list(files.list()) == []


@pytest.mark.parametrize(
    ("content", "fields", "status", "code"),
    [
        (b"no video at all" * 100, {}, 422, "media_not_decoded"),
        (b"", {}, 400, "no_file"),
        (b"x", {"media_type": "audio"}, 400, None),
        (b"x", {"media_type": "image"}, 422, "media_not_decoded"),
    ],
)
def test_what_is_no_video_is_refused(content: bytes, fields: dict, status: int, code: str, served: Running) -> None:
    reply = upload(served.as_("alice"), content, **fields)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert served.as_("alice").get("/v1/files").json()["data"] == []


def test_a_body_that_is_no_form_is_refused(served: Running) -> None:
    for how in ({"content": b"bytes"}, {"json": {"file": "x"}}, {"data": {"file": "text"}}):
        assert served.as_("alice").post("/v1/files", **how).json()["error"]["code"] == "no_file"


def test_files_are_bounded_in_number_and_bytes_and_leave_nothing_open(video: bytes) -> None:
    limits = {"upload_bytes": len(video), "uploads": 2, "uploads_bytes": 3 * len(video)}
    with running(limits=limits) as server:
        client, before = server.as_(None), len(os.listdir("/proc/self/fd"))
        first, second = upload(client, video), upload(client, video)
        assert (upload(client, video).status_code, upload(client, b"x" * 100_000 + video).status_code) == (429, 413)
        client.delete(f"/v1/files/{first.json()['id']}")
        with server.server.uploads.room(2 * len(video)):  # another one is on its way
            assert upload(client, video).json()["error"]["code"] == "files_exhausted"
        assert upload(client, video).status_code == 200
        for each in client.get("/v1/files").json()["data"]:
            client.delete(f"/v1/files/{each['id']}")
        assert len(os.listdir("/proc/self/fd")) <= before + 4  # connections, and decoders that stay
    assert second.status_code == 200


def test_a_file_has_its_room_before_any_of_it_is_read(video: bytes) -> None:
    with running(limits={"uploads": 1}) as server:
        client = server.as_(None)
        coming = http.client.HTTPConnection("127.0.0.1", server.port)
        coming.putrequest("POST", "/v1/files")
        for name, value in (("Content-Type", "multipart/form-data; boundary=x"), ("Content-Length", "1000")):
            coming.putheader(name, value)
        coming.endheaders()
        assert until(lambda: server.server.uploads._coming == [1000])
        assert upload(client, video).json()["error"]["code"] == "too_many_files"
        coming.close()
        assert until(lambda: not server.server.uploads._coming)
        assert upload(client, video).status_code == 200
        parts = iter([b"--x\r\n"])
        assert client.post("/v1/files", content=parts).json()["error"]["code"] == "length_required"


def test_a_summary_and_a_question_are_of_all_of_the_file(
    served: Running, file: str, video: bytes, tmp_path: Path
) -> None:
    client, frames = served.as_("alice"), decoded(video, tmp_path)
    expected = alone(frames, COUNT)
    told = client.post("/v1/summarize", json={"id": [file], "prompt": COUNT, "model": "embedded"}).json()
    assert [each["message"]["content"] for each in told["choices"]] == expected
    assert told["media_info"] == {"type": "offset", "start_offset": 0, "end_offset": frames[-1].time}
    body = {"id": file, "messages": [{"role": "user", "content": COUNT}]}
    assert client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"] == expected[0]
    with client.stream("POST", "/v1/summarize", json={"id": file, "prompt": COUNT, "stream": True}) as reply:
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert json.loads(lines[0])["choices"] == told["choices"]
    assert lines[1:] == ["[DONE]"]
    assert not [each for each in served.server.streams if each.passing]


@pytest.mark.parametrize(
    ("how", "stretches"),
    [
        ({"chunk_duration": 4}, [(0, 4), (4, 8), (8, 9.5)]),
        ({"chunk_duration": 4, "chunk_overlap_duration": 1}, [(0, 4), (3, 7), (6, 9.5)]),
        ({"chunk_duration": 0}, [(0, 9.5)]),
        (
            {"chunk_duration": 3, "media_info": {"type": "offset", "start_offset": 2, "end_offset": 7}},
            [(2, 5), (5, 6.5)],
        ),
    ],
)
def test_a_caption_is_of_its_stretch_alone(
    how: dict, stretches: list, served: Running, file: str, video: bytes, tmp_path: Path
) -> None:
    frames, client = decoded(video, tmp_path), served.as_("alice")
    body = {"id": file, "prompt": COUNT, "infinipot": {"memory": MEMORY}, **how}
    told = client.post("/v1/generate_captions", json=body).json()
    made = told["chunk_responses"]
    assert [(each["start_time"], each["end_time"]) for each in made] == stretches
    assert told["usage"] == {"total_chunks_processed": len(stretches)}
    lasts = how["chunk_duration"] or 100
    limit = how.get("media_info", {}).get("end_offset", 100)
    for caption, (begin, _) in zip(made, stretches, strict=True):
        seen = tuple(frame for frame in frames if begin <= frame.time < min(begin + lasts, limit))
        assert caption["content"] == alone(seen, COUNT)[0]
    with client.stream("POST", "/v1/generate_captions", json={**body, "stream": True}) as reply:
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: ")]
    assert [*map(json.loads, lines[:-1])] == made
    assert lines[-1] == "[DONE]"


def test_what_chunks_share_is_bounded_and_given_back(video: bytes) -> None:
    size = clip()[0].image.nbytes
    with running(limits={"waiting_bytes": 3 * size}) as server:
        client, room = server.as_(None), server.server.captions._overlaps
        body = {"id": upload(client, video).json()["id"], "prompt": COUNT, "chunk_duration": 4}
        reply = client.post("/v1/generate_captions", json={**body, "chunk_overlap_duration": 2})
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "overlap_too_large")
        assert room.lend(3 * size)
        room.take_back(3 * size)
        reply = client.post("/v1/generate_captions", json={**body, "chunk_overlap_duration": 1.5})
        assert reply.status_code == 200
        assert room.lend(3 * size)


def test_a_video_with_a_long_gap_is_captioned_where_it_shows_something(served: Running, monkeypatch) -> None:
    """A stream for each stretch without a picture would be one for each tenth of a second of days."""
    image = clip()[0].image

    async def frames(self: object) -> object:
        for at in (0.0, 0.5, 1e6):
            yield Picture(image, at, b"")

    written = encoded(image)
    name = upload(served.as_("alice"), written, media_type="image").json()["id"]
    monkeypatch.setattr(DecodedVideo, "frames", frames)
    body = {"id": name, "prompt": COUNT, "chunk_duration": 0.1}
    made = served.as_("alice").post("/v1/generate_captions", json=body).json()["chunk_responses"]
    assert [round(each["start_time"], 1) for each in made] == [0.0, 0.5, 1e6]
    served.as_("alice").delete(f"/v1/files/{name}")


def test_a_streams_captions_come_as_it_goes_on_until_they_are_stopped(served: Running) -> None:
    client, frames, told = served.as_("alice"), clip(), []
    with stream(client, "goes-on") as name:
        body = {"id": name, "prompt": COUNT, "chunk_duration": 5}
        assert client.post("/v1/generate_captions", json=body).json()["error"]["code"] == "endless_stream"
        begun = threading.Event()

        def read() -> None:
            with client.stream("POST", "/v1/generate_captions", json={**body, "stream": True}) as reply:
                for line in reply.iter_lines():
                    begun.set()
                    if line.startswith("data: "):
                        told.append(line.removeprefix("data: "))

        reader = threading.Thread(target=read)
        reader.start()
        assert begun.wait(20)
        push(client, name, frames[:11])
        until = time.monotonic() + 20
        while not told and time.monotonic() < until:
            time.sleep(0.01)
        push(client, name, frames[11:14])
        assert client.delete(f"/v1/generate_captions/{name}").status_code == 200
        reader.join(20)
        assert not reader.is_alive()
        assert client.get(f"/v1/streams/{name}").json()["turns"] == 0
    first, *_, last = told
    caption = json.loads(first)
    assert (caption["start_time"], last) == (0.0, "[DONE]")
    assert caption["content"] == alone(tuple(f for f in frames if f.time <= caption["end_time"]), COUNT)[0]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"prompt": COUNT, "id": "none"}, 404, "there is no stream none"),
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": COUNT, "model": "other"}, 404, "this server has"),
        ({"prompt": COUNT, "chunk_duration": 3, "chunk_overlap_duration": 3}, 400, "less than the chunk_duration of 3"),
        ({"prompt": COUNT, "chunk_duration": -1}, 400, "chunk_duration"),
        ({"prompt": COUNT, "infinipot": {"memory": 3}}, 400, "memory"),
    ],
)
def test_captions_that_cannot_be_made_say_why(body: dict, status: int, says: str, served: Running, file: str) -> None:
    reply = served.as_("alice").post("/v1/generate_captions", json={"id": file, **body})
    assert reply.status_code == status
    assert re.search(says, reply.json()["error"]["message"])


@pytest.mark.parametrize("limits", [{"uploads": 1}, {"uploads_bytes": 10}])
def test_files_on_their_way_count_among_those_that_are_kept(limits: dict[str, int]) -> None:
    uploads = Uploads(Limits.model_validate(limits))
    with uploads.room(6), pytest.raises(ApiError) as told, uploads.room(6):
        pass
    assert told.value.status == 429
    with uploads.room(6):
        pass
