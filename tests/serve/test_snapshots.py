"""Nothing that a server was given is lost beyond its last snapshot, whenever and however it ends."""

import asyncio
import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from infinipot.errors import InfinipotError
from infinipot.serve import logs, run
from infinipot.serve.keys import EVERYONE
from infinipot.serve.metrics import Metrics
from infinipot.serve.settings import Settings
from infinipot.serve.streams import snapshots
from infinipot.serve.streams.registry import Streams
from support.patience import until
from support.serving import KEYS, alone, clip, embedded, encoded, keys_file, push, running, stream

COUNT = "How many shapes have appeared so far?"


def ask(client: httpx.Client, name: str, **how: object) -> dict:
    return client.post(f"/v1/streams/{name}/ask", json={"question": COUNT, **how}).json()


def test_a_stream_goes_on_after_a_restart(tmp_path: Path) -> None:
    frames = clip()
    half = len(frames) // 2
    with running(snapshots=tmp_path) as server:
        client = server.as_(None)
        client.post("/v1/streams", json={"id": "Door", "fps": 2})
        client.post("/v1/streams", json={"id": "door"})
        server.server.streams.find(EVERYONE, "Door").description = "at the gate"
        push(client, "Door", frames[:half], wait=False)  # shutting down saves them
    saved = sorted(tmp_path.rglob("*.safetensors"))
    with running(snapshots=tmp_path):
        pass
    assert sorted(tmp_path.rglob("*.safetensors")) == saved, "what has not changed is on the disk already"
    with running(snapshots=tmp_path) as server:
        client = server.as_(None)
        state = client.get("/v1/streams/Door").json()
        assert (state["restored_at"], state["gap_seconds"]) == (frames[half - 1].time, None)
        assert server.server.streams.find(EVERYONE, "Door").description == "at the gate"
        assert client.get("/v1/streams/door").json()["frames"] == 0
        assert ask(client, "Door")["answer"] == alone(frames[:half], COUNT)[0]
        push(client, "Door", frames[half:])
        assert ask(client, "Door")["answer"] == alone(frames, COUNT)[0]
        assert client.get("/v1/streams/Door").json()["gap_seconds"] == frames[half].time - frames[half - 1].time
        client.delete("/v1/streams/Door")
        client.delete("/v1/streams/door")
    assert not [each for each in (tmp_path / "everyone").rglob("*") if each.is_file()]


def test_what_lies_on_the_disk_is_not_written_again(tmp_path: Path) -> None:
    """However often a client asks for it."""
    with running(snapshots=tmp_path) as server:
        client = server.as_(None)
        push(client, opened(client, "door"), clip()[:2])
        files, saved = set[str](), list[dict]()

        def save() -> None:
            saved.append(client.post("/v1/streams/door/snapshot").json())
            files.update(each.name for each in tmp_path.rglob("*.safetensors"))

        for _ in range(3):
            save()
        assert (len(files), len({each["saved_at"] for each in saved})) == (1, 1)
        server.server.streams.find(EVERYONE, "door").description = "at the gate"
        save()
        push(client, "door", clip()[2:4])
        save()
        assert len(files) == 3
        next(tmp_path.rglob("*.safetensors")).unlink()
        save()
        assert len(files) == 3
        assert list(tmp_path.rglob("*.safetensors")), "one that was taken away is written"


def test_a_remembered_turn_is_on_the_disk_before_it_is_answered_for(tmp_path: Path) -> None:
    with running(snapshots=tmp_path, memory=768) as server:
        client = server.as_(None)
        with stream(client, "turns") as name:
            push(client, name, clip()[:4])
            reply = ask(client, name, remember=True, durable=True)
            saved = snapshots.Told.model_validate_json(next(tmp_path.rglob("stream.json")).read_bytes())
            assert reply["saved_at"] == saved.saved_at
            path = next(tmp_path.rglob(saved.file))
            with server.server.model.restore(path) as restored:
                assert restored.stats().turns == 1


