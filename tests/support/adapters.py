"""A tiny random checkpoint of each family: the real configuration and processor classes, and a small tokenizer.

A new family is one function here, under its model type in `BUILDERS`.
"""

import json
import re
from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    GenerationConfig,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlamaTokenizer,
    LlavaNextImageProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
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
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
    WhisperFeatureExtractor,
)
from transformers.models.smolvlm import processing_smolvlm

from infinipot.embedded import checkpoint
from infinipot.embedded.facts import MERGE, PATCH, TEMPORAL_PATCH

Checkpoint = tuple[PreTrainedModel, ProcessorMixin]

TOKENIZER = checkpoint.build_tokenizer()
FRAMES = TEMPORAL_PATCH
HIDDEN, LAYERS = 64, 3
IDS: dict[str, Any] = {
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
    "num_hidden_layers": LAYERS,  # each of them is most of what a forward costs
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "initializer_range": 0.06,
    "eos_token_id": checkpoint.token_id(TOKENIZER, "<|im_end|>"),
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": HIDDEN}


def finished(kind: type[PreTrainedModel], config: Any, tokenizer: PreTrainedTokenizerBase = TOKENIZER) -> Any:
    """Random weights, larger than at initialisation, so that answers depend on what is seen."""
    torch.manual_seed(8)
    model = kind(config).eval()
    stop = tokenizer.eos_token_id
    padding = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(eos_token_id=stop, pad_token_id=padding, do_sample=False)
    return model


def qwen2_5_vl() -> Checkpoint:
    """The embedded model's network, with fewer layers and random weights."""
    model = checkpoint.build_model(TOKENIZER, seed=5).eval()
    decoder = model.model.language_model
    decoder.layers, config = decoder.layers[:LAYERS], decoder.config
    config.num_hidden_layers, config.layer_types = LAYERS, config.layer_types[:LAYERS]
    return model, checkpoint.build_processor()


def qwen2_vl() -> Checkpoint:
    text = qwen2_5_vl()[0].model.language_model.config.to_dict()
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
    layers = {"num_hidden_layers": 4, "full_attention_interval": 2}  # two of each kind, in turns
    made = config(
        text_config={**TEXT, "rope_parameters": rope, **layers, **linear, **heads, **text},
        vision_config=_qwen3_vision(),
        **IDS,
    )
    return finished(kind, made), _qwen3_processor()


def qwen3_5() -> Checkpoint:
    return _qwen3_5(Qwen3_5ForConditionalGeneration, Qwen3_5Config)


def qwen3_5_moe() -> Checkpoint:
    more = {**EXPERTS, "shared_expert_intermediate_size": HIDDEN}
    return _qwen3_5(Qwen3_5MoeForConditionalGeneration, Qwen3_5MoeConfig, **more)


# The LLaVA family: a frame is always of the tower's size, and 4 x 4 cells are left of it.

LLAVA = {"image_token": "<image>", "video_token": "<video>"}
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": PATCH,
    "initializer_range": 0.06,
}
# Of the form of llava-hf's own: pictures first, then words. Only the roles and what is around them differ.
TURN = (
    "{% for message in messages %}"
    "HEAD"
    "{% for content in message['content'] if content['type'] == 'video' %}<video>\n{% endfor %}"
    "{% for content in message['content'] if content['type'] == 'text' %}{{ content['text'] }}{% endfor %}"
    "TAIL"
    "{% endfor %}"
    "{% if add_generation_prompt %}PROMPT{% endif %}"
)


def _template(head: str, tail: str, prompt: str) -> str:
    return TURN.replace("HEAD", head).replace("TAIL", tail).replace("PROMPT", prompt)


CHATML = _template("<|im_start|>{{ message['role'] }}\n", "<|im_end|>\n", "<|im_start|>assistant\n")
VICUNA = _template("{{ message['role'] | upper }}: ", " ", "ASSISTANT:")
MISTRAL = _template(
    "{% if message['role'] == 'user' %}[INST] {% else %} {% endif %}",
    "{% if message['role'] == 'user' %} [/INST]{% else %}</s> {% endif %}",
    "",
)


def _ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {f"{kind}_token_index": checkpoint.token_id(tokenizer, f"<{kind}>") for kind in ("image", "video")}


def llava_onevision() -> Checkpoint:
    """An odd number of patches across the tower, as in the published one, whose 27 x 27 become 14 x 14."""
    side = 7 * PATCH
    tokenizer = checkpoint.build_tokenizer()
    tokenizer.add_tokens(list(LLAVA.values()), special_tokens=True)
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(tokenizer)},
        vision_config={"model_type": "siglip_vision_model", **TOWER, "image_size": side, "vision_use_head": False},
        image_grid_pinpoints=[[side, side]],
        **_ids(tokenizer),
    )
    size = {"height": side, "width": side}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[side, side]]),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=7 * 7,
        vision_feature_select_strategy="full",
        chat_template=CHATML,
        **LLAVA,
    )
    return finished(LlavaOnevisionForConditionalGeneration, config, tokenizer), processor


