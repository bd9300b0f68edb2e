"""Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from infinipot.memory import PositionRule, Rotary
from infinipot.models.base import PARITY, Adapter, device_of
from infinipot.models.patch import Clip, Patch, apart
from infinipot.models.pictures import SIDE


class Qwen2VL(Adapter):
    """Two frames a temporal patch, 2 x 2 patches merged to a cell, multimodal rotary positions in three chunks.

    Class attributes:
        frame_range: cells that a frame of a video has at least and at the most, as transformers' video processors and
            qwen-vl-utils have it: 128 and 768. Checkpoints may bring the ceiling for images in its place, 20 times it.
    """

    frame_range: ClassVar[tuple[int, int]] = (128, 768)
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl",)
    title = "Qwen2-VL"
    patch_frames = 2
    checked = (
        f"{PARITY}; text after a video positioned as in training, not as in transformers 5; recorded runs of the "
        "published method repeated to the index"
    )

    def patchify(self, clips: Sequence[Clip], pixels: tuple[int, int] | None = None) -> list[Patch]:
        processor = self.processor.video_processor
        least, most = pixels or self._frame_pixels()
        options: dict[str, Any] = {"size": {"shortest_edge": least, "longest_edge": most}}
        if hasattr(processor, "cap_pixels_per_frame"):
            options["cap_pixels_per_frame"] = False  # a ceiling for longer videos, which a stream does not have
        videos = [torch.from_numpy(np.stack([frame.image for frame in clip])).permute(0, 3, 1, 2) for clip in clips]
        made = processor(videos=videos, do_sample_frames=False, return_tensors="pt", **options)
        _, height, width = made["video_grid_thw"][0].tolist()
        grid = height // processor.merge_size, width // processor.merge_size
        return [
            Patch(own, *grid, tuple(frame.time for frame in clip))
            for own, clip in zip(apart(made["pixel_values_videos"], len(clips)), clips, strict=True)
        ]

    def _blocks(self, patch: Patch) -> Tensor:
        processor = self.processor.video_processor
        side, merge = processor.patch_size, processor.merge_size
        # A row of pixels is one of the 2 x 2 patches of a cell: [channels, frames, side, side].
        blocks = adaptive_avg_pool2d(patch.pixels.view(len(patch.pixels), -1, side, side), SIDE // merge)
        parted = blocks.view(patch.rows, patch.columns, merge, merge, 3, -1, *blocks.shape[2:])
        return parted.permute(5, 4, 0, 2, 6, 1, 3, 7).flatten(5).flatten(2, 4)

    def frame_pixels(self, room: int | None = None) -> tuple[int, int] | None:
        return self._frame_pixels(room)

    def _frame_pixels(self, room: int | None = None) -> tuple[int, int]:
        least, most = self._checkpoint_pixels()
        fewest, ceiling = self.frame_range
        if room is not None:
            ceiling = min(ceiling, max(fewest, room))
        most = min(most, ceiling * self.cell_pixels)
        # A small frame is enlarged to whole cells, which may be twice as many and more where it is a strip.
        fits = most if room is None else max(most, room * self.cell_pixels) // 3
        return min(least, most, fits), most

    @property
    def cell_pixels(self) -> int:
        processor = self.processor.video_processor
        return int((processor.patch_size * processor.merge_size) ** 2)

    def _checkpoint_pixels(self) -> tuple[int, int]:
        """Least and most pixels of a frame as the checkpoint's processor has them."""
        size = self.processor.video_processor.size
        return size["shortest_edge"], size["longest_edge"]

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
        sections = self._text_config.rope_parameters["mrope_section"]
        axes = [chunk % 3 for chunk, width in enumerate(sections) for _ in range(width)]
        return Rotary(self.language_model.rotary_emb.inv_freq, axes)


class Qwen25VL(Qwen2VL):
    """As Qwen2-VL, but temporal positions follow the clock: `tokens_per_second` of them a second."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    title = "Qwen2.5-VL"

    def position_rule(self) -> PositionRule:
        return PositionRule(tokens_per_second=self.model.config.vision_config.tokens_per_second)
