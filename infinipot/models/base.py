"""What differs between model families, and nothing else. Knows transformers' models, not policies or streams."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from infinipot.errors import ModelError
from infinipot.memory import LayerShape, PositionRule, Rotary
from infinipot.models.chat import ChatFormat, read_chat_format


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """One temporal patch, ready for the vision encoder.

    Attributes:
        pixels: what the family's processor makes of its frames.
        rows, columns: its grid of cells, i.e. of tokens.
        time: of its first frame, in seconds.
    """

    pixels: Tensor
    rows: int
    columns: int
    time: float


class Family(ABC):
    """A loaded model and its processor behind the few operations that a stream needs. Holds no state of a stream.

    Args:
        model: a transformers model for image-text-to-text, in evaluation mode.
        processor: its processor, with tokenizer and chat template; None where only tensors go in and out.

    Class attributes:
        model_types: the `model_type`s of the checkpoints that it runs.
        title: how people call the family.
        patch_frames: frames per temporal patch.
    """

    model_types: ClassVar[tuple[str, ...]]
    title: ClassVar[str]
    patch_frames: ClassVar[int]

    def __init__(self, model: Any, processor: Any = None) -> None:
        self.model = model
        self.processor = processor

    # Vision

    @abstractmethod
    def patchify(self, images: Sequence[np.ndarray], time: float, pixels: tuple[int, int] | None = None) -> Patch:
        """One temporal patch of `patch_frames` images, `[height, width, 3]` uint8; a last odd frame stands twice.

        Args:
            images: the frames.
            time: of the first one, in seconds.
            pixels: least and most pixels of a resized frame; None for the processor's own budget.
        """

    @abstractmethod
    def encode(self, patches: Sequence[Patch]) -> Tensor:
        """The vision encoder's tokens for patches of one grid, `[len(patches) · P, hidden]`."""

    # Language

    @property
    @abstractmethod
    def language_model(self) -> Any:
        """The decoder: runs on embeddings, positions and a cache."""

    @abstractmethod
    def position_rule(self) -> PositionRule:
        """How positions advance with the video."""

    @abstractmethod
    def rotary(self) -> Rotary:
        """How the decoder rotates its keys."""

    @property
    def position_range(self) -> int:
        """Positions the model was trained on: the largest allowed is one less."""
        return int(self._text_config.max_position_embeddings)

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings, `[len(ids), hidden]`."""
        table = self.model.get_input_embeddings()
        return table(torch.tensor(ids, device=table.weight.device))

    def forward(self, embeddings: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """Runs the decoder over `[n, hidden]` embeddings at `[3, n]` positions; returns the last logits, `[vocab]`."""
        output = self.language_model(
            inputs_embeds=embeddings.unsqueeze(0),
            position_ids=positions.to(embeddings.device).unsqueeze(1),
            past_key_values=cache,
            use_cache=True,
        )
        return self.model.lm_head(output.last_hidden_state[0, -1])

    def layer_shapes(self) -> list[LayerShape]:
        """What each layer stores per slot, and where: storage follows its layer."""
        config = self._text_config
        if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
            raise ModelError(f"{self.title} with sliding-window attention layers is not supported")
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return [
            LayerShape(config.num_key_value_heads, head_dim, _device_of(layer), self.model.dtype)
            for layer in self.language_model.layers
        ]

    # Text

    @cached_property
    def _chat(self) -> dict[str | None, ChatFormat]:
        return {}

    def chat(self, system: str | None = None) -> ChatFormat:
        """The texts around videos, questions and answers, by the checkpoint's own chat template."""
        if system not in self._chat:
            self._chat[system] = read_chat_format(self.processor, system)
        return self._chat[system]

    def tokenize(self, text: str, *, plain: bool = False) -> list[int]:
        """Token ids of a piece of a conversation; in a `plain` one what looks like a special token is mere text."""
        tokenizer = self.processor.tokenizer
        return list(tokenizer(text, add_special_tokens=False, split_special_tokens=plain).input_ids)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Text of an answer, without special tokens."""
        return str(self.processor.tokenizer.decode(ids, skip_special_tokens=True))

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ids = self.model.generation_config.eos_token_id
        return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])

    @property
    def _text_config(self) -> Any:
        return self.model.config.get_text_config()


def require_static_rope(parameters: dict[str, Any], name: str) -> None:
    """Raises `ModelError` where the rotation of a key depends on more than its position."""
    kind = parameters.get("rope_type", "default")
    if kind in ("dynamic", "longrope"):
        raise ModelError(f"{name} uses {kind!r} rotary scaling, whose keys change with the length of the prompt")


def _device_of(layer: torch.nn.Module) -> torch.device:
    """The device a layer computes on, also where accelerate keeps its weights elsewhere."""
    hook = getattr(layer, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    return torch.device(device) if device is not None else next(layer.parameters()).device
