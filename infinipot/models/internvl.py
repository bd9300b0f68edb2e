"""InternVL in transformers' own form (arXiv 2412.05271, 2504.10479, 2508.18265): the `-hf` checkpoints.

Decoders are Qwen2, Qwen3, their mixtures of experts, or Llama: all with one position a token.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from infinipot.memory import Rotary
from infinipot.models.base import PARITY, device_of
from infinipot.models.one_size import OneSize
from infinipot.models.patch import Patch


class InternVL(OneSize):
    """Each frame on a line of its own after its number, squeezed to one square size; patches shuffled into cells.

    Frames are numbered through the whole stream, so that a number names one frame in every turn of a dialogue.
    transformers' processor, which sees each video of a conversation as one of its own, begins again at 1.
    """

    model_types: ClassVar[tuple[str, ...]] = ("internvl",)
    title = "InternVL"
    checked = f"{PARITY}; Qwen2, Qwen3 and Llama decoders; differs: frame numbers continue through a stream"

    @property
    def _vision(self) -> Any:
        return self.model.model.vision_tower

    @property
    def _cell(self) -> int:
        """Pixels along an edge of a cell."""
        return int(self._vision.config.patch_size[0] / self.model.config.downsample_ratio)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return height // self._cell, width // self._cell

    def encode(self, patches: Sequence[Patch]) -> Tensor:
        pixels = torch.cat([patch.pixels for patch in patches]).to(device_of(self._vision))
        return self.model.model.get_image_features(pixels).pooler_output.flatten(0, 1)

    def caption(self, times: Sequence[float], number: int, *, opens: bool) -> tuple[str, str]:
        """The frame's number, from 1, and the brackets round its cells."""
        line = "" if opens else "\n"
        return f"{line}Frame{number + 1}: {self.processor.start_image_token}", str(self.processor.end_image_token)

    @property
    def _cell_token(self) -> str:
        return str(self.processor.image_token)

    @property
    def position_range(self) -> int:
        # At the very last position, frequencies that someone's longer prompt grew are not taken back.
        return super().position_range - self._dynamic

    @property
    def position_limit(self) -> int | None:
        return self.position_range if self._dynamic else None

    def require_static_rope(self) -> None:
        if not self._dynamic:
            super().require_static_rope()

    def rotary(self) -> Rotary:
        if not self._dynamic:
            return super().rotary()
        # Not `inv_freq`, which a long prompt of someone else's may have changed on the shared model.
        return Rotary(self.language_model.rotary_emb.original_inv_freq)

    @property
    def _dynamic(self) -> bool:
        """Whether frequencies change with the prompt (InternVL 2.5 and 3): from the end of the trained range on."""
        return bool(self._text_config.rope_parameters.get("rope_type") == "dynamic")
