"""Settings of a server: where they come from, which one goes first, and what is said of those that cannot be."""

import asyncio
import re
import socket
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from infinipot.cli import main
from infinipot.config import StreamConfig
from infinipot.errors import InfinipotError
from infinipot.serve.keys import EVERYONE, Keys
from infinipot.serve.run import serve
from infinipot.serve.settings import Settings
from infinipot.serve.streams.protocol import StreamSettings
from support.serving import embedded, running


def test_a_client_may_give_a_stream_every_setting_that_the_library_takes() -> None:
    assert StreamSettings.model_fields.keys() == {each.name for each in fields(StreamConfig)} | {"policy"}


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(
        'model = "a"\nmemory_total = "3GiB"\nport = 1\nfps = 1\nmedia_hosts = ["x"]\n[limits]\nstreams = 7\n'
    )
    monkeypatch.setenv("INFINIPOT_SERVE_PORT", "2")
    monkeypatch.setenv("INFINIPOT_SERVE_FPS", "2")
    monkeypatch.setenv("INFINIPOT_SERVE_LIMITS__ANSWERS", "3")
    found = Settings.read(path, fps=4, limits={"frame_bytes": "1MiB"})
    assert (found.model, found.memory_total, found.port, found.fps) == ("a", 3 << 30, 2, 4)
    limits = found.limits
    assert (limits.streams, limits.answers, limits.frame_bytes, limits.connections) == (7, 3, 1 << 20, 1024)
    assert Settings.read(None, model="a", media_hosts="x, *.y").media_hosts == ("x", "*.y")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "give a model"),
        ({"model": "a", "port": 99999}, "port"),
        ({"model": "a", "memory_total": "lots"}, "memory_total: give bytes, such as 512MiB"),
        ({"model": "a", "limits": {"streams": 0}}, "limits.streams"),
        ({"model": "a", "limits": {"stream": 1}}, "no limit stream; did you mean streams"),
        ({"model": "a", "limits": {"qqq": 1}}, "no limit qqq; there are answer_bytes, "),
        (
            {"model": "a", "media_networks": ["10.0.0.1/8"]},
            "^media_networks: give a range of addresses, such as [^;]*$",
        ),
        ({"model": "a", "media_root": "nowhere"}, "media_root: Path does not point to a directory"),
        ({"model": "a", "gate": "maybe"}, "^gate: gate='maybe': give"),
        ({"model": "a", "colour": 1}, "no setting colour"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_without_its_value(given: dict, words: str) -> None:
    with pytest.raises(InfinipotError, match=words) as told:
        Settings.read(None, **given)
    assert "\n" not in str(told.value)
    assert "lots" not in str(told.value)


def test_lists_in_the_environment_are_written_as_on_the_command_line_or_as_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {
        "MEDIA_HOSTS": "a, *.b",
        "WEBHOOK_HOSTS": '["c"]',
        "CORS_ORIGINS": "https://d",
        "MEDIA_NETWORKS": "10.0.0.0/8,fd00::/8",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"INFINIPOT_SERVE_{name}", value)
    found = Settings.read(None, model="a")
    assert (found.media_hosts, found.webhook_hosts, found.cors_origins) == (("a", "*.b"), ("c",), ("https://d",))
    assert [str(each) for each in found.media_networks] == ["10.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MEDIA_NETWORKS", "10.0.0.1/8", "media_networks: give a range"),
        ("MEDIA_HOSTS", "[", "media_hosts: "),
        ("LIMITS", "{", "LIMITS|limits"),
        ("PORT", "tcp://10.0.0.1:8000", "Kubernetes"),
    ],
)
def test_what_cannot_be_in_the_environment_is_said_in_a_line(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"INFINIPOT_SERVE_{name}", value)
    with pytest.raises(InfinipotError, match=words) as told:
        Settings.read(None, model="a")
    assert "\n" not in str(told.value)


def test_a_variable_that_is_no_setting_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("INFINIPOT_SERVE_MEMORY_TOTL", "INFINIPOT_SERVE_LIMITS__STREAMS", "INFINIPOT_SERVER"):
        monkeypatch.setenv(name, "3")
    with caplog.at_level("WARNING", logger="infinipot"):
        Settings.read(None, model="a")
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("INFINIPOT_SERVE_MEMORY_TOTL is ignored")
    assert "did you mean memory_total?" in told


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes('policy = "é"'.encode("latin-1"))
    with pytest.raises(InfinipotError, match=r"latin\.toml cannot be read: it is not text"):
        Settings.read(tmp_path / "latin.toml")
    with pytest.raises(InfinipotError, match="no such file"):
        Settings.read(tmp_path / "none.toml")
    (tmp_path / "odd.toml").write_text("model = ")
    with pytest.raises(InfinipotError, match="not valid TOML"):
        Settings.read(tmp_path / "odd.toml")
    (tmp_path / "more.toml").write_text('model = "a"\ncolour = 1')
    with pytest.raises(InfinipotError, match="colour"):
        Settings.read(tmp_path / "more.toml")


