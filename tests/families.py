"""A tiny random checkpoint of each family: the real configuration and processor classes, and a small tokenizer.

A new family is one function here, under its model type in `BUILDERS`.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    WhisperFeatureExtractor,
)

from infinipot.embedded import checkpoint

Checkpoint = tuple[PreTrainedModel, ProcessorMixin]

TOKENIZER = checkpoint.build_tokenizer()
PATCH, MERGE, FRAMES = checkpoint.PATCH, checkpoint.MERGE, checkpoint.TEMPORAL_PATCH
HIDDEN = 64
IDS = {
    f"{name}_token_id": checkpoint.token_id(TOKENIZER, f"<|{token}|>")
    for name, token in {
        "image": "image_pad",
        "video": "video_pad",
        "vision_start": "vision_start",
        "vision_end": "vision_end",
    }.items()
}
TEXT = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "initializer_range": 0.06,
    "eos_token_id": checkpoint.token_id(TOKENIZER, "<|im_end|>"),
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": HIDDEN}


def finished(kind: type[PreTrainedModel], config: Any) -> PreTrainedModel:
    """Random weights, larger than at initialisation, so that answers depend on what is seen."""
    torch.manual_seed(7)
    model = kind(config).eval()
    stop = checkpoint.token_id(TOKENIZER, "<|im_end|>")
    padding = checkpoint.token_id(TOKENIZER, "<|endoftext|>")
    model.generation_config = GenerationConfig(eos_token_id=stop, pad_token_id=padding, do_sample=False)
    return model


def qwen2_5_vl() -> Checkpoint:
    return checkpoint.build_model(TOKENIZER, seed=5).eval(), checkpoint.build_processor()


def qwen2_vl() -> Checkpoint:
    text = checkpoint.build_model(TOKENIZER, seed=5).config.text_config.to_dict()
    config = Qwen2VLConfig(
        text_config={key: text[key] for key in text if key not in ("model_type", "architectures", "layer_types")},
        vision_config={
            "depth": 2,
            "embed_dim": 64,
            "hidden_size": checkpoint.HIDDEN,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": FRAMES,
        },
        **IDS,
    )
    parts = checkpoint.build_processor()
    processor = Qwen2VLProcessor(parts.image_processor, TOKENIZER, parts.video_processor, parts.chat_template)
    return finished(Qwen2VLForConditionalGeneration, config), processor


def _qwen3_vision(**more: Any) -> dict[str, Any]:
    return {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": FRAMES,
        "num_position_embeddings": 36,
        "out_hidden_size": HIDDEN,
        "initializer_range": 0.06,
        **more,
    }


def _qwen3_processor() -> Qwen3VLProcessor:
    """Pixels are counted over all frames of a clip: few enough and many enough for the clips of the tests."""
    grid: dict[str, Any] = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": FRAMES}
    pixels = {"shortest_edge": 2 * 32 * 32, "longest_edge": 64 * 128 * 128}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": 1024, "longest_edge": 128 * 128}, **grid),
        tokenizer=TOKENIZER,
        video_processor=Qwen3VLVideoProcessor(size=pixels, cap_pixels_per_frame=False, **grid),
        chat_template=checkpoint.CHAT_TEMPLATE,
    )


def _qwen3_vl(kind: type[PreTrainedModel], config: type, **text: Any) -> Checkpoint:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    made = config(
        text_config={**TEXT, "rope_parameters": rope, **text},
        vision_config=_qwen3_vision(deepstack_visual_indexes=[0, 1, 2]),
        **IDS,
    )
    return finished(kind, made), _qwen3_processor()


def qwen3_vl() -> Checkpoint:
    return _qwen3_vl(Qwen3VLForConditionalGeneration, Qwen3VLConfig)


def qwen3_vl_moe() -> Checkpoint:
    return _qwen3_vl(Qwen3VLMoeForConditionalGeneration, Qwen3VLMoeConfig, **EXPERTS)


def _qwen3_5(kind: type[PreTrainedModel], config: type, **text: Any) -> Checkpoint:
    rope = {
        "rope_type": "default",
        "rope_theta": 1e6,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
        "partial_rotary_factor": 0.5,
    }
    linear = {f"linear_{of}_head_dim": 16 for of in ("key", "value")}
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    made = config(
        text_config={**TEXT, "rope_parameters": rope, "full_attention_interval": 2, **linear, **heads, **text},
        vision_config=_qwen3_vision(),
        **IDS,
    )
    return finished(kind, made), _qwen3_processor()


def qwen3_5() -> Checkpoint:
    return _qwen3_5(Qwen3_5ForConditionalGeneration, Qwen3_5Config)


def qwen3_5_moe() -> Checkpoint:
    more = {**EXPERTS, "shared_expert_intermediate_size": HIDDEN}
    return _qwen3_5(Qwen3_5MoeForConditionalGeneration, Qwen3_5MoeConfig, **more)


OMNI_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "audio_token": "<|audio_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}


def omni_config() -> Qwen2_5OmniThinkerConfig:
    vision = checkpoint.build_model(TOKENIZER, seed=5).config.vision_config.to_dict()
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 2, 2]}
    audio = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 32}
    kept = ("depth", "hidden_size", "intermediate_size", "num_heads", "fullatt_block_indexes", "window_size")
    grid = {"patch_size": PATCH, "spatial_merge_size": MERGE, "temporal_patch_size": FRAMES, "out_hidden_size": HIDDEN}
    made = Qwen2_5OmniThinkerConfig(
        text_config={**TEXT, "vocab_size": len(TOKENIZER) + 3, "rope_parameters": rope},
        vision_config={**{key: vision[key] for key in kept}, **grid},
        audio_config={**audio, "num_mel_bins": 16, "output_dim": HIDDEN},
        position_id_per_seconds=4,
        image_token_index=IDS["image_token_id"],
        video_token_index=IDS["video_token_id"],
        audio_token_index=len(TOKENIZER),
        audio_start_token_id=len(TOKENIZER) + 1,
        audio_end_token_id=len(TOKENIZER) + 2,
    )
    made.vision_start_token_id = IDS["vision_start_token_id"]
    return made


def omni_processor() -> Qwen2_5OmniProcessor:
    parts = checkpoint.build_processor()
    parts.tokenizer.add_tokens(["<|audio_pad|>", "<|audio_start|>", "<|audio_end|>"], special_tokens=True)
    tokenizer = Qwen2Tokenizer(
        tokenizer_object=parts.tokenizer.backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=OMNI_TOKENS,
    )
    hearing = WhisperFeatureExtractor(feature_size=16)
    processor = Qwen2_5OmniProcessor(
        parts.image_processor, parts.video_processor, hearing, tokenizer, parts.chat_template
    )
    size = processor.video_processor.size
    processor.videos_kwargs = {"size": {edge: size[edge] for edge in ("shortest_edge", "longest_edge")}}
    return processor


def qwen2_5_omni_thinker() -> Checkpoint:
    return finished(Qwen2_5OmniThinkerForConditionalGeneration, omni_config()), omni_processor()


def qwen2_5_omni() -> Checkpoint:
    return qwen2_5_omni_thinker()


BUILDERS: dict[str, Callable[[], Checkpoint]] = {
    builder.__name__: builder
    for builder in (
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        qwen3_vl_moe,
        qwen3_5,
        qwen3_5_moe,
        qwen2_5_omni,
        qwen2_5_omni_thinker,
    )
}


def _counted_token_by_token(config: Any, ids: list[int], grids: list[list[int]], fps: float) -> Tensor:
    """Qwen2-VL's and Qwen2.5-VL's rule, one token at a time: text counts on, a cell stands at (time, row, column) of
    its span, and text behind it one past everything: `[3, n]`."""
    per_second = getattr(config.vision_config, "tokens_per_second", None)
    positions: list[tuple[int, int, int]] = []
    spans = iter(grids)
    while len(positions) < len(ids):
        start = max((max(position) for position in positions), default=-1) + 1
        if ids[len(positions)] != config.video_token_id:
            positions.append((start, start, start))
            continue
        patches, rows, columns = next(spans)
        for patch in range(patches):
            time = patch if per_second is None else int(patch * FRAMES / fps * per_second)
            cells = product(range(rows // MERGE), range(columns // MERGE))
            positions += [(start + time, start + row, start + column) for row, column in cells]
    return torch.tensor(positions).T


# Where transformers' own positions are not those that the models were trained with: the right ones.
POSITIONS: dict[str, Callable[[Any, list[int], list[list[int]], float], Tensor]] = {
    "qwen2_vl": _counted_token_by_token,
    "qwen2_5_vl": _counted_token_by_token,
}
