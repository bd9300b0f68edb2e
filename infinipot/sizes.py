"""The bytes of memories, computed before any weight is read: for well-known checkpoints and any configuration.

Knows what a stream allocates (`Model.stream_bytes` says the same of a model that is loaded), nothing of videos.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from infinipot.checkpoint import Checkpoint
from infinipot.memory import LayerShape, PositionRule, StateShape, allocated_bytes, stored_columns, token_bytes
from infinipot.models.base import Adapter
from infinipot.policies.base import Policy

_PLACE = torch.device("cpu"), torch.bfloat16
Shape = LayerShape | StateShape


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The dimensions that determine the bytes of a token in a checkpoint's decoder; from its config.json.

    Attributes:
        name: of the checkpoint.
        layers: that store keys and values.
        kv_heads: of a layer.
        head_dim: entries of a key.
        flat: whether positions have no rows and columns.
        states: what each layer with a recurrent state stores.
    """

    name: str
    layers: int
    kv_heads: int
    head_dim: int
    flat: bool = False
    states: tuple[StateShape, ...] = ()


_QWEN35_STATE = StateShape((1, 8192, 4), (1, 32, 128, 128), *_PLACE)
PUBLISHED = (
    DecoderShape("Qwen/Qwen2-VL-7B-Instruct", 28, 4, 128),
    DecoderShape("Qwen/Qwen2.5-VL-3B-Instruct", 36, 2, 128),
    DecoderShape("Qwen/Qwen2.5-VL-7B-Instruct", 28, 4, 128),
    DecoderShape("Qwen/Qwen2.5-VL-72B-Instruct", 80, 8, 128),
    DecoderShape("Qwen/Qwen3-VL-8B-Instruct", 36, 8, 128),
    DecoderShape("Qwen/Qwen3.5-9B", 8, 4, 256, states=(_QWEN35_STATE,) * 24),
    DecoderShape("Qwen/Qwen2.5-Omni-7B", 28, 4, 128),
    DecoderShape("llava-hf/llava-onevision-qwen2-7b-ov-hf", 28, 4, 128, flat=True),
    DecoderShape("llava-hf/LLaVA-NeXT-Video-7B-hf", 32, 32, 128, flat=True),
    DecoderShape("OpenGVLab/InternVL3-8B-hf", 28, 4, 128, flat=True),
    DecoderShape("HuggingFaceTB/SmolVLM2-2.2B-Instruct", 24, 32, 64, flat=True),
)


@dataclass(frozen=True, slots=True)
class Size:
    """The bytes of memories of several caps with one checkpoint.

    Attributes:
        name: of the checkpoint.
        token: bytes of a token of memory over all layers, its share of what is allocated beside keys and values too.
        memories: bytes that a stream allocates, in the order of the caps.
        weights: bytes of the weights, where the checkpoint was looked at; None for quantized ones, of which only their
            library knows how they lie.
    """

    name: str
    token: int
    memories: tuple[int, ...]
    weights: int | None = None


def published_sizes(caps: Sequence[int], policy: Policy) -> Iterator[Size]:
    """Yields what memories take with well-known checkpoints of each family, in bfloat16."""
    for each in PUBLISHED:
        shapes = [LayerShape(each.kv_heads, each.head_dim, *_PLACE)] * each.layers
        yield _size(each.name, [*shapes, *each.states], PositionRule(flat=each.flat), caps, policy)


def size_of(model: str, caps: Sequence[int], policy: Policy) -> Size:
    """Returns what memories take with this checkpoint, a folder or hub id of which only config.json is read.

    Raises:
        ModelError: there is no such checkpoint, or its family is not supported.
    """
    checkpoint = Checkpoint(model, None)
    adapter = _outline(checkpoint.adapter(), checkpoint.configuration())
    size = _size(model, adapter.layer_shapes(), adapter.position_rule(), caps, policy)
    if getattr(adapter.model.config, "quantization_config", None):
        return size
    return replace(size, weights=sum(part.nbytes for part in adapter.model.parameters()))


def _outline(adapter: type[Adapter], config: Any) -> Adapter:
    """Returns the adapter of a network that has shapes, but no weights and no processor."""
    make = getattr(adapter.loader, "from_config", None) or adapter.loader._from_config
    kind, whole = getattr(adapter.loader, "config_class", None), config
    if kind is not None and not isinstance(config, kind):  # a part of a larger checkpoint
        config = next(part for part in vars(config).values() if isinstance(part, kind))
    # Qwen3-VL's configurations name the type of the weights with the decoder alone.
    dtypes = (part.dtype for part in (whole, config, config.get_text_config()) if part.dtype is not None)
    with torch.device("meta"):
        return adapter(make(config, dtype=next(dtypes, torch.float32)))


def _size(name: str, shapes: Sequence[Shape], rule: PositionRule, caps: Sequence[int], policy: Policy) -> Size:
    columns = stored_columns(rule, policy.stored)
    memories = tuple(allocated_bytes(cap, shapes, columns) for cap in caps)
    return Size(name, token_bytes(shapes, columns), memories)