def test_keys(tmp_path: Path) -> None:
    assert Keys().owner({}) == EVERYONE
    path = tmp_path / "keys"
    hashed = "sha256:3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0"  # of "token"
    path.write_text(f"# people\nalice one # hers\nbob {hashed}\nalice two\n")
    keys = Keys.read(path)
    for key, owner in (("one", "alice"), ("two", "alice"), ("token", "bob"), (hashed, None), ("One", None), ("", None)):
        assert keys.owner({"authorization": f"Bearer {key}"}) == owner
    assert keys.owner({"authorization": "one"}) is None
    path.write_bytes("\ufeff  # people\nalice o#e\tand more\n".replace("\tand more", " #").encode())
    assert Keys.read(path).owner({"authorization": "Bearer o#e"}) == "alice"  # and not by what stands before the #
    assert Keys.read(path).owner({"authorization": "Bearer o"}) is None
    for wrong in ("alice", "alice one two", "a/b one", "", f"alice token\nbob {hashed}"):
        path.write_text(wrong)
        with pytest.raises(InfinipotError, match="keys") as told:
            Keys.read(path)
        assert "one" not in str(told.value).replace("an owner", "")
    with pytest.raises(InfinipotError, match="cannot be read"):
        Keys.read(tmp_path / "none")


def test_the_command_hands_on_what_was_given_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[Settings] = []
    monkeypatch.setattr("infinipot.serve.run.serve", lambda settings, load: handed.append(settings))
    monkeypatch.setenv("INFINIPOT_SERVE_FPS", "3")
    words = [
        "serve",
        "--model",
        "embedded",
        "--port",
        "0",
        "--limit",
        "frames-waiting=3",
        "--media-networks",
        "10.0.0.0/8",
    ]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    (found,) = handed
    assert (found.port, found.fps, found.limits.frames_waiting, found.host) == (0, 3, 3, "127.0.0.1")
    assert [str(each) for each in found.media_networks] == ["10.0.0.0/8"]


def test_the_help_tells_the_defaults_that_settings_have() -> None:
    told = {}
    for option in main.commands["serve"].params:
        assert isinstance(option, click.Option)
        if found := re.search(r"\[default: (\S+)\]$", option.help or ""):
            told[option.name] = found[1]
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    given = Settings.read(None, model="embedded", **told)
    assert {name: getattr(given, name) for name in told} == {name: defaults[name] for name in told}
    assert {"memory_total", "policy", "fps", "gate", "host", "port", "snapshot_seconds"} <= told.keys()


def test_the_command_says_what_is_wrong_before_a_model_is_loaded(tmp_path: Path) -> None:
    def said(*words: str) -> str:
        result = CliRunner().invoke(main, ["serve", "--model", "no/such-model", *words])
        assert result.exit_code in (1, 2)
        assert "Traceback" not in result.output
        return result.output

    assert "no such file" in said("--config", str(tmp_path / "none"))
    assert "cannot be read" in said("--api-keys", str(tmp_path / "none"))
    assert "give NAME=VALUE" in said("--limit", "streams")
    assert "limits.streams" in said("--limit", "streams=x")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in said("--snapshots", str(tmp_path / "file" / "below"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "another --port, or 0 for a free one" in said("--port", str(taken.getsockname()[1]))


def test_settings_with_which_no_stream_could_be_opened_are_told_at_the_start() -> None:
    for given, why in (
        ({"memory": 4}, "is too small"),
        ({"memory": 5000}, "at most 768"),
        ({"policy": "foo"}, "unknown"),
    ):
        with pytest.raises(InfinipotError, match=why):
            serve(Settings.read(None, model="embedded", port=0, **given), embedded)


@pytest.mark.parametrize("memory", [None, 512])
def test_a_total_that_holds_no_stream_is_told_with_one_that_holds_one(memory: int | None) -> None:
    def total(given: int, **more: bool) -> str:
        with pytest.raises(InfinipotError, match=f"--memory-total is {given:,} bytes") as told:
            serve(Settings.read(None, model="embedded", port=0, memory=memory, memory_total=given, **more), embedded)
        (enough,) = re.findall(r"give (\d+) or more", str(told.value))
        return enough

    enough = int(total(8))
    assert int(total(enough - 1)) == enough
    with running(memory=memory, memory_total=enough) as server:
        assert [server.as_(None).post("/v1/streams", json={}).status_code for _ in "ab"] == [201, 429]
    if memory:
        assert int(total(8, demo=True)) == enough


def test_what_asks_much_of_memory_or_disk_is_told_at_the_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("infinipot.serve.run.Server.serve", lambda self: asyncio.sleep(0))
    for total, snapshots, level in (
        (2 << 30, tmp_path, "info"),
        (1 << 60, None, "warning"),
        (1 << 60, tmp_path, "error"),
    ):
        with pytest.raises(InfinipotError, match="another --port, or 0 for a free one"):  # since nothing was served
            given = {"memory_total": total, "snapshots": snapshots, "snapshot_seconds": 60, "log_level": level}
            serve(Settings.read(None, model="embedded", port=0, **given), embedded)
        told = capsys.readouterr().err
        assert ("streams may be opened for which there is no memory" in told) == (level == "warning")
        written = re.findall(r"a stream of (\d+) MB that is saved every 60 s writes up to ([\d.]+) GB a day", told)
        assert [float(day) for _, day in written] == pytest.approx([float(size) * 1.44 for size, _ in written], rel=0.1)
        assert len(written) == (level == "info")


def test_what_answers_share_beside_the_total_is_a_limit() -> None:
    before = embedded().answer_scratch
    try:
        with running(limits={"answer_bytes": "3MiB"}) as server:
            assert server.server.model.answer_scratch == 3 << 20
    finally:
        embedded().answer_scratch = before
