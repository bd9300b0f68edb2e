"""Small random models of each family, made by its own classes: no network, no trained weights."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import BUILDERS

from infinipot import Stream
from infinipot.model import Model
from infinipot.models import FAMILIES

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)


def build(name: str, **shape: Any) -> Model:
    """A random model whose answers depend on what it sees; `shape` is its builder's."""
    network, processor = BUILDERS[name](**shape)
    family = next(family for family in FAMILIES if network.config.model_type in family.model_types)
    return Model(f"random {name}", family(network, processor))


@pytest.fixture(
    scope="session", params=sorted({*BUILDERS, *(name for family in FAMILIES for name in family.model_types)})
)
def any_model(request: pytest.FixtureRequest) -> Model:
    """A random model of every type that a family runs, and of every variant that has a builder."""
    return build(request.param)


@pytest.fixture(scope="session", params=[family.model_types[0] for family in FAMILIES])
def model(request: pytest.FixtureRequest) -> Model:
    """One random model of every family."""
    return build(request.param)


@pytest.fixture(scope="session")
def qwen() -> Model:
    """A random Qwen2.5-VL."""
    return build("qwen2_5_vl")


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (64, 64)) -> list[np.ndarray]:
    """`count` random images, `[height, width, 3]` uint8."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8))


def held(stream: Stream) -> list[torch.Tensor]:
    """Everything a stream's memory holds, copied."""
    memory = stream._memory
    parts = [part[: memory.held].clone() for layer in memory.cache.bounded for part in layer.slab.parts()]
    parts += [state.clone() for layer in memory.cache.recurrent for state in layer.states()]
    return [*parts, torch.tensor([memory.held, memory.text, *memory.turns]), torch.tensor(memory.cursor.next)]


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
