"""Qwen3-VL (arXiv 2511.21631), dense and mixture of experts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import Qwen3Config

from infinipot.memory import PositionRule, Rotary, Step
from infinipot.models.base import PARITY
from infinipot.models.patch import Clip, Patch
from infinipot.models.qwen2_vl import Qwen2VL


class Qwen3VL(Qwen2VL):
    """Each temporal patch after its time in words; rotary axes interleaved; features for the first layers (DeepStack).

    Rows of patches are `[embedding, first layer's feature, second's, ...]` side by side, `[n, (1 + layers) · hidden]`.
    """

    model_types = ("qwen3_vl", "qwen3_vl_moe")
    title = "Qwen3-VL"
    checked = f"{PARITY}; dense and mixture of experts"
    # transformers has a plan for the mixture of experts only; the dense decoder is shared out as Qwen3's.
    tp_plan: ClassVar[Mapping[str, str]] = {
        f"model.language_model.{name}": style for name, style in (Qwen3Config.base_model_tp_plan or {}).items()
    }

    @property
    def placeholder(self) -> str:
        """The placeholder with vision-start and vision-end around it, since every patch brings its own."""
        return f"{self._start}{self.processor.video_token}{self._end}"

    @property
    def _start(self) -> str:
        return str(self.processor.vision_start_token)

    @property
    def _end(self) -> str:
        return str(self.processor.vision_end_token)

    def caption(self, times: Sequence[float], number: int, *, opens: bool) -> tuple[str, str]:
        """The mean of the patch's first and last time, between its vision-start and vision-end."""
        return f"<{(times[0] + times[-1]) / 2:.1f} seconds>{self._start}", self._end

    def patchify(self, clips: Sequence[Clip], pixels: tuple[int, int] | None = None) -> list[Patch]:
        # The processor counts pixels over all frames of a video; here it sees those of one patch, always a full one.
        full = [(*clip, *[clip[-1]] * (self.patch_frames - len(clip))) for clip in clips]
        least, most = pixels or self._frame_pixels()
        made = super().patchify(full, (least * self.patch_frames, most * self.patch_frames))
        return [replace(patch, times=patch.times[: len(clip)]) for patch, clip in zip(made, clips, strict=True)]

    def _checkpoint_pixels(self) -> tuple[int, int]:
        least, most = super()._checkpoint_pixels()
        return -(-least // self.patch_frames), most // self.patch_frames

    def encode(self, patches: Sequence[Patch]) -> Tensor:
        encoded = self._encoded(patches)
        deeper = getattr(encoded, "deepstack_features", None) or ()
        return torch.cat([torch.cat(list(part)) for part in (encoded.pooler_output, *deeper)], -1)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Text among patches gets zeros for the features that it does not have."""
        width = max(part.shape[1] for part in parts)
        return super().join([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])

    def forward(self, embeddings: Tensor, *steps: Step) -> Tensor:
        first, *deeper = embeddings.split(self._text_config.hidden_size, dim=1)
        features: dict[str, Any] = {}
        if deeper:
            # In place of a mask the number of the one sequence: the same rows, without looking up on the host which.
            everywhere = torch.zeros(1, dtype=torch.int64, device=first.device)
            features = {"visual_pos_masks": everywhere, "deepstack_visual_embeds": deeper}
        return self._decode(steps, inputs_embeds=first.unsqueeze(0), **features)

    def position_rule(self) -> PositionRule:
        return PositionRule()

    def rotary(self) -> Rotary:
        rotary_emb = self.language_model.rotary_emb
        axes = [0] * len(rotary_emb.inv_freq)
        for axis in (1, 2):  # every third frequency, as far as the section of the axis goes; the rest are time's
            width = 3 * rotary_emb.mrope_section[axis]
            axes[axis:width:3] = [axis] * len(axes[axis:width:3])
        return Rotary(rotary_emb.inv_freq, axes)
