"""The embedded model before training: its configuration, tokenizer and processor.

Everything is the transformers class that a Qwen2.5-VL hub checkpoint uses, only small, so the saved folder
loads as one does. This file knows the world's words and nothing of training.
"""

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from infinipot.embedded import words
from infinipot.embedded.facts import MERGE, PATCH, SIZE, TEMPORAL_PATCH

CELLS = SIZE // PATCH // MERGE  # tokens along a side of a frame
TOKENS_PER_SECOND = 2
MAX_POSITION = 1024  # training covers positions up to here
HIDDEN, LAYERS = 128, 5
# Sixteen frequencies in turn for time, rows and columns, so that each axis has fast and slow ones.
MROPE_SECTION = [2, 1, 1] * 4
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
SYSTEM = "You are a helpful assistant."
# Of the form of Qwen2.5-VL's own.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def sentences() -> Iterator[str]:
    """Every sentence form of the world, for the tokenizer's merges."""
    yield from (SYSTEM, "system", "user", "assistant", "yes", "no", "none", " none")
    yield from (*words.NUMBERS, *words.PLACES, *words.THIRDS, *(f" {word}" for word in (*words.PLACES, *words.THIRDS)))
    yield from words.LISTINGS
    for colour, shape in product(words.COLOURS, words.SHAPES):
        name = f"{colour} {shape}"
        about = {"colour": colour, "shape": shape, "name": name, "one": name, "other": name}
        yield from (f"{colour} {shape}, {colour} {shape}", f"{shape} {colour}, {shape} {colour}")
        for wordings in words.WORDINGS.values():
            yield from (wording.format(**about) for wording in wordings)


def build_tokenizer() -> Qwen2Tokenizer:
    """A byte-level BPE tokenizer in which each word of the world is one token and any text has tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(sentences(), trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges: Any = [tuple(merge) for merge in learned["merges"]]
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS),
        model_max_length=MAX_POSITION,
    )


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """The id of one token of the vocabulary."""
    number = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(number, int)
    return number


def build_processor() -> Qwen2_5_VLProcessor:
    """Frames of 64x64 pixels stay as they are; larger ones shrink to at most four times as many pixels."""
    pixels = {"shortest_edge": SIZE**2, "longest_edge": 4 * SIZE**2}
    grid: dict[str, Any] = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": TEMPORAL_PATCH}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, **grid),
        tokenizer=build_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(size=pixels, cap_pixels_per_frame=False, **grid),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """The untrained model: a vision tower of 2 blocks and a language model of 5 layers, 1.5 M parameters."""
    end_of_text, end_of_turn = token_id(tokenizer, "<|endoftext|>"), token_id(tokenizer, "<|im_end|>")
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": HIDDEN,
            "intermediate_size": 2 * HIDDEN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": MAX_POSITION,
            "rms_norm_eps": 1e-6,
            "initializer_range": 0.04,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": MROPE_SECTION},
            "bos_token_id": end_of_text,
            "eos_token_id": end_of_turn,
            "pad_token_id": end_of_text,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": TEMPORAL_PATCH,
            "tokens_per_second": TOKENS_PER_SECOND,
            "window_size": SIZE,
            "fullatt_block_indexes": [1],
            "out_hidden_size": HIDDEN,
            "initializer_range": 0.04,
        },
        image_token_id=token_id(tokenizer, "<|image_pad|>"),
        video_token_id=token_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=token_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=token_id(tokenizer, "<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=end_of_text,
        eos_token_id=end_of_turn,
        pad_token_id=end_of_text,
        do_sample=False,
    )
    return model
