"""LLaVA-NeXT-Video (transformers' `llava_next_video`): frames pooled to a quarter of their cells, 1-D positions."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from infinipot.memory import PositionRule, Rotary
from infinipot.models.base import PARITY, Family, Patch, require_static_rope


class LlavaNextVideo(Family):
    """One frame a temporal patch, always of the tower's own size: CLIP or SigLIP; a Llama or Mistral decoder.

    A decoder of full attention only: a Mistral with a `sliding_window` is refused.
    """

    model_types: ClassVar[tuple[str, ...]] = ("llava_next_video",)
    title = "LLaVA-NeXT-Video"
    patch_frames = 1
    checked = f"{PARITY}: CLIP with Llama, SigLIP with Mistral; a sliding window is refused"

    def patchify(
        self, images: Sequence[np.ndarray], times: Sequence[float], pixels: tuple[int, int] | None = None
    ) -> Patch:
        video = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        made = self.processor.video_processor(videos=[video], do_sample_frames=False, return_tensors="pt")
        frames = made["pixel_values_videos"][0]
        height, width = frames.shape[-2:]
        if pixels is not None and not pixels[0] <= height * width <= pixels[1]:
            raise ValueError(
                f"{self.title} resizes every frame to {width} x {height} = {height * width} pixels, "
                f"which is not within pixels={tuple(pixels)}"
            )
        return Patch(frames, self._side, self._side, tuple(times))

    def encode(self, patches: Sequence[Patch]) -> Tensor:
        network = self.model.model
        pixels = torch.cat([patch.pixels for patch in patches]).to(network.vision_tower.device)
        features = network.get_video_features(pixels.unsqueeze(0)).pooler_output[0]
        # Behind the cells there may be what closes a whole video: see `closing`.
        return features[: len(patches) * self._side**2]

    @property
    def _side(self) -> int:
        """Rows, and columns, of a pooled frame."""
        return self._tower_side // int(self.model.config.spatial_pool_stride)

    @property
    def _tower_side(self) -> int:
        vision = self.model.config.vision_config
        return int(vision.image_size // vision.patch_size)

    @property
    def language_model(self) -> Any:
        return self.model.model.language_model

    def position_rule(self) -> PositionRule:
        return PositionRule(flat=True)

    def rotary(self) -> Rotary:
        require_static_rope(self._text_config.rope_parameters, self.title)
        frequencies = self.language_model.rotary_emb.inv_freq
        return Rotary(frequencies, [0] * len(frequencies))