def test_streams_are_saved_on_a_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinipot.serve.server._ROUND", 0.01)
    monkeypatch.setattr(Streams, "tidy", lambda streams: asyncio.sleep(3600))  # as of one that waits for a long answer
    with running(snapshots=tmp_path, snapshot_seconds=0.1) as server:
        client = server.as_(None)
        with stream(client, "clock") as name:
            push(client, name, clip()[:4])
            until = time.monotonic() + 30
            while client.get(f"/v1/streams/{name}").json()["saved_time"] != clip()[3].time:
                assert time.monotonic() < until
                time.sleep(0.05)
            files = sorted(each.name for each in (tmp_path / "everyone").rglob("*") if each.is_file())
            assert len(files) == 2  # one snapshot, and what names it


def test_a_disk_that_is_slow_holds_up_one_stream_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor has a new stream the id of one that is closed meanwhile before what is kept of that one is deleted."""
    begun, goes_on, write = threading.Event(), threading.Event(), snapshots._write

    def slow(*given: Any) -> snapshots.Told:
        begun.set()
        assert goes_on.wait(30)
        return write(*given)

    monkeypatch.setattr(snapshots, "_write", slow)
    monkeypatch.setattr("infinipot.serve.server._ROUND", 3600.0)  # nothing is saved but on request
    with running(snapshots=tmp_path) as server, ThreadPoolExecutor(3) as threads:
        client = server.as_(None)
        try:
            for name in ("slow", "other"):
                client.post("/v1/streams", json={"id": name})
                push(client, name, clip()[:2])
            saves = [threads.submit(client.post, "/v1/streams/slow/snapshot")]
            assert begun.wait(10)
            saves.append(threads.submit(client.post, "/v1/streams/other/snapshot"))
            push(client, "other", clip()[2:4])
            assert client.get("/v1/streams/other/contents", timeout=10).json()["time"] == clip()[3].time
            assert client.post("/v1/streams/other/fork", json={"id": "fork"}, timeout=10).status_code == 201
            deletion = threads.submit(client.delete, "/v1/streams/slow")
            assert until(lambda: client.get("/v1/streams/slow").status_code == 404)
            refused = client.post("/v1/streams", json={"id": "slow"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "stream_closing")
            assert not any(each.done() for each in (*saves, deletion))
        finally:
            goes_on.set()
        assert [save.result().status_code for save in saves] == [200, 200]
        assert deletion.result().status_code == 204
        assert client.post("/v1/streams", json={"id": "slow"}).status_code == 201


def test_a_disk_that_is_slow_is_busy_for_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [SimpleNamespace(passing=False, saved_when=when, saved_at=None) for when in (5.0, None, 3.0, 1e9)]
    saved, paused = list[float | None](), list[float]()
    kept = snapshots.Snapshots(Path(), cast(Any, streams), cast(Any, None))

    async def save(served: Any) -> None:
        saved.append(served.saved_when)
        served.saving_seconds = 10.0

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    monkeypatch.setattr(kept, "save", save)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    asyncio.run(kept.save_due(600))
    assert saved == [None, 3.0, 5.0], "the one that has waited longest comes first"
    assert all(10.0 / (10.0 + each) == pytest.approx(0.05) for each in paused)
    assert len(paused) == len(saved)


def test_a_source_that_does_not_end_does_not_keep_streams_from_being_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor has it `drain_seconds` of its own, once answers took them."""
    monkeypatch.setattr("infinipot.serve.server._LEAST", 0.05)
    with running(snapshots=tmp_path, limits={"drain_seconds": 60}) as server:
        monkeypatch.setattr(server.server.players, "close", lambda: asyncio.sleep(60))
        server.as_(None).post("/v1/streams", json={"id": "door"})
        push(server.as_(None), "door", clip()[:2])
        server.server.end_soon()
        server.server._until = time.monotonic()
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_setting_the_clock_of_the_machine_back_saves_streams_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr("infinipot.serve.server._ROUND", 0.01)
    with running(snapshots=tmp_path, snapshot_seconds=0.1) as server:
        client = server.as_(None)
        with stream(client, "clock") as name:
            for number, back in enumerate((0.0, 7200.0)):
                monkeypatch.setattr(time, "time", lambda back=back: real() - back)
                push(client, name, clip()[2 * number : 2 * number + 2])
                until = time.monotonic() + 20
                while client.get(f"/v1/streams/{name}").json()["saved_time"] != clip()[2 * number + 1].time:
                    assert time.monotonic() < until, "it is not saved before the clock is where it was"
                    time.sleep(0.05)


