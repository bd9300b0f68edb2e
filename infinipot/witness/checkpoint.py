"""The witness as a Qwen2.5-VL checkpoint: configuration, processor, and a decoder's weights put in.

A Llama decoder is a Qwen2 decoder whose query, key and value biases are zero, and multimodal rotary positions are
ordinary ones for text, so the language of the decoder is not touched. This file knows nothing of training.
"""

from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from infinipot.embedded import checkpoint as embedded
from infinipot.embedded.checkpoint import TOKENS_PER_SECOND, token_id
from infinipot.embedded.facts import MERGE, PATCH, TEMPORAL_PATCH
from infinipot.witness.decoder import Gguf

SIZE = 96  # pixels, both sides of a frame
CELLS = SIZE // PATCH // MERGE  # tokens along a side of a frame
MAX_POSITION = 1024  # training on video covers positions up to here
DEPTH, WIDTH, HEADS, INNER = 4, 192, 4, 512  # of the vision tower
# Frequencies in turn for time, rows and columns: sections one behind the other would leave rows and columns with
# frequencies too slow to tell neighbours apart.
SECTIONS = (2, 1, 1)
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
CHAT_TEMPLATE = embedded.CHAT_TEMPLATE.replace(embedded.SYSTEM, SYSTEM)


def build_processor(tokenizer: Tokenizer) -> Qwen2_5_VLProcessor:
    """Frames of 96x96 pixels stay as they are; smaller ones grow, larger ones shrink to four times as many pixels."""
    pixels = {"shortest_edge": SIZE**2, "longest_edge": 4 * SIZE**2}
    grid: dict[str, Any] = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": TEMPORAL_PATCH}
    text = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITION,
    )
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, **grid),
        tokenizer=text,
        video_processor=Qwen2VLVideoProcessor(size=pixels, cap_pixels_per_frame=False, **grid),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(file: Gguf, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    """The decoder with its weights from a GGUF file behind a vision tower that has learned nothing, in float32."""
    config = configuration(
        tokenizer,
        hidden_size=file.field("llama.embedding_length"),
        intermediate_size=file.field("llama.feed_forward_length"),
        num_hidden_layers=file.field("llama.block_count"),
        num_attention_heads=file.field("llama.attention.head_count"),
        num_key_value_heads=file.field("llama.attention.head_count_kv"),
        rms_norm_eps=float(file.field("llama.attention.layer_norm_rms_epsilon")),
        rope_theta=float(file.field("llama.rope.freq_base")),
    )
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    put_decoder(model, file.weights())
    model.generation_config = GenerationConfig(
        bos_token_id=token_id(tokenizer, "<|im_start|>"),
        eos_token_id=token_id(tokenizer, "<|im_end|>"),
        pad_token_id=token_id(tokenizer, "<|endoftext|>"),
        do_sample=False,
    )
    return model


def configuration(tokenizer: PreTrainedTokenizerFast, *, rope_theta: float, **decoder: Any) -> Qwen2_5_VLConfig:
    """A Qwen2.5-VL around a decoder of this shape.

    Args:
        tokenizer: with VISION_TOKENS in it.
        rope_theta: base of the decoder's rotary frequencies.
        decoder: entries of the text configuration: sizes, and numbers of layers and heads.
    """
    half = decoder["hidden_size"] // decoder["num_attention_heads"] // 2  # rotary frequencies of a head
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "max_position_embeddings": MAX_POSITION,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": rope_theta,
                "mrope_section": list(SECTIONS) * (half // sum(SECTIONS)),
            },
            "bos_token_id": token_id(tokenizer, "<|im_start|>"),
            "eos_token_id": token_id(tokenizer, "<|im_end|>"),
            "pad_token_id": token_id(tokenizer, "<|endoftext|>"),
            **decoder,
        },
        vision_config={
            "depth": DEPTH,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_heads": HEADS,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": TEMPORAL_PATCH,
            "tokens_per_second": TOKENS_PER_SECOND,
            "window_size": SIZE,
            "fullatt_block_indexes": list(range(DEPTH)),
            "out_hidden_size": decoder["hidden_size"],
        },
        image_token_id=token_id(tokenizer, "<|image_pad|>"),
        video_token_id=token_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=token_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=token_id(tokenizer, "<|vision_end|>"),
        tie_word_embeddings=True,
    )


def put_decoder(model: Qwen2_5_VLForConditionalGeneration, weights: dict[str, Tensor]) -> None:
    """Puts a Llama's weights, by `Qwen2_5_VLTextModel`'s names, into the decoder; biases become zero.

    Embeddings of tokens that the Llama did not have become the mean of those that it had.
    """
    decoder = model.model.language_model
    table = weights["embed_tokens.weight"]
    added = decoder.config.vocab_size - len(table)
    weights = weights | {"embed_tokens.weight": torch.cat([table, table.mean(0, keepdim=True).expand(added, -1)])}
    biases = {name: torch.zeros_like(bias) for name, bias in decoder.state_dict().items() if name.endswith(".bias")}
    decoder.load_state_dict(weights | biases)
    model.tie_weights()
