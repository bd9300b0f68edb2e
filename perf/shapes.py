"""Models of published shapes with random weights: what the measurements run on where no checkpoint is at hand.

Widths, depths, heads and vocabularies are those of the checkpoints' configurations; the tokenizer is the embedded
model's, which has any text in few tokens. What a network costs does not depend on what it has learned.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

import infinipot
from infinipot.embedded.checkpoint import CHAT_TEMPLATE, build_tokenizer, token_id
from infinipot.models.qwen2_vl import Qwen25VL
from infinipot.models.qwen3_vl import Qwen3VL

TOKENIZER = build_tokenizer()
_NAMED = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
_IDS: dict[str, Any] = {f"{name}_token_id": token_id(TOKENIZER, f"<|{token}|>") for name, token in _NAMED.items()}
_STOP = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": token_id(TOKENIZER, "<|endoftext|>")}
Decoder = dict[str, Any]

# Qwen2.5-VL-7B-Instruct's and Qwen3-VL-8B-Instruct's config.json.
QWEN25_7B: Decoder = {
    "vocab_size": 152_064,
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128_000,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
QWEN25_VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
    "out_hidden_size": 3584,
}
QWEN3_8B: Decoder = {
    "vocab_size": 151_936,
    "hidden_size": 4096,
    "intermediate_size": 12_288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262_144,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 5e6,
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
}
QWEN3_VISION = {
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_heads": 16,
    "patch_size": 16,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [8, 16, 24],
    "out_hidden_size": 4096,
}
# A model of 55 M parameters, and one for trying things out, in Qwen2.5-VL's architecture.
MIDDLE: Decoder = {
    "vocab_size": 1024,
    "hidden_size": 512,
    "intermediate_size": 1792,
    "num_hidden_layers": 16,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
}
TINY: Decoder = MIDDLE | {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3}
TINY |= {"num_attention_heads": 4, "rope_parameters": MIDDLE["rope_parameters"] | {"mrope_section": [4, 6, 6]}}
SMALL_VISION = QWEN25_VISION | {"depth": 2, "hidden_size": 128, "intermediate_size": 256, "num_heads": 4}
SMALL_VISION |= {"fullatt_block_indexes": [1]}


def qwen25(decoder: Decoder, vision: dict[str, Any], device: str, dtype: torch.dtype) -> infinipot.Model:
    """A model in Qwen2.5-VL's architecture."""
    config = Qwen2_5_VLConfig(
        text_config=decoder | _STOP,
        vision_config=vision | {"out_hidden_size": decoder["hidden_size"]},
        tie_word_embeddings=False,
        **_IDS,
    )
    grid = {"patch_size": vision["patch_size"], "merge_size": 2, "temporal_patch_size": 2}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**grid),
        tokenizer=TOKENIZER,
        video_processor=Qwen2VLVideoProcessor(**grid),
        chat_template=CHAT_TEMPLATE,
    )
    model = _filled(Qwen2_5_VLForConditionalGeneration, config, device, dtype)
    return infinipot.Model("Qwen2.5-VL's shape", Qwen25VL(model, processor))


def qwen3(decoder: Decoder, vision: dict[str, Any], device: str, dtype: torch.dtype) -> infinipot.Model:
    """A model in Qwen3-VL's architecture."""
    config = Qwen3VLConfig(
        text_config=decoder | _STOP,
        vision_config=vision | {"out_hidden_size": decoder["hidden_size"]},
        tie_word_embeddings=False,
        **_IDS,
    )
    grid = {"patch_size": vision["patch_size"], "merge_size": 2, "temporal_patch_size": 2}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**grid),
        tokenizer=TOKENIZER,
        video_processor=Qwen3VLVideoProcessor(**grid),
        chat_template=CHAT_TEMPLATE,
    )
    model = _filled(Qwen3VLForConditionalGeneration, config, device, dtype)
    return infinipot.Model("Qwen3-VL's shape", Qwen3VL(model, processor))


SHAPES: dict[str, Callable[[str, torch.dtype], infinipot.Model]] = {
    "qwen2.5-vl-7b": lambda device, dtype: qwen25(QWEN25_7B, QWEN25_VISION, device, dtype),
    "qwen3-vl-8b": lambda device, dtype: qwen3(QWEN3_8B, QWEN3_VISION, device, dtype),
    "middle": lambda device, dtype: qwen25(MIDDLE, SMALL_VISION, device, dtype),
    "tiny": lambda device, dtype: qwen25(TINY, SMALL_VISION, device, dtype),
    "tiny-qwen3": lambda device, dtype: qwen3(
        {**QWEN3_8B, "vocab_size": 1024, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4}
        | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
        | {"rope_parameters": QWEN3_8B["rope_parameters"] | {"mrope_section": [6, 5, 5]}},
        QWEN3_VISION
        | {"depth": 4, "hidden_size": 96, "intermediate_size": 128, "num_heads": 4, "deepstack_visual_indexes": [0, 1]},
        device,
        dtype,
    ),
}


def _filled(kind: Any, config: Any, device: str, dtype: torch.dtype) -> Any:
    """The network on its device, with weights of about the size that training leaves."""
    torch.manual_seed(0)
    with torch.device(device):
        model = kind._from_config(config, dtype=dtype).eval()
    model.generation_config = GenerationConfig(pad_token_id=_STOP["pad_token_id"], do_sample=False)
    return model.requires_grad_(False)