def test_a_disk_that_is_full_is_told_of_as_often_as_streams_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots, "_write", full)
    monkeypatch.setattr("infinipot.serve.server._ROUND", 0.01)
    with running(snapshots=tmp_path, snapshot_seconds=3600) as server, caplog.at_level("ERROR"):
        client = server.as_(None)
        with stream(client, "full") as name:
            push(client, name, clip()[:2])
            time.sleep(0.5)
            assert client.post(f"/v1/streams/{name}/snapshot").status_code == 507  # whoever asks is told at once
            assert [record.getMessage() for record in caplog.records] == ["snapshot failed"] * 2


def test_streams_of_an_owner_without_a_key_are_kept_and_not_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody could see them, or end the watching of their cameras."""
    keys, both = keys_file(tmp_path), keys_file(tmp_path).read_text()
    given: dict[str, Any] = {"snapshots": tmp_path / "kept", "api_keys": keys}
    with running(**given) as server:
        client = server.as_("alice")
        assert client.post("/v1/streams", json={"id": "hers", "source": "demo://still"}).status_code == 201
        push(server.as_("bob"), opened(server.as_("bob"), "his"), clip()[:2])
    for text, streams in ((f"bob {KEYS['bob']}\n", ["his"]), (both, ["hers", "his"])):
        keys.write_text(text)
        with running(**given) as server:
            assert sorted(each.id for each in server.server.streams) == streams
    with running(snapshots=tmp_path / "kept") as server:
        assert not list(server.server.streams)
    assert any("no key of its owner, alice" in str(vars(record)) for record in caplog.records)


def opened(client: httpx.Client, name: str) -> str:
    assert client.post("/v1/streams", json={"id": name}).status_code == 201
    return name


def test_a_stream_that_has_much_to_do_keeps_no_other_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: dict[str, Future[None]] = {}
    pool = ThreadPoolExecutor(4)

    def take(lane: str, save: Callable[[Any], None]) -> "Future[None]":
        if lane == "busy" and lane not in turns:  # whose turn has not come
            turns[lane] = Future()
            return turns[lane]
        return pool.submit(save, None)

    writing, most = list[str](), list[int]()

    def write(place: Path, served: Any, *_: Any) -> Any:
        writing.append(served.id)
        most.append(len(writing))
        time.sleep(0.02)
        writing.remove(served.id)
        (place / "stream").parent.mkdir(parents=True, exist_ok=True)
        (place / "stream").write_bytes(b"x")
        return SimpleNamespace(saved_at=1.0, time=2.0, file="stream")

    monkeypatch.setattr(snapshots, "_write", write)
    monkeypatch.setattr(snapshots, "_told", lambda served, stream: None)
    monkeypatch.setattr(snapshots, "_same", lambda *_: None)
    streams = SimpleNamespace(worker=SimpleNamespace(alone=take))
    kept = snapshots.Snapshots(tmp_path, cast(Any, streams), Metrics())
    busy, *free = (SimpleNamespace(id=name, owner="me", lane=name, saving_seconds=0.0) for name in ("busy", *"abcd"))

    async def save_all() -> None:
        waiting = asyncio.create_task(kept.save(cast(Any, busy)))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.gather(*(kept.save(cast(Any, each)) for each in free))
        assert not waiting.done()
        turns["busy"].set_result(None)  # its turn came, but the disk was not free
        async with asyncio.timeout(5):
            await waiting

    asyncio.run(save_all())
    assert most == [1] * 5, "one at a time"


def test_what_one_server_keeps_is_no_other_ones(tmp_path: Path) -> None:
    """Two would take away each other's snapshots, and ask each other's standing questions no more."""
    kept = tmp_path / "kept"
    for given in ({"snapshots": kept}, {"events": tmp_path / "events.sqlite"}):
        settings = Settings.read(None, model="embedded", **given)
        with (
            run._kept(settings),
            pytest.raises(
                InfinipotError, match="another running server uses it: give a different --snapshots or --events"
            ) as told,
            run._kept(settings),
        ):
            pass
        assert str(next(iter(given.values()))) in str(told.value)
        with run._kept(settings):
            pass
    with (
        pytest.raises(InfinipotError, match="cannot be written"),
        run._kept(Settings.read(None, model="embedded", events=tmp_path / "none" / "events.sqlite")),
    ):
        pass


def test_what_goes_wrong_with_what_is_kept_is_not_told_of_the_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr("infinipot.serve.watches.store.Store.watches", broken)
    settings = Settings.read(None, model="embedded", port=0, memory=512, snapshots=tmp_path / "kept")
    with pytest.raises(InfinipotError, match="see its log"):
        run.serve(settings, embedded)


def test_a_server_whose_device_is_lost_ends_so_that_it_can_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in memory cannot be read any more: what was saved before counts."""

    def lost(*given: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("infinipot.serve.engine.reach", lost)
    monkeypatch.setattr("infinipot.stream.Stream.begin_watch", lost)
    monkeypatch.setattr("infinipot.serve.server._ROUND", 3600)
    settings = Settings.read(None, model="embedded", port=0, snapshots=tmp_path / "kept", demo=True)
    with pytest.raises(InfinipotError, match=r"can no longer use .*illegal memory access.* restart the server"):
        run.serve(settings, embedded)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("moment", range(6))
def test_whatever_interrupts_a_save_leaves_one_whole_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Each call of the operating system on the way fails once, for good: as if the process had ended there."""
    calls = ["mkdir", "fsync", "replace"]
    with running(snapshots=tmp_path) as server:
        client = server.as_(None)
        client.post("/v1/streams", json={"id": "cut"})
        push(client, "cut", clip()[:4])
        client.post("/v1/streams/cut/snapshot")
        push(client, "cut", clip()[4:8])
        left = [moment // 2 + 1]

        def fails(call: str, real: Callable) -> Callable:
            def called(*given: Any, **more: Any) -> Any:
                left[0] -= 1
                if left[0] <= 0:
                    raise OSError(28, "No space left on device")
                return real(*given, **more)

            return called

        with monkeypatch.context() as patch:
            name = calls[1 + moment % 2]
            patch.setattr(os, name, fails(name, getattr(os, name)))
            reply = client.post("/v1/streams/cut/snapshot")
            survived = left[0] > 0
            assert reply.status_code == (200 if survived else 507)
        folder = tmp_path / "copy"
        subprocess.run(["cp", "-r", tmp_path / "everyone", folder], check=True)
        client.delete("/v1/streams/cut")
    (tmp_path / "again").mkdir()
    folder.rename(tmp_path / "again" / "everyone")
    with running(snapshots=tmp_path / "again") as server:
        state = server.as_(None).get("/v1/streams/cut").json()
        assert state["restored_at"] in (clip()[3].time, clip()[7].time)
        seen = clip()[: 4 if state["restored_at"] == clip()[3].time else 8]
        assert ask(server.as_(None), "cut")["answer"] == alone(seen, COUNT)[0]


def test_a_snapshot_that_is_damaged_is_told_of_and_left_where_it_lies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(snapshots=tmp_path) as server:
        for name in ("good", "bad"):
            server.as_(None).post("/v1/streams", json={"id": name})
            push(server.as_(None), name, clip()[:4])
    bad = next((tmp_path / "everyone" / "bad").glob("*.safetensors"))
    bad.write_bytes(bad.read_bytes()[:-100])
    with running(snapshots=tmp_path) as server:
        assert [each["id"] for each in server.as_(None).get("/v1/streams").json()["data"]] == ["good"]
        assert "a stream was not restored" in caplog.text
    assert bad.is_file()


@contextmanager
def process(folder: Path, **settings: object) -> Iterator[tuple[subprocess.Popen, str]]:
    """A server as a process of its own."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "infinipot", "serve", "--model=embedded", "--port=0", "--memory=512", *options]
    started = subprocess.Popen([*command, f"--snapshots={folder}"], stdout=subprocess.PIPE, text=True)
    assert started.stdout
    try:
        (url,) = re.findall(r"http://\S+", started.stdout.readline())
        yield started, url
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


@pytest.mark.slow
def test_sigterm_lets_streams_be_saved_and_kill_loses_what_came_since(tmp_path: Path) -> None:
    """A kill leaves what is on the disk at its moment, of which a copy is as good; SIGTERM is a process's."""
    frames, first, second = clip(), tmp_path / "first", tmp_path / "second"
    with running(snapshots=first) as server:
        client = server.as_(None)
        client.post("/v1/streams", json={"id": "door"})
        push(client, "door", frames[:4])
        client.post("/v1/streams/door/snapshot")
        push(client, "door", frames[4:6])
        subprocess.run(["cp", "-r", first, second], check=True)
    with process(second, device="cpu") as (begun, url), httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/v1/streams/door").json()["restored_at"] == frames[3].time
        push(client, "door", frames[4:8], wait=False)
        begun.send_signal(signal.SIGTERM)
        assert begun.wait(30) in (0, -signal.SIGTERM)  # uvicorn ends as the signal would have ended it
    with running(snapshots=second) as server:
        client = server.as_(None)
        assert client.get("/v1/streams/door").json()["restored_at"] == frames[7].time
        assert ask(client, "door")["answer"] == alone(frames[:8], COUNT)[0]
        reply = client.post("/v1/streams/door/frames", params={"time": 100}, content=encoded(frames[0].image))
        assert reply.status_code == 200
        assert client.get("/v1/streams/door").json()["gap_seconds"] == 100 - frames[7].time


def _loggers() -> list[tuple[list[logging.Handler], bool, int]]:
    """How the loggers are set that a server uses."""
    loggers = map(logging.getLogger, ("infinipot", "uvicorn", "uvicorn.error", "asyncio", "concurrent.futures"))
    return [(list(each.handlers), each.propagate, each.level) for each in loggers]


def test_what_a_log_says_of_a_request_is_one_line_of_json_with_its_id(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = _loggers()
    with logs.to_stderr(), running(snapshots=tmp_path) as server:
        headers = {"x-request-id": "mine-1", "authorization": "Bearer very-secret"}
        reply = server.as_(None).get("/v1/models?token=hidden", headers=headers)
        assert reply.headers["x-request-id"] == "mine-1"
        for address in ("/v1/streams", "/v1/streams/none"):
            server.as_(None).get(address, headers={"x-request-id": "often"})
        assert server.as_(None).get("/health", headers={"x-request-id": "no\tgood"}).headers["x-request-id"] != ""
    assert _loggers() == before, "what is logged later would go to a stderr that may be closed by then"
    said = capfd.readouterr().err
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [line["route"] for line in lines if line.get("request_id") == "mine-1"] == ["/v1/models"]
    assert [line["status"] for line in lines if line.get("request_id") == "often"] == [404], "what goes well is no news"
    assert "secret" not in said
    assert "hidden" not in said