def _llama_tokenizer(**options: Any) -> LlamaTokenizer:
    """Like Llama's own: spaces are letters, any byte has a token, and prompts begin with one of their own."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=1000, min_frequency=1, show_progress=False)
    texts = [*checkpoint.sentences(), "USER: ASSISTANT:", "[INST] [/INST]"]
    bpe.train_from_iterator([*texts, *(f" {text}" for text in texts)], trainer)
    learned = json.loads(bpe.to_str())["model"]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = [*first, *sorted(learned["vocab"], key=learned["vocab"].get)]
    tokenizer = LlamaTokenizer(
        vocab={token: number for number, token in enumerate(vocab)},
        merges=[tuple(merge) for merge in learned["merges"]],
        pad_token="<unk>",
        add_bos_token=True,
        **options,
    )
    tokenizer.add_tokens(list(LLAVA.values()), special_tokens=True)
    return tokenizer


def _llava_next_video(template: str, tower: str, text: dict[str, Any], **options: Any) -> Checkpoint:
    side = 8 * PATCH
    tokenizer = _llama_tokenizer(**options)
    strategy: Literal["default", "full"] = (
        "default" if tower == "clip_vision_model" else "full"
    )  # SigLIP has no class token to leave out
    words = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    config = LlavaNextVideoConfig(
        text_config={**TEXT, "vocab_size": len(tokenizer), **words, **text},
        vision_config={"model_type": tower, **TOWER, "image_size": side},
        vision_feature_select_strategy=strategy,
        image_grid_pinpoints=[[side, side]],
        **_ids(tokenizer),
    )
    size: dict[str, Any] = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    processor = LlavaNextVideoProcessor(
        video_processor=LlavaNextVideoVideoProcessor(**size),
        image_processor=LlavaNextImageProcessor(**size, image_grid_pinpoints=[[side, side]]),
        tokenizer=tokenizer,
        chat_template=template,
        patch_size=PATCH,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=1 if strategy == "default" else 0,
        **LLAVA,
    )
    return finished(LlavaNextVideoForConditionalGeneration, config, tokenizer), processor


def llava_next_video() -> Checkpoint:
    """As the Vicuna ones: as many KV heads as heads, positions scaled down to half, CLIP."""
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    text = {"model_type": "llama", "num_key_value_heads": TEXT["num_attention_heads"], "rope_parameters": rope}
    return _llava_next_video(VICUNA, "clip_vision_model", text)


def llava_next_video_mistral() -> Checkpoint:
    """As the Mistral one, with fewer KV heads than heads and an older tokenizer; and SigLIP."""
    text = {"model_type": "mistral", "sliding_window": None}
    return _llava_next_video(MISTRAL, "siglip_vision_model", text, legacy=True)


# Of the form of the hub's: no default system message, and a line break behind a video.
INTERNVL_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% elif part['type'] == 'video' %}<video>\n"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def internvl(text_type: str = "qwen2", rope_type: str = "dynamic", edge: int = 64, patch: int = PATCH) -> Checkpoint:
    """Four by four cells a frame; rotary frequencies as in InternVL 2.5 and 3: scaled beyond the trained positions."""
    cells = (edge // patch // 2) ** 2
    tokenizer = Qwen2Tokenizer(
        tokenizer_object=Tokenizer.from_str(TOKENIZER.backend_tokenizer.to_str()),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    size = {"height": edge, "width": edge}
    rope: dict[str, Any] = {"rope_type": rope_type, "rope_theta": 1e6}
    if rope_type != "default":
        rope["factor"] = 2.0
    config = InternVLConfig(
        text_config={
            **TEXT,
            "model_type": text_type,
            "vocab_size": len(tokenizer),
            "rope_parameters": rope,
            "max_position_embeddings": 4096,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": [edge, edge],
            "patch_size": [patch, patch],
            "initializer_range": 0.2,
        },
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=cells,
        downsample_ratio=0.5,
    )
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=cells,
        chat_template=INTERNVL_TEMPLATE,
    )
    return finished(InternVLForConditionalGeneration, config, tokenizer), processor


def _smolvlm_tokenizer() -> PreTrainedTokenizerFast:
    """Of the form of SmolLM2's: GPT-2's way to split, digit by digit, and a token for two line breaks."""
    bpe = Tokenizer(models.BPE())
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytewise])
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    texts = ["\n\n", "\nFrame from 00:00:", "You are provided the following series of frames from a video.\n"]
    bpe.train_from_iterator([*checkpoint.sentences(), "User: Assistant: System:", *texts], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        extra_special_tokens={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )


def smolvlm(edge: int = 64, patch: int = PATCH, shuffle: int = 2) -> Checkpoint:
    """Four by four cells a frame. The template is the one that the processor itself brings for videos."""
    tokenizer = _smolvlm_tokenizer()
    config = SmolVLMConfig(
        text_config={
            **TEXT,
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": edge,
            "patch_size": patch,
            "initializer_range": 0.2,
        },
        image_token_id=checkpoint.token_id(tokenizer, "<image>"),
        scale_factor=shuffle,
    )
    size: dict[str, Any] = {"size": {"longest_edge": 2 * edge}, "max_image_size": {"longest_edge": edge}}
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(**size),
        tokenizer=tokenizer,
        video_processor=SmolVLMVideoProcessor(**size),
        image_seq_len=(edge // patch // shuffle) ** 2,
    )
    return finished(SmolVLMForConditionalGeneration, config, tokenizer), processor


# As Omni's own: a clip of sound has brackets of its own.
OMNI_TEMPLATE = checkpoint.CHAT_TEMPLATE.replace(
    "{% elif 'text' in content %}",
    "{% elif content['type'] == 'audio' %}<|audio_start|><|audio_pad|><|audio_end|>{% elif 'text' in content %}",
)
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
    vision = checkpoint.build_model(TOKENIZER, seed=5).model.visual.config.to_dict()
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 2, 2]}
    audio = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 32}
    kept = ("depth", "hidden_size", "intermediate_size", "num_heads", "fullatt_block_indexes", "window_size")
    grid = {"patch_size": PATCH, "spatial_merge_size": MERGE, "temporal_patch_size": FRAMES, "out_hidden_size": HIDDEN}
    made = Qwen2_5OmniThinkerConfig(
        text_config={**TEXT, "vocab_size": len(TOKENIZER) + 3, "rope_parameters": rope},
        vision_config={**{key: vision[key] for key in kept}, **grid},
        audio_config={**audio, "num_mel_bins": 16, "output_dim": HIDDEN, "initializer_range": 0.4},
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
    processor = Qwen2_5OmniProcessor(parts.image_processor, parts.video_processor, hearing, tokenizer, OMNI_TEMPLATE)
    size = processor.video_processor.size
    processor.videos_kwargs = {"size": {edge: size[edge] for edge in ("shortest_edge", "longest_edge")}}
    return processor


def qwen2_5_omni_thinker() -> Checkpoint:
    return finished(Qwen2_5OmniThinkerForConditionalGeneration, omni_config()), omni_processor()


def qwen2_5_omni() -> Checkpoint:
    return qwen2_5_omni_thinker()


# Under the model type; a second one of a type under a name of its own.
BUILDERS: dict[str, Callable[..., Checkpoint]] = {
    builder.__name__: builder
    for builder in (
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        qwen3_vl_moe,
        qwen3_5,
        qwen3_5_moe,
        llava_onevision,
        llava_next_video,
        llava_next_video_mistral,
        internvl,
        smolvlm,
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


def _numbered_on(patch: pytest.MonkeyPatch, processor: ProcessorMixin, starts: list[int]) -> None:
    """InternVL: frames of a later video of a conversation are numbered on, not from 1 again."""
    own = processor.replace_video_token

    def numbered_on(inputs: dict, video_idx: int, **kwargs: Any) -> str:
        text = own(inputs, video_idx, **kwargs)
        return re.sub(r"Frame(\d+)", lambda found: f"Frame{int(found[1]) + starts[video_idx]}", text)

    patch.setattr(processor, "replace_video_token", numbered_on, raising=False)


def _introduced_without_numbers(patch: pytest.MonkeyPatch, processor: ProcessorMixin, starts: list[int]) -> None:
    """SmolVLM: how many frames there are and how long the video is stays open."""
    intro = "You are provided the following series of frames from a video.\n"
    patch.setattr(processing_smolvlm, "DEFAULT_VIDEO_INTRO", intro)


# Where a stream says something else around a video than transformers' processor does: has the processor say that. The
# rest of the prompt stays the processor's own. `starts`: the frames of the stream before each video.
TEXTS: dict[str, Callable[[pytest.MonkeyPatch, ProcessorMixin, list[int]], None]] = {
    "internvl": _numbered_on,
    "smolvlm": _introduced_without_numbers,
}

# Whose processors take several videos only if they are as long as each other.
OF_ONE_LENGTH = ("llava_onevision", "llava_next_video", "internvl")
