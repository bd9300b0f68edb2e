"""Small random models of each family, made by its own classes: no network, no trained weights."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from adapters import BUILDERS
from hypothesis import settings

from infinipot import Stream
from infinipot.audio import RATE, Sound
from infinipot.memory import Memory
from infinipot.model import Model
from infinipot.models import ADAPTERS
from infinipot.tokens import take
from infinipot.video import Frame

if TYPE_CHECKING:
    from serving import Running

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)
settings.register_profile("infinipot", deadline=None)  # a busy machine is no failure
settings.load_profile("infinipot")


@contextmanager
def hearing_ctrl_c() -> Iterator[None]:
    """Inside, SIGINT raises KeyboardInterrupt; a shell's background jobs start deaf to it, and so do their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Has Ctrl-C heard throughout a test."""
    with hearing_ctrl_c():
        yield


def build(name: str, modality: str = "video", **shape: Any) -> Model:
    """A random model whose answers depend on what it is given; `shape` is its builder's."""
    network, processor = BUILDERS[name](**shape)
    kinds = [adapter for adapter in ADAPTERS if network.config.model_type in adapter.model_types]
    adapter = next(adapter for adapter in kinds if adapter.modality == modality)
    return Model(f"random {name}", adapter(network, processor))


SEEING = {name: (name, "video") for name in BUILDERS}
HEARING = {f"{name}-{each.modality}": (name, each.modality) for each in ADAPTERS for name in each.model_types}
ANY = {**SEEING, **{label: kind for label, kind in HEARING.items() if kind not in SEEING.values()}}
ONE_OF_EACH = [(adapter.model_types[0], adapter.modality) for adapter in ADAPTERS]


@pytest.fixture(scope="session", params=ANY.values(), ids=ANY)
def any_model(request: pytest.FixtureRequest) -> Model:
    """A random model of every type that a family runs, and of every variant that has a builder."""
    return build(*request.param)


@pytest.fixture(scope="session", params=[kind for kind in ANY.values() if kind[1] == "video"], ids="-".join)
def any_seeing(request: pytest.FixtureRequest) -> Model:
    """Those of them that watch."""
    return build(*request.param)


@pytest.fixture(scope="session", params=ONE_OF_EACH, ids="-".join)
def model(request: pytest.FixtureRequest) -> Model:
    """One random model of every family."""
    return build(*request.param)


@pytest.fixture(scope="session", params=[kind for kind in ONE_OF_EACH if kind[1] == "video"], ids="-".join)
def seeing(request: pytest.FixtureRequest) -> Model:
    """One of every family that watches."""
    return build(*request.param)


@pytest.fixture(scope="session")
def qwen() -> Model:
    """A random Qwen2.5-VL."""
    return build("qwen2_5_vl")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Running"]:
    """A server with the embedded model, keys and snapshots, for all tests that leave it as it was."""
    from serving import keys_file, running

    folder = tmp_path_factory.mktemp("served")
    (folder / "media").mkdir()
    given = {"api_keys": keys_file(folder), "snapshots": folder / "snapshots", "media_root": folder / "media"}
    limits = {"session_idle_seconds": 20, "frames_per_second": 1000, "decode_seconds": 20}
    with running(**given, snapshot_seconds=3600, limits=limits) as server:
        yield server


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (64, 64)) -> list[np.ndarray]:
    """`count` random images, `[height, width, 3]` uint8."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8))


def noises(count: int, seed: int = 0, seconds: float = 0.7) -> list[np.ndarray]:
    """`count` pieces of random sound, `[n]` float32: hissing and humming, now loud, now soft."""
    generator, samples = np.random.default_rng(seed), round(seconds * RATE)
    hiss = generator.normal(0, 0.1, (count, samples))
    pitch, tones = generator.uniform(100, 4000, (count, 1 + samples // 1600)), np.arange(samples) // 1600
    loud = 10 ** generator.uniform(-1, 0, pitch.shape)
    hum = np.sin(2 * np.pi * pitch[:, tones] * np.arange(samples) / RATE)
    return list(((hiss + 0.3 * hum) * loud[:, tones]).astype(np.float32))


def given(model: Model, count: int, seed: int = 0) -> list[np.ndarray]:
    """What a stream of the model takes: pictures, or pieces of sound."""
    return (noises if model.adapter.modality == "audio" else pictures)(count, seed)


def give(stream: Stream, content: np.ndarray, time: float | None = None) -> None:
    """Has a stream watch, or listen."""
    if stream._setup.adapter.modality == "audio":
        stream.listen(content if time is None else Sound(content, time))
    else:
        stream.watch(content if time is None else Frame(content, time))


def parts(memory: Memory) -> list[torch.Tensor]:
    """All that the held slots store, as it lies: views of it."""
    stored = [part for group in memory.groups for part in (group.keys, group.values, *group.columns.values())]
    return [part[:, : memory.held] for part in stored]


def held(stream: Stream) -> list[torch.Tensor]:
    """Everything a stream's memory holds, copied."""
    memory = stream._state.memory
    copies = [part.clone() for part in parts(memory)]
    copies += [state.clone() for layer in memory.states.recurrent for state in layer.states()]
    return [*copies, torch.tensor([memory.held, memory.text, *memory.turns]), torch.tensor(memory.cursor.next)]


