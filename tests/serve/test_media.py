"""Media from clients: which addresses are fetched, and what decoding may cost. CVEs of the field are named."""

import asyncio
import base64
import io
import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from pydantic import ByteSize

from infinipot.serve.errors import ApiError
from infinipot.serve.media import addresses, child, remote
from infinipot.serve.media.addresses import AddressError, Rules, rules
from infinipot.serve.media.decoders import DecodeError, Decoders
from infinipot.serve.media.frames import receive
from infinipot.serve.media.picture import Picture
from infinipot.serve.media.sources import Sources
from infinipot.serve.settings import Limits, Settings
from infinipot.video import as_frame
from infinipot.video.heads import HEAD, goes_back
from support.serving import Running, alone, clip, encoded, running, stream
from support.video_files import encode, gray, indices

LOOPBACK = rules((), ["127.0.0.0/8"])


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/x",
        "http://localhost/x",
        "http://[::1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://[64:ff9b::7f00:1]/x",
        "http://[2002:7f00:1::]/x",
        "http://0.0.0.0/x",
        "http://10.1.2.3/x",
        "http://192.168.0.1/x",
        "http://172.16.5.5/x",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/x",
        "http://[fe80::1]/x",
        "http://[fc00::1]/x",
        "http://2130706433/x",
        "http://0x7f.1/x",
        "http://127.1/x",
        "http://224.0.0.1/x",
    ],
)
def test_cve_2025_6242_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(AddressError, match=r"not public|has no address"):
        Rules().resolve(addresses.parse(address))


def test_a_name_is_refused_whose_addresses_are_not_all_public(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(AddressError, match="not public"):
        Rules().resolve(addresses.parse("http://rebound.example/x"))
    assert len(rules((), ["10.0.0.0/8"]).resolve(addresses.parse("http://rebound.example/x"))) == 2


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org\\@127.0.0.1/",
        "http://example.org@127.0.0.1/",
        "http://127.0.0.1\\.example.org/",
        "http://user:word@example.org/",
        "http://example.org#@127.0.0.1\\/",
        "http://exa mple.org/",
        "http://example.org\t.evil/",
        "http://example.org\r\nHost: evil/",
        "http://exаmple.org/",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http:///etc/passwd",
        "http:example.org",
        "//example.org/x",
        "ftp://example.org/x",
        "gopher://example.org/x",
        "javascript:alert(1)",
        "http://" + "a" * 5000,
    ],
)
def test_cve_2026_24779_an_address_that_parsers_read_differently_is_not_taken(address: str) -> None:
    """What is left of a fragment is of the host that stands before it, or nothing is taken at all."""
    try:
        parsed = addresses.parse(address)
    except AddressError:
        return
    assert parsed.host == "example.org"


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://example.org/x", "example.org"),
        ("https://example.org:8443/x", "example.org:8443"),
        ("http://example.org:443/x", "example.org:443"),
        ("http://[::1]/x", "[::1]"),
    ],
)
def test_a_host_is_told_with_its_port_where_that_is_not_the_schemes_own(address: str, host: str) -> None:
    sent: list[bytes] = []
    connection = remote.PinnedConnection(addresses.parse(address), "127.0.0.1", 1.0)
    connection.sock = cast(Any, SimpleNamespace(sendall=sent.append, close=lambda: None))
    connection.request("GET", "/x")
    assert f"\r\nHost: {host}\r\n".encode() in b"".join(sent)


def test_only_named_hosts_are_fetched_from() -> None:
    named = Rules(("media.example.org", "*.cdn.example"))
    for host in ("media.example.org", "a.cdn.example", "a.b.cdn.example"):
        named.check_host(host)
    for host in ("example.org", "cdn.example", "evilcdn.example", "media.example.org.evil"):
        with pytest.raises(AddressError, match="allowed are"):
            named.check_host(host)


