"""The thinker of Qwen2.5-Omni (arXiv 2503.20215): what sees and answers. Its talker, and sound, are left out."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from infinipot.memory import PositionRule
from infinipot.models.base import PARITY, Patch
from infinipot.models.qwen2_vl import Qwen25VL


class Qwen25Omni(Qwen25VL):
    """As Qwen2.5-VL; positions a second and pixels a frame stand elsewhere. Takes whole Omni checkpoints, too."""

    model_types = ("qwen2_5_omni", "qwen2_5_omni_thinker")
    title = "Qwen2.5-Omni"
    checked = f"{PARITY}; pictures only, no sound"
    loader: ClassVar[Any] = Qwen2_5OmniThinkerForConditionalGeneration

    def patchify(
        self, images: Sequence[np.ndarray], times: Sequence[float], pixels: tuple[int, int] | None = None
    ) -> Patch:
        if pixels is None:  # this processor has a budget of its own, which goes before its video processor's
            size = self.processor.videos_kwargs["size"]
            pixels = size["shortest_edge"], size["longest_edge"]
        return super().patchify(images, times, pixels)

    def position_rule(self) -> PositionRule:
        return PositionRule(tokens_per_second=self.model.config.position_id_per_seconds)