@dataclass(frozen=True)
class Slots:
    """What one layer holds, in order of arrival, text first and captions behind it: `[kv_heads, held]` each.

    Attributes:
        base: of cells where their patch's layout begins; of text its own position.
        keys: as a model makes them, turned to their positions, and raw: without; `[kv_heads, held, head_dim]`.
        values: `[kv_heads, held, head_dim]`.
    """

    patch: torch.Tensor
    cell: torch.Tensor
    temporal: torch.Tensor
    base: torch.Tensor
    time: torch.Tensor
    keys: torch.Tensor
    raw: torch.Tensor
    values: torch.Tensor


def slots(memory: Memory, layer: int = 0) -> Slots:
    """What a layer of a memory holds, by its number among those that hold slots."""
    group = next(group for group in memory.groups if layer in group.layers)
    rows = group.rows_of(layer)
    columns = {name: column[rows, : memory.held].long() for name, column in group.columns.items() if name != "time"}
    time = group.columns["time"][rows, : memory.held]
    cell, patch, temporal = columns["cell"], columns["patch"], columns["temporal"]
    first = torch.zeros_like(cell)
    for grid in memory.grids:
        inside = (cell >= grid.first_cell) & (cell < grid.first_cell + grid.cells)
        first = torch.where(inside, (cell - grid.first_cell) // grid.columns, first)
    base = columns["base"] if "base" in columns else columns["height"] - first
    positions = [group.columns[axis][rows, : memory.held] for axis in group.axes]
    raw, rotary = group.keys[rows, : memory.held], memory.rotary
    turned = rotary.rotate_(raw.to(torch.float32, copy=True), rotary.angles(positions, memory.cursor.next))
    kind = torch.where(patch < 0, 0, torch.where(cell < 0, 1, 2))
    place = (((kind << 20) + patch.clamp_min(0)) * 4096 + cell.clamp_min(-1)) * (1 << 20) + temporal
    order = place.argsort(dim=1, stable=True)
    plain = (part.gather(1, order) for part in (patch, cell.clamp_min(-1), temporal, base, time))
    states = rotary.to_model(turned), rotary.to_model(raw), group.values[rows, : memory.held]
    return Slots(*plain, *(take(part, order) for part in states))


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Boom(BaseException):
    """Neither an Exception nor anything that one would catch: like Ctrl-C."""


def fail_at(patch: pytest.MonkeyPatch, owner: object, name: str, countdown: int) -> None:
    """Makes the `countdown`th call of a method raise."""
    method: Callable = getattr(owner, name)
    left = [countdown]

    def failing(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            raise Boom
        return method(*args, **kwargs)

    patch.setattr(owner, name, failing)


def reference_dir() -> Path:
    """The folder of reference traces: the one asked for, the one beside the project, or the subset in tests/data."""
    here = Path(__file__).resolve().parent
    beside = here.parents[1] / "shared" / "reference"
    asked = os.environ.get("INFINIPOT_REFERENCE_DIR")
    return Path(asked) if asked else beside if beside.is_dir() else here / "data" / "reference"
