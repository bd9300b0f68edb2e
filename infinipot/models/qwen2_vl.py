"""Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from infinipot.memory import PositionRule, Rotary
from infinipot.models.base import PARITY, Family, device_of, require_static_rope
from infinipot.models.patch import Patch


class Qwen2VL(Family):
    """Two frames a temporal patch, 2 x 2 patches merged to a cell, multimodal rotary positions in three chunks.

    Class attributes:
        frame_ceiling: whether the processor's size is a video's and its ceiling for one frame has to be asked for. That
            also shrinks the frames of longer videos, but here the processor sees those of one patch at a time.
    """

    frame_ceiling: ClassVar[bool] = False
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl",)
    title = "Qwen2-VL"
    patch_frames = 2
    checked = f"{PARITY}; the published method's recorded runs repeated to the index"

    def patchify(
        self, images: Sequence[np.ndarray], times: Sequence[float], pixels: tuple[int, int] | None = None
    ) -> Patch:
        processor = self.processor.video_processor
        options: dict[str, Any] = {}
        if pixels is not None:
            options["size"] = {"shortest_edge": pixels[0], "longest_edge": pixels[1]}
        if hasattr(processor, "cap_pixels_per_frame"):
            options["cap_pixels_per_frame"] = self.frame_ceiling and pixels is None
        video = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        made = processor(videos=[video], do_sample_frames=False, return_tensors="pt", **options)
        _, height, width = made["video_grid_thw"][0].tolist()
        merge = processor.merge_size
        return Patch(made["pixel_values_videos"], height // merge, width // merge, tuple(times))

    def encode(self, patches: Sequence[Patch]) -> Tensor:
        return torch.cat(list(self._encoded(patches).pooler_output))

    def _encoded(self, patches: Sequence[Patch]) -> Any:
        """The vision tower's output for patches of one grid."""
        visual = self.model.model.visual
        merge = visual.spatial_merge_size
        grid = [[len(patches), patches[0].rows * merge, patches[0].columns * merge]]
        pixels = torch.cat([patch.pixels for patch in patches])
        device = device_of(visual)
        return self.model.model.get_video_features(pixels.to(device), torch.tensor(grid, device=device))

    @property
    def language_model(self) -> Any:
        return self.model.model.language_model

    def position_rule(self) -> PositionRule:
        return PositionRule(tokens_per_second=None)

    def rotary(self) -> Rotary:
        parameters = self._text_config.rope_parameters
        require_static_rope(parameters, self.title)
        axes = [chunk % 3 for chunk, width in enumerate(parameters["mrope_section"]) for _ in range(width)]
        return Rotary(self.language_model.rotary_emb.inv_freq, axes)


class Qwen25VL(Qwen2VL):
    """As Qwen2-VL, but temporal positions follow the clock: `tokens_per_second` of them a second."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    title = "Qwen2.5-VL"

    def position_rule(self) -> PositionRule:
        return PositionRule(tokens_per_second=self.model.config.vision_config.tokens_per_second)
