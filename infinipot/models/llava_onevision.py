"""LLaVA-OneVision (arXiv 2408.03326)."""

from typing import Any, ClassVar

from torch import Tensor
from transformers import AutoProcessor

from infinipot.models.base import PARITY
from infinipot.models.llava_next_video import LlavaNextVideo


class LlavaOnevision(LlavaNextVideo):
    """As LLaVA-NeXT-Video, with frames pooled by interpolation, and one newline embedding after a whole video."""

    model_types = ("llava_onevision",)
    processor_loader: ClassVar[Any] = AutoProcessor
    title = "LLaVA-OneVision"
    checked = PARITY

    def closing(self) -> Tensor:
        newline: Tensor = self.model.model.image_newline.detach()
        return newline.unsqueeze(0)

    @property
    def _side(self) -> int:
        return (self._tower_side + 1) // 2
