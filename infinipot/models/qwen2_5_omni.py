"""The thinker of Qwen2.5-Omni (arXiv 2503.20215): what sees, hears and answers. Its talker is left out."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration

from infinipot.errors import SettingError
from infinipot.memory import PositionRule, Rotary
from infinipot.models.base import PARITY, device_of
from infinipot.models.patch import Patch
from infinipot.models.qwen2_vl import Qwen25VL
from infinipot.models.sound import SoundGatherer, Spectrum


class Qwen25Omni(Qwen25VL):
    """As Qwen2.5-VL; positions a second and pixels a frame stand elsewhere. Takes whole Omni checkpoints, too."""

    model_types = ("qwen2_5_omni", "qwen2_5_omni_thinker")
    title = "Qwen2.5-Omni"
    checked = f"{PARITY}; pictures only"
    loader: ClassVar[Any] = Qwen2_5OmniThinkerForConditionalGeneration
    processor_loader: ClassVar[Any] = Qwen2_5OmniProcessor  # of a thinker alone, transformers does not know it

    def _checkpoint_pixels(self) -> tuple[int, int]:
        size = self.processor.videos_kwargs["size"]  # goes before the video processor's own
        return size["shortest_edge"], size["longest_edge"]

    def position_rule(self) -> PositionRule:
        return PositionRule(tokens_per_second=self.model.config.position_id_per_seconds)


class Qwen25OmniSound(Qwen25Omni):
    """Sound without pictures: chunks of 2 s that the audio encoder takes one by one, 25 tokens a second.

    A token is a temporal patch of one cell, and stands at one position on all axes, one after the other.
    """

    title = "Qwen2.5-Omni, sound"
    checked = f"{PARITY}, spectra in place of pixels; sound only: modality='audio'"
    modality = "audio"

    @cached_property
    def spectrum(self) -> Spectrum:
        """How samples become what the encoder takes."""
        return Spectrum.of(self.processor.feature_extractor, 2 * self.model.config.audio_config.n_window)

    def frame_pixels(self, room: int | None = None) -> None:
        return None

    def frame_cells(self, pixels: tuple[int, int] | None) -> int:
        return 1

    def gatherer(self, pixels: tuple[int, int] | None = None) -> SoundGatherer:
        if pixels is not None:
            raise SettingError(f"pixels={pixels!r} are for video; this stream is of sound")
        return SoundGatherer(self.spectrum)

    def encode(self, patches: Sequence[Patch]) -> Tensor:
        # Each chunk as a clip of its own, whatever its length: no chunk depends on another.
        windows = [patch.pixels.T for patch in patches]
        device = device_of(self.model.model.audio_tower)
        features = pad_sequence(windows, batch_first=True).transpose(1, 2).to(device)
        there = pad_sequence([torch.ones(len(each), dtype=torch.int64) for each in windows], batch_first=True)
        tokens: Tensor = self.model.model.get_audio_features(features, there.to(device)).last_hidden_state
        return tokens

    def position_rule(self) -> PositionRule:
        return PositionRule(flat=True)

    def rotary(self) -> Rotary:
        return Rotary(self.language_model.rotary_emb.inv_freq)  # all axes of a sound's positions are alike

    @property
    def placeholder(self) -> str:
        return str(self.processor.audio_token)

    @property
    def _cell_token(self) -> str:
        return str(self.processor.audio_token)
