"""What names a video: paths, addresses, pipes. What cannot be opened is one line, without secrets."""

import base64
import contextlib
import os
import socket
import threading
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinipot.audio import open_audio
from infinipot.errors import AudioError, InfinipotError, VideoError
from infinipot.video import open_video
from infinipot.video.address import public_name
from support.video_files import encode, gray, indices, with_sound

TEN = [gray(index) for index in range(10)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Pictures and sound, whose index is at the end: read front to back alone it could not be opened."""
    return with_sound(tmp_path_factory.mktemp("clip") / "clip.mp4", TEN, "mpeg4", "aac", 1)


@pytest.mark.parametrize("name", ["my clip.mkv", "100%.mkv", "naïve ☃.mkv", "a?b#c.mkv", "a:b.mkv", "concat:a|b.mkv"])
def test_paths_and_file_addresses_name_the_same_file(tmp_path, monkeypatch, name):
    path = encode(tmp_path / name, TEN)
    monkeypatch.chdir(tmp_path)
    for given_name in (str(path), Path(name), name, path.as_uri(), f"file://localhost{quote(str(path))}"):
        assert indices(open_video(given_name, fps=None)) == list(range(10))


def test_a_path_that_is_no_text_can_be_read_and_shown(tmp_path):
    try:
        path = encode(tmp_path / "a.mkv", TEN).rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mkv"))
    except OSError:
        pytest.skip("a file system with names in UTF-8 alone")
    video = open_video(path, fps=None)
    assert indices(video) == list(range(10))
    assert video.name.encode("utf-8").endswith(b"caf\\udce9.mkv")


def test_data_addresses_hold_the_file_themselves(clip):
    for data in (base64.b64encode(clip.read_bytes()).decode(), quote(clip.read_bytes())):
        coding = ";base64" if "%" not in data else ""
        address = f"data:video/mp4{coding},{data}"
        video = open_video(address, fps=None)
        assert video.name == f"data:video/mp4{coding},…"
        assert data[:40] not in repr(video)
        assert indices(video) == list(range(10))
        assert indices(open_video(address, fps=None, start=0.5)) == list(range(5, 10))
        assert len(list(open_video(address, fps=None, frames=4))) == 4
        assert sum(len(piece.samples) for piece in open_audio(address)) > 15_000


LONG = "x" * 5000


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("data:", "empty|RFC 2397"),
        ("data:video/mp4;base64,", "is empty"),
        ("data:video/mp4;base64,bm90aGluZw==", "cannot be opened|RFC 2397|holds no"),
        ("data:text/plain," + LONG, "cannot be opened|holds no"),
        ("file:///no/such%20file.mp4", "no such file"),
        ("file://clips/a.mp4", "three slashes, file:///clips/a.mp4"),
        ("file:no.mp4", "no such file"),
        (LONG, "too long"),
        (f"http://127.0.0.1:1/{LONG}", "cannot be opened"),
        ("http://[::1", "cannot be opened"),
        ("nonsense://a/b", "cannot be opened"),
        ("a\0b.mp4", "no such file|cannot be opened"),
        ("two\nlines.mp4", r"two\\nlines\.mp4: no such file"),
        ("caf\udce9.mp4", "no such file"),
        ("", "the name of the file is empty; give an? "),
        ("-", "no such file; a pipe's name is /dev/stdin"),
        ("/dev/null", "cannot be opened|holds no"),
        ("/proc/self/mem", "cannot be opened|is empty"),
    ],
)
def test_what_cannot_be_opened_is_one_short_line(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    for opened, error in ((open_video, VideoError), (open_audio, AudioError)):
        with pytest.raises(error, match=says) as caught:
            opened(name)
        text = str(caught.value)
        assert "\n" not in text
        assert len(text) < 500
        text.encode()


def test_a_file_that_may_not_be_read_says_so(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    path = encode(folder / "a.mkv", TEN)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("whoever runs this may read everything")
    with pytest.raises(VideoError, match="Permission denied"):
        open_video(path)
    folder.chmod(0)
    with pytest.raises(VideoError, match="Permission denied"):
        open_video(path)
    folder.chmod(0o700)


# --- pipes


def through_a_pipe(path, **options):
    """Opens what comes through a pipe, by the link to it that /dev/stdin is one of."""
    readable, writable = os.pipe()

    def write():
        with contextlib.suppress(BrokenPipeError), open(writable, "wb") as pipe:
            pipe.write(path.read_bytes())

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with open_video(f"/dev/fd/{readable}", fps=None, **options) as video:
            assert not video.incomplete
            return indices(video)
    finally:
        os.close(readable)
        thread.join()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="a system without /dev/fd")
@pytest.mark.parametrize("ending", ["mkv", "ts", "avi"])
def test_a_video_in_a_pipe_is_read_front_to_back(tmp_path, ending):
    path = encode(tmp_path / f"a.{ending}", TEN)
    assert through_a_pipe(path) == list(range(10))
    assert through_a_pipe(path, start=0.55) == list(range(6, 10))
    assert through_a_pipe(path, end=0.35) == list(range(4))


def test_a_video_that_cannot_be_read_from_a_pipe_says_so(tmp_path):
    """The index of this one stands at its end, and is larger than what FFmpeg can go back."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 240, 320, 3), dtype=np.uint8)
    path = encode(tmp_path / "a.mp4", list(noise))
    with pytest.raises(VideoError, match=r"/dev/fd/\d+.*: give a file"):
        through_a_pipe(path)


def test_a_named_pipe_is_read_once(tmp_path):
    path = encode(tmp_path / "a.mkv", TEN)
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(path.read_bytes()))
    thread.start()
    assert indices(open_video(tmp_path / "pipe", fps=None, start=0.35)) == list(range(4, 10))
    thread.join()


# --- addresses


@given(
    st.sampled_from(["rtsp", "http", "https", "RTMP"]),
    st.text("abc:@/?#%é ", max_size=12),
    st.sampled_from(["", "?token=hidden", "#hidden", "?a=b@hidden&c=/hidden"]),
)
def test_names_never_show_credentials(scheme, rest, query):
    """Whatever a password holds: with a slash in it, it is not known where it ends, and nothing is shown."""
    name = public_name(f"{scheme}://user:hidden{rest}hidden@host.example/clip{query}")
    assert "hidden" not in name
    assert name.startswith(f"{scheme}://")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://example.org/a/b.mp4?key=1#t", "https://example.org/a/b.mp4"),
        ("https://example.org:8443/b.mp4", "https://example.org:8443/b.mp4"),
        ("https://example.org/@channel/b.mp4", "https://example.org/@channel/b.mp4"),
        ("rtsp://me:secret@10.0.0.1:554/live", "rtsp://10.0.0.1:554/live"),
        ("rtsp://me:p@ss@10.0.0.1/live", "rtsp://10.0.0.1/live"),
        ("http://[::1]:80/b.mp4", "http://[::1]:80/b.mp4"),
        ("cache:http://me:secret@example.org/b.mp4", "http://example.org/b.mp4"),
        ("clips/a@b.mp4", "clips/a@b.mp4"),
        ("file:///clips/my%20clip.mp4", "file:///clips/my%20clip.mp4"),
    ],
)
def test_names_show_what_is_no_secret(address, name):
    assert public_name(address) == name


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr("infinipot.video.container.NETWORK_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for scheme in ("http", "rtsp", "tcp"):
            with pytest.raises(InfinipotError, match=r"no answer within 0\.3 s") as caught:
                open_video(f"{scheme}://me:secret@127.0.0.1:{port}/live")
            assert "secret" not in str(caught.value)
