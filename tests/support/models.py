"""Small random models of each family, made by its own classes, and what their streams are given."""

from typing import Any

import numpy as np
import pytest
from torch import Tensor

from infinipot import Stream
from infinipot.audio import RATE
from infinipot.model import Model
from infinipot.models import ADAPTERS
from support.adapters import BUILDERS


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
    take = stream.listen if stream._setup.adapter.modality == "audio" else stream.watch
    take(content, time)


def logits(model: Model, stream: Stream, **how: Any) -> Tensor:
    """Those behind a question, which is asked as `how` says."""
    found: list[Tensor] = []
    forward = type(model.adapter).forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.adapter), "forward", lambda *args: found.append(forward(*args)) or found[-1])
        stream.ask("What?", max_new_tokens=1, **how)
    return found[-1]
