"""What families have in common whose frames all become one size, and whose decoders count one position a token."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infinipot.memory import PositionRule, Rotary
from infinipot.models.base import Adapter
from infinipot.models.patch import Clip, Patch, apart


class OneSize(Adapter):
    """One frame a temporal patch, resized to what the vision tower takes; flat positions."""

    patch_frames = 1

    @abstractmethod
    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of cells of a frame of so many pixels."""

    def pixels_of(self, video: Tensor) -> Tensor:
        """Frames `[n, 3, h, w]` uint8 as the checkpoint's video processor makes them, `[n, 3, height, width]`."""
        made = self.processor.video_processor(videos=[video], do_sample_frames=False, return_tensors="pt")
        pixels: Tensor = made["pixel_values_videos"][0]
        return pixels

    def patchify(self, clips: Sequence[Clip], pixels: tuple[int, int] | None = None) -> list[Patch]:
        frames = [frame for clip in clips for frame in clip]
        made = self.pixels_of(torch.from_numpy(np.stack([frame.image for frame in frames])).permute(0, 3, 1, 2))
        self.require_pixels(pixels)
        grid = self.grid(*made.shape[-2:])
        return [Patch(own, *grid, (frame.time,)) for own, frame in zip(apart(made, len(frames)), frames, strict=True)]

    def require_pixels(self, pixels: tuple[int, int] | None) -> None:
        if pixels is not None and not pixels[0] <= self.frame_area <= pixels[1]:
            raise ValueError(f"pixels={tuple(pixels)}: {self.title} makes every frame {self.frame_area} pixels large")

    def _least_area(self, pixels: tuple[int, int] | None) -> int:
        return self.frame_area

    @property
    def language_model(self) -> Any:
        return self.model.model.language_model

    def position_rule(self) -> PositionRule:
        return PositionRule(flat=True)

    def rotary(self) -> Rotary:
        return Rotary(self.language_model.rotary_emb.inv_freq)
