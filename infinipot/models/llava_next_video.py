"""LLaVA-NeXT-Video (transformers' `llava_next_video`): frames pooled to a quarter of their cells, 1-D positions."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import transformers
from torch import Tensor

from infinipot.models.base import PARITY, device_of
from infinipot.models.one_size import OneSize
from infinipot.models.patch import Patch


class LlavaNextVideoProcessor(transformers.LlavaNextVideoProcessor):
    """As transformers has it, with the part for videos named.

    A checkpoint may name its part for pictures alone, as those of 2024 do (LlavaNextImageProcessor). transformers then
    puts "Video" for "Image", which is the name of the whole, and loads that for a part of itself without end.
    """

    video_processor_class = "LlavaNextVideoVideoProcessor"


class LlavaNextVideo(OneSize):
    """One frame a temporal patch, always of the tower's own size: CLIP or SigLIP; a Llama or Mistral decoder.

    A decoder of full attention only: a Mistral with a `sliding_window` is refused.
    """

    model_types: ClassVar[tuple[str, ...]] = ("llava_next_video",)
    title = "LLaVA-NeXT-Video"
    processor_loader: ClassVar[Any] = LlavaNextVideoProcessor
    checked = f"{PARITY}; CLIP with Llama, SigLIP with Mistral; a sliding window is refused"

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return self._side, self._side

    def encode(self, patches: Sequence[Patch]) -> Tensor:
        network = self.model.model
        pixels = torch.cat([patch.pixels for patch in patches]).to(device_of(network.vision_tower))
        features = network.get_video_features(pixels.unsqueeze(0)).pooler_output[0]
        # After the cells there may be what closes a whole video: see `closing`.
        return features[: len(patches) * self._side**2]

    @property
    def _side(self) -> int:
        """Rows, and columns, of a pooled frame."""
        return self._tower_side // int(self.model.config.spatial_pool_stride)

    @property
    def _tower_side(self) -> int:
        vision = self.model.config.vision_config
        return int(vision.image_size // vision.patch_size)
