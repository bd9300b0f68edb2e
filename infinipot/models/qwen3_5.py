"""Qwen3.5, dense and mixture of experts: three layers of four are linear attention with a state of constant size."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from infinipot.memory import LayerShape, StateShape
from infinipot.models.base import device_of
from infinipot.models.qwen3_vl import Qwen3VL


class Qwen35(Qwen3VL):
    """As Qwen3-VL without DeepStack; the cap is for the layers of full attention, the others keep a recurrent state."""

    model_types = ("qwen3_5", "qwen3_5_moe")
    title = "Qwen3.5"
    tp_plan: ClassVar[Mapping[str, str]] = {}

    def attention_mask(self, device: torch.device) -> Any:
        """Kinds of layers have masks of their own, and none needs one."""
        return dict.fromkeys(set(self._text_config.layer_types))

    def layer_shapes(self) -> list[LayerShape | StateShape]:
        return [
            self._state_shape(layer.linear_attn) if kind == "linear_attention" else self._slot_shape(layer)
            for layer, kind in zip(self.language_model.layers, self._text_config.layer_types, strict=True)
        ]

    def _state_shape(self, attention: Any) -> StateShape:
        config = self._text_config
        channels, kernel = attention.conv1d.weight.shape[0], config.linear_conv_kernel_dim
        heads, key, value = config.linear_num_value_heads, config.linear_key_head_dim, config.linear_value_head_dim
        return StateShape((1, channels, kernel), (1, heads, key, value), device_of(attention), self.model.dtype)
