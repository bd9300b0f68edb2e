"""SmolVLM2 (arXiv 2504.05299). Its processor needs the package num2words (the extra `smolvlm`)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from infinipot.models.base import PARITY, device_of
from infinipot.models.chat import ChatFormat
from infinipot.models.internvl import InternVL
from infinipot.models.patch import Patch

# transformers' processor says how many frames there are and how long the video is. A stream cannot know, and
# anything it said would be wrong a frame later: it says the same without the numbers.
INTRO = "You are provided the following series of frames from a video.\n"
OUTRO = "\n\n"


class SmolVLM(InternVL):
    """Each frame after its time, in minutes and seconds; squeezed to one square size; patches shuffled into cells."""

    model_types = ("smolvlm",)
    title = "SmolVLM"
    checked = f"{PARITY}; differs: no number of frames or duration in the introduction"

    @property
    def _vision(self) -> Any:
        return self.model.model.vision_model

    @property
    def _cell(self) -> int:
        return int(self._vision.config.patch_size * self.model.config.scale_factor)

    def pixels_of(self, video: Tensor) -> Tensor:
        made = self.processor.video_processor(videos=[video], do_sample_frames=False, return_tensors="pt")
        pixels: Tensor = made["pixel_values"][0]
        return pixels

    def encode(self, patches: Sequence[Patch]) -> Tensor:
        pixels = torch.cat([patch.pixels for patch in patches]).to(device_of(self._vision))
        return torch.cat(list(self.model.model.get_image_features(pixels.unsqueeze(0)).pooler_output))

    def caption(self, times: Sequence[float], number: int, *, opens: bool) -> tuple[str, str]:
        """The frame's time, and the tokens round its cells."""
        # Times are sums of frame periods: what is meant to be a whole second may miss it by a rounding error.
        seconds = int(times[0] + 1e-6)
        fake = str(self.processor.fake_image_token)
        return f"\nFrame from {seconds // 60:02d}:{seconds % 60:02d}:{fake}{self.processor.global_image_token}", fake

    def chat(self, system: str | None = None) -> ChatFormat:
        """The template's texts, with those that the processor puts before and after a video."""
        read = super().chat(system)
        return replace(
            read,
            opening=read.opening + INTRO,
            before_question=OUTRO + read.before_question,
            reopening=read.reopening + INTRO,
        )

    @property
    def language_model(self) -> Any:
        return self.model.model.text_model
