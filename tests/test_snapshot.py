"""Streams that are saved, restored and forked: each goes on as the one it was, and no file leads one astray."""

import errno
import fcntl
import gc
import json
import math
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import weakref
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open

import infinipot
from infinipot import CapError, InfinipotError, Model, SnapshotError, Stream, policies, tensor_file
from infinipot.memory.storage import Rows
from infinipot.models import Waiting
from infinipot.plain import PlainError, from_plain
from infinipot.policies import Policy
from support.memories import held, parts, same
from support.models import build, give, given, pictures
from support.plays import QUESTIONS, RANGE, moment, played, small

MORE = 27  # frames that both go on for, two of them with questions
# When a stream is forked, and when it is saved: while half a patch or half a block waits, behind remembered turns.
FORKED, SAVED = 25, 46


@pytest.fixture
def _short_range(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few positions, so that streams have to re-base soon."""
    monkeypatch.setattr(type(model.adapter), "position_range", RANGE[model.adapter.modality])


def going_on(stream: Stream, start: int, frames: int) -> list[str]:
    """What is answered while a stream that has seen so many frames goes on; some answers are drawn, some remembered."""
    model = Model("", stream._setup.adapter)
    answers: list[str] = []
    for number, content in enumerate(given(model, frames, seed=1), start):
        give(stream, content, moment(model, number))
        if number % 13 == 0:
            drawn: dict[str, Any] = {"temperature": 1.5, "seed": number}
            answers.append(stream.ask(QUESTIONS[0], max_new_tokens=4, remember=number % 2 == 0, **drawn))
    return answers


def waits(stream: Stream) -> bool:
    """Whether a stream is in the middle of a block or of a patch, where there is such a thing."""
    pending = stream._state.pending
    return bool(pending.block == 1 or pending.starts(stream._setup))


def alike(other: Stream, stream: Stream) -> None:
    assert other.stats() == stream.stats()
    assert other.config == stream.config
    assert other._state.memory.state == stream._state.memory.state
    assert same(held(other), held(stream))


def goes_on_alike(other: Stream, stream: Stream, start: int, frames: int) -> None:
    assert going_on(other, start, frames) == going_on(stream, start, frames)
    assert same(held(other), held(stream))
    assert replace(other.stats(), seconds={}) == replace(stream.stats(), seconds={})


@pytest.mark.usefixtures("_short_range")
def test_a_restored_stream_and_a_fork_go_on_as_if_nothing_had_been(model: Model, tmp_path: Path) -> None:
    """With the default policy: what others keep of their own is no family's matter, and has a test of its own."""
    with model.stream(**small(model)) as stream:
        list(played(model, stream, frames=FORKED))
        assert waits(stream)
        assert stream.stats().turns
        stream.save(tmp_path / "stream")
        fork = stream.fork()
        for other in (model.restore(tmp_path / "stream"), fork):
            alike(other, stream)
        goes_on_alike(fork, stream, FORKED, SAVED - FORKED)
        assert waits(stream)
        assert stream.stats().rebases or not model.adapter.position_rule().flat
        stream.save(tmp_path / "stream")
        restored = model.restore(tmp_path / "stream")
        for other in (restored, stream.fork()):
            alike(other, stream)
        goes_on_alike(restored, stream, SAVED, MORE)


def test_a_stream_that_was_re_based_goes_on_at_its_pace(
    qwen: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where positions follow the clock, they count slower from then on."""
    monkeypatch.setattr(type(qwen.adapter), "position_range", RANGE["video"])
    with qwen.stream(**small(qwen)) as stream:
        for number, image in enumerate(pictures(155)):
            give(stream, image, moment(qwen, number))
        assert stream.stats().rebases
        assert stream._state.memory.cursor.pace < 1
        stream.save(tmp_path / "stream")
        other = qwen.restore(tmp_path / "stream")
        assert going_on(other, 155, MORE) == going_on(stream, 155, MORE)
        assert same(held(other), held(stream))


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava_onevision"])
def test_a_stream_far_beyond_the_trained_positions_is_saved(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without re-basing nothing keeps it inside of them, and it is asked and watched all the same."""
    model = build(name)
    monkeypatch.setattr(type(model.adapter), "position_range", 1)
    with model.stream(memory=400, positions="native", dialogue=0) as stream:
        for content in given(model, 16):
            give(stream, content)
        assert stream._state.memory.cursor.next > 16
        stream.save(tmp_path / "stream")
        assert model.restore(tmp_path / "stream").ask(QUESTIONS[0]) == stream.ask(QUESTIONS[0])


def test_a_stream_whose_frames_changed_in_size_is_saved_by_a_policy_of_whole_patches(
    qwen: Model, tmp_path: Path
) -> None:
    with qwen.stream(memory=400, policy="recent-frames", block=1, dialogue=0) as stream:
        for size in ((64, 64), (64, 96), (64, 64)):
            for image in pictures(5, size=size):
                stream.watch(image)
            stream.save(tmp_path / "stream")
            assert same(held(qwen.restore(tmp_path / "stream")), held(stream))


def test_at_any_moment_a_stream_can_be_saved_and_is_the_same_when_it_is_restored(qwen: Model, tmp_path: Path) -> None:
    """Before the first frame too, and at every place of a block and of a patch, with sizes that change."""
    with qwen.stream(**small(qwen), pixels=(1024, 8192), positions="native") as stream:
        for number in range(40):
            stream.save(tmp_path / "stream")
            other = qwen.restore(tmp_path / "stream")
            with (tmp_path / "stream").open("r+b") as file:
                file.write(bytes(os.fstat(file.fileno()).st_size))  # what was restored does not lean on the file
            assert same(held(other), held(stream))
            if number:
                assert other.ask(QUESTIONS[0], max_new_tokens=2) == stream.ask(QUESTIONS[0], max_new_tokens=2)
            (image,) = pictures(1, number, size=[(64, 64), (32, 64), (64, 96)][number // 7 % 3])
            other.watch(image)
            stream.watch(image)
            assert same(held(other), held(stream))
            stream = other


@pytest.mark.parametrize("policy", [kind.name for kind in policies.available()])
def test_a_stream_of_any_policy_is_saved_with_it(qwen: Model, policy: str, tmp_path: Path) -> None:
    with qwen.stream(memory=512, reserve=56, dialogue=60, policy=policy, system="Look.") as stream:
        for image in pictures(30):
            stream.watch(image)
        stream.save(tmp_path / "stream")
        other = qwen.restore(tmp_path / "stream")
        assert other.policy == stream.policy
        for image in pictures(9, seed=1):
            stream.watch(image)
            other.watch(image)
        assert same(held(other), held(stream))


IN_ANOTHER = """
import hashlib, sys, numpy as np, infinipot
stream = infinipot.load("embedded").restore(sys.argv[1])
def told():
    memory, digest = stream._state.memory, hashlib.sha256()
    for group in memory.groups:
        for part in group.stored(memory.held).values():
            digest.update(part.contiguous().numpy().tobytes())
    print(memory.state, digest.hexdigest(), stream.ask("What colour was the circle?", max_new_tokens=8))
told()
for image in np.random.default_rng(5).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8):
    stream.watch(image)
told()
"""


@pytest.mark.slow
def test_a_stream_goes_on_in_a_fresh_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with infinipot.load("embedded").stream(memory=300) as stream:
        for image in pictures(51):
            stream.watch(image)
        stream.ask("Which shape was red?", max_new_tokens=8, remember=True)
        stream.watch(pictures(1)[0])
        stream.save(tmp_path / "stream")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    at_once = "import gc; gc.disable()\n"  # looking for garbage among what is imported takes a fifth of the start
    command = [sys.executable, "-c", at_once + IN_ANOTHER, str(tmp_path / "stream")]
    other = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    capsys.readouterr()
    script, arguments = compile(IN_ANOTHER, "here", "exec"), sys.argv
    sys.argv = ["here", str(tmp_path / "stream")]
    try:
        exec(script, {})
    finally:
        sys.argv = arguments
    assert other.stdout == capsys.readouterr().out
    assert len(other.stdout.splitlines()) == 2


# Forks


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_5"])
def test_a_fork_and_its_original_share_nothing_that_changes(name: str) -> None:
    """Keys, values and columns, and recurrent states."""
    model = build(name)
    with model.stream(**small(model)) as stream:
        list(played(model, stream, frames=24))
        before, answer = held(stream), stream.ask(QUESTIONS[1], max_new_tokens=4)
        fork = stream.fork()
        mine, theirs = ({part.data_ptr() for part in parts(each._state.memory)} for each in (stream, fork))
        assert not mine & theirs
        going_on(stream, 24, 20)
        assert same(held(fork), before)
        assert fork.ask(QUESTIONS[1], max_new_tokens=4) == answer
        after = held(stream)
        going_on(fork, 24, 9)
        stream.close()
        assert fork.ask(QUESTIONS[1], max_new_tokens=4) is not None
        assert not same(held(fork), after)
        fork.close()


def test_a_fork_that_the_device_has_no_room_for_is_an_error_that_says_so(
    qwen: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    with qwen.stream(**small(qwen)) as stream:
        stream.watch(pictures(1)[0])
        with monkeypatch.context() as patch:
            patch.setattr(Rows, "__init__", full)
            with pytest.raises(CapError, match="MiB, but the device has too little free memory"):
                stream.fork()
        stream.fork().watch(pictures(1)[0])


# Writing


def test_a_file_takes_the_place_of_nothing_but_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        with pytest.raises(SnapshotError, match="is a directory or a device, so it is left as it is"):
            tensor_file.write(path, "", {})
        with pytest.raises(SnapshotError, match="is not a file"):
            tensor_file.TensorFile(path)
    for use in (tensor_file.TensorFile, lambda path: tensor_file.write(path, "", {})):
        with pytest.raises(SnapshotError, match="cannot be looked at: File name too long"):
            use(tmp_path / ("x" * 300))
    assert pipe.is_fifo()
    assert folder.is_dir()
    for name in ("", "/", "a\0b"):
        with pytest.raises(SnapshotError, match="is not the name of a file: give one"):
            tensor_file.write(Path(name), "", {})
    assert sorted(tmp_path.iterdir()) == [folder, pipe]


def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none_here)
    tensor_file.write(tmp_path / "a", "there", {})
    assert tensor_file.TensorFile(tmp_path / "a").text == "there"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_what_is_written_is_a_safetensors_file(qwen: Model, tmp_path: Path) -> None:
    """To the library's own reader."""
    with qwen.stream(**small(qwen)) as stream:
        list(played(qwen, stream, frames=24))
        stream.save(tmp_path / "stream.safetensors")
        with safe_open(tmp_path / "stream.safetensors", framework="pt") as file:
            (group,) = stream._state.memory.groups
            for name, part in group.stored(stream._state.memory.held).items():
                assert torch.equal(file.get_tensor(f"0.{name}"), part)
            assert json.loads(file.metadata()["text"])["policy"] == "infinipot-v"


def test_a_killed_save_leaves_the_file_before_it(qwen: Model, tmp_path: Path) -> None:
    """Killed at moments all over the writing, in a process of its own each time."""
    path = tmp_path / "stream"
    with qwen.stream(**small(qwen)) as stream:
        list(played(qwen, stream, frames=24))
        stream.save(path)
        before = path.read_bytes()
        stream.watch(pictures(1)[0])
        for moment_ in (1, 2, 7, 20, "fsync", "replace"):
            child = os.fork()
            if not child:
                _save_and_die(stream, path, moment_)
            assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
            assert path.read_bytes() == before
            assert len(list(tmp_path.iterdir())) == 2, "what was begun, once"
        stream.save(path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["stream"]
        assert same(held(qwen.restore(path)), held(stream))


def _save_and_die(stream: Stream, path: Path, when: int | str) -> None:
    calls = [0]

    def die(*_: object) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    def count(content: Any, start: int = 0) -> int:
        calls[0] += 1
        return die() if calls[0] == when else zlib.crc32(content, start)

    if isinstance(when, int):
        vars(tensor_file)["zlib"] = SimpleNamespace(crc32=count)
    else:
        setattr(os, when, die)
    try:
        stream.save(path)
    finally:
        os._exit(0)


def test_a_save_that_fails_says_why_and_leaves_nothing_behind(
    qwen: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with qwen.stream(**small(qwen)) as stream:
        stream.watch(pictures(1)[0])
        with pytest.raises(SnapshotError, match="No such file or directory"):
            stream.save(tmp_path / "nowhere" / "stream")
        (tmp_path / "folder").mkdir()
        with pytest.raises(SnapshotError, match=r"[Dd]irectory"):
            stream.save(tmp_path / "folder")
        stream.save(tmp_path / "stream")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(SnapshotError, match="No space left"):
                stream.save(tmp_path / "stream")
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "stream"]
        assert same(held(qwen.restore(tmp_path / "stream")), held(stream))


def test_of_two_saves_at_once_one_is_refused(qwen: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with qwen.stream(**small(qwen)) as stream:
        stream.watch(pictures(1)[0])
        inside, fsync, errors = threading.Event(), os.fsync, []
        again = stream.fork()

        def slowly(number: int) -> None:
            if not inside.is_set():
                inside.set()
                with pytest.raises(SnapshotError) as raised:
                    again.save(tmp_path / "stream")
                errors.append(str(raised.value))
            fsync(number)

        monkeypatch.setattr(os, "fsync", slowly)
        stream.save(tmp_path / "stream")
        assert "another process is writing it: try again" in errors[0]
        assert same(held(qwen.restore(tmp_path / "stream")), held(stream))


def test_a_stream_in_the_middle_of_a_call_is_not_saved_or_forked(qwen: Model, tmp_path: Path) -> None:
    with qwen.stream(**small(qwen)) as stream:
        stream.watch(pictures(1)[0])
        for call in (lambda: stream.save(tmp_path / "stream"), stream.fork):

            def on_text(_: str, call: Callable = call) -> None:
                with pytest.raises(InfinipotError, match="in the middle of another call"):
                    call()

            stream.ask(QUESTIONS[0], max_new_tokens=4, on_text=on_text)
    with pytest.raises(InfinipotError, match="closed"):
        stream.save(tmp_path / "stream")


def test_a_policy_without_a_name_cannot_be_saved(qwen: Model, tmp_path: Path) -> None:
    class Own(policies.Uniform):
        name = "my-own"

    own: Policy = Own()
    with qwen.stream(policy=own, **small(qwen)) as stream:
        stream.watch(pictures(1)[0])
        with pytest.raises(SnapshotError, match=r"infinipot knows no policy by the name 'my-own'"):
            stream.save(tmp_path / "stream")


# Reading


def taken_apart(path: Path) -> tuple[dict, dict, bytes]:
    """Header, document and tensors of a file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["text"]), content[8 + length :]


def put_together(path: Path, header: dict, document: Any, data: bytes) -> None:
    """A file with a checksum that is right, whatever is in it."""
    text = document if isinstance(document, str) else json.dumps(document)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    header = {"__metadata__": {"checksum": "0" * 8, "text": text}, **entries}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    checksum = b"%08x" % zlib.crc32(data, zlib.crc32(encoded))
    encoded = encoded.replace(b"0" * 8, checksum, 1)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def leaves(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a document: what it is in, and where."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inside for place in ((value, key), *leaves(each))]


ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    7,
    2**31,
    2**40,
    2**62,
    10**400,
    0.5,
    -1e-9,
    1e300,
    float("nan"),
    "",
    "../../x",
    [],
    {},
    [0],
)


def mutated(drawn: random.Random, good: Path, path: Path) -> None:
    """Writes a file that differs from a good one in a thing or two."""
    header, document, data = taken_apart(good)
    content, kind = bytearray(good.read_bytes()), drawn.randrange(8)
    if kind == 0:
        content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
        path.write_bytes(content)
        return
    if kind == 1:
        path.write_bytes(content[: drawn.randrange(len(content))])
        return
    names = [name for name in header if name != "__metadata__"]
    if kind == 2:  # a number among the tensors
        changed = bytearray(data)
        entry = header[drawn.choice([name for name in names if "keys" not in name and "values" not in name])]
        start, end = entry["data_offsets"]
        for _ in range(drawn.choice([1, 1, 50])):
            changed[drawn.randrange(start, end)] ^= 1 << drawn.randrange(8)
        data = bytes(changed)
    elif kind == 3:
        entry = header[drawn.choice(names)]
        holder, key = drawn.choice(leaves(entry))
        holder[key] = drawn.choice(ODD)
    elif kind == 4:
        name = drawn.choice(names)
        header[drawn.choice(["../../etc/passwd", "", "0.keys", "state.x", f"{name}.x"])] = header.pop(name)
    else:
        for _ in range(drawn.choice([1, 1, 2])):
            holder, key = drawn.choice(leaves(document))
            now = holder[key]
            near = [now + 1, now - 1, 2 * now, -now] if type(now) in (int, float) else []
            holder[key] = drawn.choice([*near * 4, *ODD])
    put_together(path, header, document, data)


FILES = [("qwen3_vl", "video"), ("qwen2_5_vl", "video"), ("qwen3_5", "video"), ("qwen2_5_omni", "audio")]


@pytest.mark.parametrize("kind", FILES, ids="-".join)
def test_no_file_leads_a_stream_astray(kind: tuple[str, str], tmp_path: Path) -> None:
    """Whatever was changed in a file, it is an error in one line, or a stream that can be watched, asked and saved."""
    model, mutations = build(*kind), int(os.environ.get("INFINIPOT_MUTATIONS", "50"))
    good, path = tmp_path / "good", tmp_path / "bad"
    with model.stream(**small(model)) as stream:
        list(played(model, stream, frames=35))
        stream.save(good)
    put_together(path, *taken_apart(good))
    assert path.read_bytes() == good.read_bytes(), "changes alone make the difference"
    drawn, lines = random.Random(int(os.environ.get("INFINIPOT_SEED", "0"))), list[str]()
    for _ in range(mutations):
        mutated(drawn, good, path)
        try:
            stream = model.restore(path)
        except SnapshotError as error:
            lines.append(str(error))
            continue
        try:
            for content in given(model, 12, seed=3):
                give(stream, content)
            stream.ask(QUESTIONS[0], max_new_tokens=2, remember=True)
            give(stream, content)
            stream.save(tmp_path / "again")
            assert model.restore(tmp_path / "again")._state.memory.state == stream._state.memory.state
        except InfinipotError:
            pass  # such as frames that come before those that were there
    assert mutations // 2 < len(lines) < mutations
    assert all("\n" not in line and len(line) < 500 + len(str(path)) for line in lines)


def first(file: dict[str, torch.Tensor], kind: str) -> int:
    """The first slot of a row that holds a cell, a caption's token, or text."""
    patch, cell = file["0.patch"][0], file["0.cell"][0]
    return int({"cell": cell >= 0, "caption": (patch >= 0) & (cell < 0), "text": patch < 0}[kind].nonzero()[0])


# Each changes a number that was right into one that is not: in the document, or in the first row of a column.
LIES: dict[str, Callable[[dict, dict[str, torch.Tensor]], Any]] = {
    "a cell beyond its grids": lambda _, file: file["0.cell"][0].__setitem__(first(file, "cell"), 1 << 20),
    "a patch to come": lambda said, file: file["0.patch"][0].__setitem__(
        first(file, "cell"), said["state"]["held"]["cursor"]["patch"]
    ),
    "a caption of another patch": lambda _, file: file["0.patch"][0].__setitem__(first(file, "caption"), 0),
    "text of another turn": lambda _, file: file["0.cell"][0].__setitem__(first(file, "text"), -70),
    "a cell that is text": lambda _, file: file["0.patch"][0].__setitem__(first(file, "cell"), -1),
    "a position to come": lambda said, file: file["0.temporal"][0].__setitem__(
        first(file, "cell"), said["state"]["held"]["cursor"]["next"]
    ),
    "a column that is not the cell's": lambda _, file: file["0.width"][0].add_(1),
    "a base below zero": lambda _, file: [file[f"0.{axis}"][0].sub_(900) for axis in ("height", "width")],
    "no time": lambda _, file: file["0.time"][0].__setitem__(0, float("nan")),
    "a time to come": lambda _, file: file["0.time"][0].__setitem__(first(file, "cell"), 1e6),
    "a key that is no number": lambda _, file: file["0.keys"][0, 0].__setitem__(0, float("nan")),
    "a token held twice": lambda _, file: [
        file[f"0.{name}"][0].__setitem__(first(file, "cell") + 1, file[f"0.{name}"][0][first(file, "cell")])
        for name in ("patch", "cell")
    ],
    "positions without end": lambda said, _: said["state"]["held"]["cursor"].update(next=1 << 40),
    "a cursor that is elsewhere": lambda said, _: said["state"]["held"]["cursor"].update(pace=0.0),
    "more tokens": lambda said, _: said["state"]["held"].update(tokens=said["state"]["held"]["tokens"] + 1),
    "another prompt": lambda said, _: said["state"]["held"].update(prompt=said["state"]["held"]["prompt"] - 1),
    "longer turns": lambda said, _: said["state"]["held"].update(turns=[500]),
    "a run of cells": lambda said, _: said["state"]["held"].update(run=[0, said["state"]["held"]["cells"]]),
    "a word that is none": lambda said, _: said["state"]["pending"]["said"]["turns"][0].__setitem__(0, 1 << 30),
    "frames of another size": lambda said, _: said["state"]["pending"].update(size=[640, 640]),
    "frames without end": lambda said, _: said["state"]["pending"].update(size=[1 << 20, 1 << 20]),
    "pixels without end": lambda said, _: said["config"].update(pixels=[1 << 40, 1 << 50]),
    "a grid without end": lambda said, _: said["state"]["grids"][0].update(rows=1 << 40),
    "a memory without end": lambda said, _: said["config"].update(memory=1 << 50),
    "a block of its own": lambda said, _: said["state"]["pending"].update(block=99),
    "frames that are over": lambda said, _: said["state"]["pending"].update(time=0.0),
    "a caption without end": lambda said, _: said["state"]["pending"].update(frames=0),
}


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A model, and a saved stream that holds cells, captions, turns and what waits."""
    model, path = build("qwen3_vl"), tmp_path_factory.mktemp("captioned") / "stream"
    with model.stream(**small(model)) as stream:
        list(played(model, stream, frames=35))
        stream.save(path)
    return model, path


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_is_found(captioned: tuple[Model, Path], lie: str, tmp_path: Path) -> None:
    model, good = captioned
    header, document, data = taken_apart(good)
    content, kinds = bytearray(data), {"I32": torch.int32, "F32": torch.float32, "F64": torch.float64}
    file = {}
    for name, entry in header.items():
        if name.startswith("0."):
            start, end = entry["data_offsets"]
            part = torch.frombuffer(content, dtype=torch.uint8)[start:end]
            file[name] = part.view(kinds[entry["dtype"]]).view(entry["shape"])
    LIES[lie](document, file)
    put_together(tmp_path / "stream", header, document, bytes(content))
    with pytest.raises(SnapshotError, match=str(tmp_path)):
        model.restore(tmp_path / "stream")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 8,
        b"\xff" * 64,
        struct.pack("<Q", 1 << 19) + b"[" * (1 << 19),
        struct.pack("<Q", 64) + b'{"__metadata__": {"checksum": "00000000", "text": "{}"}}'.ljust(64),
    ],
)
def test_what_is_no_snapshot_is_a_line(qwen: Model, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "stream").write_bytes(content)
    for path in (tmp_path / "stream", tmp_path, tmp_path / "nothing"):
        with pytest.raises(SnapshotError, match=str(path)):
            qwen.restore(path)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"version": 1}', "7", "null", '{"version": ' + "9" * 5000 + "}"])
def test_documents_that_are_none_are_a_line(qwen: Model, text: str, tmp_path: Path) -> None:
    put_together(tmp_path / "stream", {}, text, b"")
    with pytest.raises(SnapshotError) as raised:
        qwen.restore(tmp_path / "stream")
    assert len(str(raised.value)) < 700


def test_another_model_policy_or_version_is_told(qwen: Model, tmp_path: Path) -> None:
    path = tmp_path / "stream"
    with qwen.stream(**small(qwen)) as stream:
        stream.watch(pictures(1)[0])
        stream.save(path)
    changed = build("qwen2_5_vl")
    with torch.no_grad():
        changed.adapter.model.lm_head.weight[0, 0] += 1
    for other, what in (
        (changed, "fingerprint"),
        (build("qwen2_vl"), "model_type 'qwen2_5_vl', not 'qwen2_vl'"),
        (Model("", type(qwen.adapter)(build("qwen2_5_vl").adapter.model.bfloat16(), qwen.adapter.processor)), "dtype"),
    ):
        with pytest.raises(SnapshotError, match=f"is of another model .*{what}"):
            other.restore(path)
    same_weights = build("qwen2_5_vl")
    assert isinstance(same_weights.restore(path), Stream)
    for key, value, what in (
        ("version", 1, "has version 1 of the layout, and this infinipot reads 3"),
        ("policy", "gone:x=1", 'unknown policy: "gone"'),
        ("policy", "random:seed=-1", "not possible"),
    ):
        header, document, data = taken_apart(path)
        put_together(tmp_path / "other", header, document | {key: value}, data)
        with pytest.raises(SnapshotError, match=what):
            qwen.restore(tmp_path / "other")


def test_a_release_of_transformers_with_more_options_leaves_the_model_the_same(
    qwen: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option of the decoder that is as by default says nothing; one that is not does."""
    path, text = tmp_path / "stream", type(qwen.adapter.model.config.text_config)
    with qwen.stream(**small(qwen)) as stream:
        stream.watch(pictures(1)[0])
        stream.save(path)
    plain = text.to_dict
    monkeypatch.setattr(text, "to_dict", lambda config: plain(config) | {"novel_option": 0.1})
    assert isinstance(qwen.restore(path), Stream)
    monkeypatch.setattr(qwen.adapter.model.config.text_config, "rms_norm_eps", 0.5)
    with pytest.raises(SnapshotError, match=r"is of another model .*fingerprint"):
        qwen.restore(path)


def test_a_restored_stream_and_a_fork_give_their_memory_back_at_once(
    captioned: tuple[Model, Path], request: pytest.FixtureRequest
) -> None:
    """Nothing that reading leaves behind waits for the garbage collector."""
    model, path = captioned
    gc.collect()
    gc.disable()
    request.addfinalizer(gc.enable)
    stream = model.restore(path)
    fork = stream.fork()
    left = [weakref.ref(each._state.memory.groups[0].keys) for each in (stream, fork)]
    del stream
    fork.close()
    assert [each() for each in left] == [None, None]
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(path) not in maps.read_text()


def test_sound_is_restored_as_sound(tmp_path: Path) -> None:
    """By the model that was loaded for video: the file says what it is of."""
    hearing, seeing = build("qwen2_5_omni", "audio"), build("qwen2_5_omni")
    with hearing.stream(**small(hearing)) as stream:
        list(played(hearing, stream, frames=12))
        stream.save(tmp_path / "stream")
        other = seeing.restore(tmp_path / "stream")
        assert other.stats().modality == "audio"
        assert same(held(other), held(stream))


def test_what_waits_is_of_the_modality_of_its_stream(tmp_path: Path) -> None:
    path, hearing = tmp_path / "stream", build("qwen2_5_omni", "audio")
    with hearing.stream(**small(hearing)) as stream:
        stream.save(path)
    header, document, data = taken_apart(path)
    waits = document["state"]["pending"]["partial"]
    assert waits == {"samples": None, "time": 0.0, "begun": 0.0, "before": None, "peaks": []}
    document["state"]["pending"]["partial"] = {"frames": []}
    put_together(path, {name: entry for name, entry in header.items() if ".partial." not in name}, document, data)
    with pytest.raises(SnapshotError, match="of another modality"):
        hearing.restore(path)


def test_what_is_wrong_of_frames_that_wait_is_named_by_their_fields() -> None:
    """And not by those of sound, which might wait in their place."""
    damaged = {"frames": [{"image": None, "time": "x"}]}
    with pytest.raises(PlainError, match=r"^partial\.frames\.0\.time is not of type float"):
        from_plain(Waiting, damaged, "partial", lambda name: torch.zeros(4, 4, 3, dtype=torch.uint8))


@pytest.mark.parametrize("number", [10**400, -(10**400), math.inf, math.nan, True], ids=lambda number: str(number)[:5])
def test_no_number_is_too_long_to_be_refused(number: float) -> None:
    with pytest.raises(PlainError, match=r"^time is not of type float"):
        from_plain(float, number, "time", lambda name: torch.zeros(0))


# Of each part of a stream's state, what a file of version 3 calls its fields.
FIELDS = {
    "state": {"held", "grids", "peak", "pending", "asked_tokens", "dense_after", "seconds"},
    "state.held": {"tokens", "cells", "run", "captions", "prompt", "turns", "turns_gone", "cursor"}
    | {"seen", "compressions", "rebases"},
    "state.held.cursor": {"next", "first", "base", "open", "began", "origin", "started", "index", "pace"}
    | {"newest", "latest", "step", "patch", "spans"},
    "state.grids": {"rows", "columns", "first_cell"},
    "state.pending": {
        "partial",
        "patches",
        "frames",
        "time",
        "size",
        "grid",
        "block",
        "said",
        "shown",
        "gated",
        "recent",
    },
    "state.pending.partial": {"frames"},
    "state.pending.partial.frames": {"image", "time"},
    "state.pending.patches": {"pixels", "rows", "columns", "times", "steps", "cells"},
    "state.pending.grid": {"rows", "columns", "first_cell"},
    "state.pending.said": {"captions", "turns"},
    "state.seconds": {"vision", "prefill", "compress", "look_again", "answer"},
}


def fields_of(value: Any, name: str) -> dict[str, set[str]]:
    """The keys of every object in a value, by the names that lead to it."""
    if isinstance(value, list):
        return fields_of(value[0], name) if value else {}
    if not isinstance(value, dict):
        return {}
    below = (fields_of(each, f"{name}.{key}") for key, each in value.items())
    return {name: {*value}} | {key: names for each in below for key, names in each.items()}


def test_files_keep_the_fields_of_their_version(qwen: Model, tmp_path: Path) -> None:
    """A file is read by later code of the same version: whoever changes these fields changes the version."""
    with qwen.stream(memory=512, block=4, policy="infinipot-v") as stream:
        for image in pictures(13):
            stream.watch(image)
        stream.save(tmp_path / "stream")
    document = taken_apart(tmp_path / "stream")[1]
    assert document["version"] == 3
    assert fields_of(document["state"], "state") == FIELDS