class Handler(BaseHTTPRequestHandler):
    """A server of one file: with ranges, without, without a length, or redirecting."""

    protocol_version = "HTTP/1.1"
    content = b""
    asked: list[tuple[str, str | None]]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Range")))
        match self.path.partition("?")[0]:
            case "/ranges":
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                size = len(self.content)
                self._send(206, self.content[start:], {"Content-Range": f"bytes {start}-{size - 1}/{size}"})
            case "/plain":
                self._send(200, self.content)
            case "/endless":
                self.send_response(200)
                self.end_headers()
                self.close_connection = True
                self.wfile.write(self.content)
            case "/to-private":
                self._send(302, b"", {"Location": "http://169.254.169.254/latest/meta-data"})
            case "/to-file":
                self._send(302, b"", {"Location": "file:///etc/passwd"})
            case "/round":
                self._send(302, b"", {"Location": "/round"})
            case "/hop":
                self._send(307, b"", {"Location": "/ranges"})
            case "/slow":
                time.sleep(20)
            case _:
                self._send(404, b"")

    def _send(self, status: int, content: bytes, headers: dict | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class Files(ThreadingHTTPServer):
    """Where they are."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(content: bytes) -> Iterator[Files]:
    server = Files(("127.0.0.1", 0), type("Of", (Handler,), {"content": content, "asked": []}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def test_a_remote_file_is_read_as_it_lies() -> None:
    content = np.random.default_rng(0).bytes(300_000)
    with serving(content) as server:
        for path, seekable in (("/ranges", True), ("/plain", True), ("/hop", True), ("/endless", False)):
            with remote.open_remote(server.url + path, LOOPBACK, 5, 10**6) as file:
                assert file.seekable() == seekable
                if seekable:
                    file.seek(-100, io.SEEK_END)
                    assert file.read() == content[-100:]
                    file.seek(1000)
                    assert file.read(50) == content[1000:1050]
                else:
                    assert b"".join(iter(partial(file.read, 9999), b"")) == content
        endless = remote.open_remote(server.url + "/endless", LOOPBACK, 5, 10**6)
        endless.close()
        for path, why in (("/to-private", "not public"), ("/to-file", "not accepted"), ("/round", "redirects more")):
            with pytest.raises(AddressError, match=why):
                remote.open_remote(server.url + path, LOOPBACK, 5, 10**6)
        with pytest.raises(AddressError, match="are allowed"):
            remote.open_remote(server.url + "/ranges", LOOPBACK, 5, 1000)
        with pytest.raises(AddressError, match="not public"):
            remote.open_remote(server.url + "/ranges", Rules(), 5, 10**6)


def test_a_video_is_fetched_decoded_and_watched(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", [gray(index) for index in range(10)], rate=2)
    with serving(path.read_bytes()) as files, running(media_networks=["127.0.0.0/8"]) as server:
        client = server.as_(None)
        with stream(client, "fetched", source=f"{files.url}/ranges?token=secret") as name:
            until = time.monotonic() + 20
            while (state := client.get(f"/v1/streams/{name}").json())["source"]["state"] != "ended":
                assert state["source"]["state"] != "failed", state
                assert time.monotonic() < until
                time.sleep(0.05)
            assert (state["frames"], state["time"]) == (10, 4.5)
            assert "secret" not in client.get(f"/v1/streams/{name}").text


async def frames_of(sources: Sources, address: str, **how: Any) -> list:
    async with sources.clip(address, **{"fps": None, "most": 100, **how}) as found:
        return [frame async for frame in found.frames()]


def test_what_is_read_as_it_comes_begins_now_wherever_its_stream_was(tmp_path: Path) -> None:
    path, job = encode(tmp_path / "clip.ts", [gray(index) for index in range(6)], rate=2), {"frames": None, "end": None}
    how = {"hosts": [], "networks": ["127.0.0.0/8"], "timeout": 5, "bytes": 10**6, "pixels": 10**6, "small": 4096}
    with serving(path.read_bytes()) as files:
        for where, live, begin in (("/ranges", False, 1.0), ("/endless", True, 0.0)):
            out, address = io.BytesIO(), {"from": "address", "address": files.url + where, "name": where}
            child._video({**job, **how, **address, "fps": 2.0, "start": 1.0, "most": 99}, b"", out)
            out.seek(0)
            opened, first, *_ = (header for header, _ in iter(partial(receive, out), None))
            assert (opened["live"], first["time"]) == (live, begin)


def test_a_picture_is_fetched_and_watched() -> None:
    frame, private = clip()[0], [{"type": "text", "text": "What colour was the circle?"}]
    with serving(encoded(frame.image)) as files, running(media_networks=["127.0.0.0/8"]) as server:
        for path in ("/ranges", "/plain", "/endless"):
            content = [{"type": "image_url", "image_url": {"url": files.url + path}}, *private]
            body = {"messages": [{"role": "user", "content": content}]}
            reply = server.as_(None).post("/v1/chat/completions", json=body).json()
            assert reply["choices"][0]["message"]["content"] == alone((frame,), private[0]["text"])[0]
        content = [{"type": "image_url", "image_url": {"url": files.url + "/to-private"}}, *private]
        body = {"messages": [{"role": "user", "content": content}]}
        reply = server.as_(None).post("/v1/chat/completions", json=body)
        assert (reply.status_code, "not public" in reply.text) == (422, True)


def test_of_a_long_video_as_many_frames_are_watched_as_are_allowed(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.mp4", [gray(index % 30) for index in range(60)], rate=2)
    with running(media_root=tmp_path, limits={"frames_per_request": 10}) as server:
        content = [{"type": "video_url", "video_url": {"url": path.as_uri()}}, {"type": "text", "text": "What?"}]
        body = {"messages": [{"role": "user", "content": content}]}
        assert server.as_(None).post("/v1/chat/completions", json=body).json()["infinipot"]["time"] == 29.5
        reply = server.as_(None).post("/v1/chat/completions", json={**body, "media_io_kwargs": {"video": {"fps": 2}}})
        assert (reply.status_code, "more than 10 frames" in reply.text) == (422, True)


def opened(**given: object) -> tuple[Sources, Decoders]:
    settings = Settings.read(None, model="embedded", **given)
    decoders = Decoders(settings.limits)
    return Sources(settings, decoders), decoders


def test_files_are_played_below_the_media_root_alone(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    pictures = [gray(index) for index in range(4)]
    encode(root / "in side.mp4", pictures, rate=2)
    encode(outside / "out.mp4", pictures, rate=2)
    (root / "link.mp4").symlink_to(root / "in side.mp4")
    (root / "away.mp4").symlink_to(outside / "out.mp4")
    (root / "folder").symlink_to(outside)
    os.mkfifo(root / "pipe.mp4")
    sources, _ = opened(media_root=root)
    for name in ("in side.mp4", "link.mp4"):
        assert indices(asyncio.run(frames_of(sources, (root / name).as_uri()))) == [0, 1, 2, 3]
    refused = [
        root / "away.mp4",
        root / "folder" / "out.mp4",
        outside / "out.mp4",
        root / ".." / "outside" / "out.mp4",
        root,
        root / "pipe.mp4",
        root / "none.mp4",
        Path("/etc/passwd"),
        Path("/dev/zero"),
        Path("/proc/self/environ"),
    ]
    messages = set()
    for path in refused:
        for address in (f"file://{path}", f"file://{str(path).replace('.', '%2e')}", f"file://localhost{path}"):
            with pytest.raises(Exception, match="media root") as told:
                sources.check(address)
            messages.add(str(told.value))
    assert len(messages) == 1  # whether a file is there is not told


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
        "ffconcat version 1.0\nfile 'file:{}'\n",
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 9 RTP/AVP 96\r\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>{}</BaseURL></MPD>",
        "YUV4MPEG2 W16 H16 F1:1 C420jpeg\n"
        + 4 * ("FRAME\n" + 384 * "x"),  # harmless, but not among those that are opened
        "some text",
        "\0" * 100_000,
        "",
    ],
    ids=["hls-file", "hls", "concat", "concat-file", "sdp", "dash", "y4m", "text", "zeros", "empty"],
)
def test_nothing_that_names_other_addresses_is_opened(tmp_path: Path, content: str) -> None:
    """What the lists name is a video that could be decoded, were they followed."""
    named = encode(tmp_path / "named.ts", [gray(index) for index in range(4)], rate=2, codec="mpeg2video")
    (tmp_path / "it").write_text(content.replace("{}", str(named)))
    sources, _ = opened(media_root=tmp_path)
    assert len(asyncio.run(frames_of(sources, named.as_uri()))) == 4
    with pytest.raises(DecodeError):
        asyncio.run(frames_of(sources, (tmp_path / "it").as_uri()))


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG that says it is this large, with these bytes in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def gif(frames: int) -> bytes:
    written = io.BytesIO()
    pictures = [Image.fromarray(gray(index % 30)) for index in range(frames)]
    pictures[0].save(written, "GIF", save_all=True, append_images=pictures[1:], loop=0, duration=100)
    return written.getvalue()


async def decoded(limits: Limits, *pictures: bytes) -> list[Any]:
    """What becomes of each picture; then of a sound one."""
    decoders = Decoders(limits)
    results: list[Any] = []
    try:
        for each in (*pictures, encoded(clip()[0].image)):
            try:
                results.append(await decoders.picture(each))
            except Exception as error:
                results.append(str(error))
    finally:
        await decoders.close()
    return results


def test_cve_2026_22778_a_picture_that_harms_the_decoder_costs_one_error() -> None:
    """A bomb, a lie about the size, what is cut short, what is no picture, and a process that is killed meanwhile."""
    good = encoded(clip()[0].image)
    harmful = [
        png(20_000, 20_000, b"\0" * 60_000_000),
        png(60_000, 200, b""),
        png(3_999, 4_000, b"\0" * 100),
        good[: len(good) // 2],
        good[:40] + b"\xff" * 200,
        encoded(clip()[0].image, "JPEG")[:300],
        gif(3),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a" + b"\xff" * 1000,
        b"\x00\x00\x01\x00" + b"\xff" * 1000,
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n",
        b"",
    ]
    *refused, last = asyncio.run(decoded(Limits(decoders=1), *harmful))
    assert all(isinstance(each, str) for each in refused), refused
    assert "20000 x 20000" in refused[0]
    assert np.array_equal(last.image, clip()[0].image)


def test_a_decoder_that_is_killed_or_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> list[Any]:
        decoders = Decoders(Limits(decoders=1, decode_seconds=2))
        results: list[object] = []
        good = encoded(clip()[0].image)
        await decoders.picture(good)
        for harm in (19, 9):  # SIGSTOP: it hangs; SIGKILL: it crashed
            (decoder,) = decoders._pictures
            os.kill(decoder._process.pid, harm)
            try:
                await decoders.picture(good)
            except DecodeError as error:
                results.append(error.code)
            results.append(await decoders.picture(good))
        await decoders.close()
        return results

    hung, after, crashed, last = asyncio.run(go())
    assert (hung, crashed) == ("decoder_timeout", "decoder_crashed")
    assert np.array_equal(after.image, last.image)


def test_memory_for_decoding_is_limited() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    told, last = asyncio.run(decoded(Limits(decode_bytes=ByteSize(8_000_000)), encoded(noise, "JPEG")))
    assert "memory" in told or "crashed" in told
    assert isinstance(last, Picture)


def test_an_endless_gif_and_a_long_video_end_at_the_limit_of_frames(tmp_path: Path) -> None:
    (tmp_path / "endless.gif").write_bytes(gif(50))
    encode(tmp_path / "long.mp4", [gray(index % 30) for index in range(50)], rate=10)
    cut = (tmp_path / "long.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(cut[: len(cut) // 2])
    sources, _ = opened(media_root=tmp_path)
    for name in ("endless.gif", "long.mp4"):
        with pytest.raises(DecodeError, match="more than 20 frames"):
            asyncio.run(frames_of(sources, (tmp_path / name).as_uri(), most=20))
    with pytest.raises(DecodeError):
        asyncio.run(frames_of(sources, (tmp_path / "cut.mp4").as_uri()))


def webp(frames: int, width: int = 64, height: int = 48) -> bytes:
    """An animation whose pictures come five a second and carry their index."""
    written = io.BytesIO()
    pictures = [Image.fromarray(gray(index % 30)).resize((width, height)) for index in range(frames)]
    pictures[0].save(written, "WEBP", save_all=True, append_images=pictures[1:], duration=200, lossless=True)
    return written.getvalue()


def test_an_animated_webp_is_a_video(tmp_path: Path) -> None:
    content = webp(10)
    (tmp_path / "a.webp").write_bytes(content)
    held = "data:image/webp;base64," + base64.b64encode(content).decode()
    sources, _ = opened(media_root=tmp_path, media_networks=["127.0.0.0/8"])
    found = asyncio.run(frames_of(sources, held))
    assert indices(found) == list(range(10))
    assert [frame.time for frame in found] == pytest.approx([0.2 * number for number in range(10)])
    assert indices(asyncio.run(frames_of(sources, (tmp_path / "a.webp").as_uri(), fps=2.0))) == [0, 2, 5, 7]
    with serving(content) as files:
        assert indices(asyncio.run(frames_of(sources, f"{files.url}/ranges", frames=3))) == [0, 5, 9]


def apng(frames: int) -> bytes:
    written = io.BytesIO()
    pictures = [Image.fromarray(gray(index)) for index in range(frames)]
    pictures[0].save(written, "PNG", save_all=True, append_images=pictures[1:], duration=200)
    return written.getvalue()


def noisy_mp4(folder: Path, **options: Any) -> bytes:
    """Larger than what FFmpeg holds of what comes to it."""
    drawn = np.random.default_rng(0)
    pictures = [gray(16) // 2 + drawn.integers(0, 128, gray(0).shape, np.uint8) for _ in range(60)]
    return encode(folder / "noisy.mp4", pictures, rate=10, **options).read_bytes()


def test_what_is_read_back_and_forth_is_a_video_from_a_server_that_says_no_length(tmp_path: Path) -> None:
    sources, _ = opened(media_networks=["127.0.0.0/8"])
    for content, frames, many in (
        (webp(10), 3, 3),
        (apng(10), None, 10),
        (gif(10), 3, 3),
        (noisy_mp4(tmp_path), None, 60),
    ):
        with serving(content) as files:
            found = asyncio.run(frames_of(sources, f"{files.url}/endless", frames=frames))
            assert len(found) == many
            assert many != 3 or indices(found) == [0, 5, 9]
            assert len(files.RequestHandlerClass.asked) == 1  # type: ignore[attr-defined]


def test_which_files_are_read_back_and_forth(tmp_path: Path) -> None:
    whole = {"webp": webp(2), "apng": apng(2), "mp4": noisy_mp4(tmp_path)}
    once = {
        "fast": noisy_mp4(tmp_path, options={"movflags": "faststart"}),
        "parts": noisy_mp4(tmp_path, options={"movflags": "frag_keyframe+empty_moov"}),
        "gif": gif(2),
        "png": encoded(gray(1)),
        "odd": b"\0\0\0\0ftyp" * 100,
        "long": struct.pack(">I4sQ", 1, b"free", 1 << 40) + bytes(100),
        "none": b"",
    }
    assert [name for name, content in (whole | once).items() if goes_back(content[:HEAD])] == list(whole)


def test_what_has_no_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(b"x" * 300_000) as files:
        with pytest.raises(AddressError, match="more than the 2,000 bytes"):
            remote.open_remote(f"{files.url}/endless", LOOPBACK, 5, 2000, lambda _: True)
        with monkeypatch.context() as patch, pytest.raises(AddressError, match="was not complete within"):
            patch.setattr(remote, "_SHARE", 0)
            remote.open_remote(f"{files.url}/endless", LOOPBACK, 5, 10**6, lambda _: True)
        with remote.open_remote(f"{files.url}/endless", LOOPBACK, 5, 2000, lambda head: len(head) != HEAD) as file:
            assert sum(map(len, iter(partial(file.read, 9999), b""))) == 300_000  # as it comes, and all of it


def test_a_picture_that_comes_in_parts_is_whole(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)

    async def fetched(address: str) -> list:
        sources, _ = opened(media_networks=["127.0.0.0/8"])
        async with sources.still(address) as found:
            return [frame async for frame in found.frames()]

    with serving(encoded(noise)) as files:
        (frame,) = asyncio.run(fetched(f"{files.url}/endless"))
        assert np.array_equal(frame.image, noise)


def test_a_gray_picture_of_16_bits_is_the_librarys() -> None:
    """As cameras for heat and depth send it: what is cut off at 255 is white all over."""
    levels = (np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16)
    written = io.BytesIO()
    Image.fromarray(levels).save(written, "PNG")
    found, _ = asyncio.run(decoded(Limits(decoders=1), written.getvalue()))
    assert np.array_equal(found.image, as_frame(Image.open(written), 0).image)
    assert found.image.std() > 60


def test_videos_that_are_decoded_at_once_are_limited(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", [gray(index) for index in range(4)], rate=2)

    async def go() -> list:
        sources, _ = opened(media_root=tmp_path, limits={"videos": 1})
        async with sources.clip(path.as_uri(), fps=None, most=10):
            with pytest.raises(ApiError, match="1 videos are being decoded") as told:
                await frames_of(sources, path.as_uri())
            assert told.value.status == 429
        with pytest.raises(DecodeError):  # one that fails gives its place back
            await frames_of(sources, "data:video/mp4;base64,AAAA")
        return await frames_of(sources, path.as_uri())

    assert len(asyncio.run(go())) == 4


def test_an_animated_webp_stays_within_the_limits(tmp_path: Path) -> None:
    large, long = webp(2, 5000, 4000), webp(60)
    none = b"RIFF....WEBPVP8X" + bytes([10, 0, 0, 0, 2]) + 50 * b"\0"
    for name, content in {"large": large, "long": long, "none": none, "cut": long[: len(long) // 2]}.items():
        (tmp_path / f"{name}.webp").write_bytes(content)
    sources, _ = opened(media_root=tmp_path)
    told = {"large": "5000 x 4000", "long": "more than 20 frames", "none": r"none\.webp", "cut": r"cut\.webp"}
    for name, why in told.items():
        with pytest.raises(DecodeError, match=why):
            asyncio.run(frames_of(sources, (tmp_path / f"{name}.webp").as_uri(), most=20))
    small, _ = opened(media_root=tmp_path, limits={"decode_bytes": 250_000_000, "frame_pixels": 100_000_000})
    with pytest.raises(DecodeError, match=r"memory|crashed|decoder object"):
        asyncio.run(frames_of(small, (tmp_path / "large.webp").as_uri()))


def test_cve_2026_5497_a_flood_of_frames_is_refused_before_it_is_decoded(served: Running) -> None:
    client = served.as_("alice")
    listed = ",".join(["QUJD"] * 100_000)
    message: dict[str, Any] = {
        "role": "user",
        "content": [{"type": "video_url", "video_url": {"url": ""}}, {"type": "text", "text": "?"}],
    }
    message["content"][0]["video_url"]["url"] = f"data:video/jpeg;base64,{listed}"
    start = time.monotonic()
    reply = client.post("/v1/chat/completions", json={"messages": [message]})
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_many_frames")
    assert time.monotonic() - start < 20
    assert all(not each.passing for each in served.server.streams)
