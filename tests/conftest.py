"""Small random models of each family, with the embedded checkpoint's processor: no network, no trained weights."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from infinipot.embedded import checkpoint
from infinipot.model import Model
from infinipot.models import FAMILIES

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)


def _qwen2_5_vl() -> Qwen2_5_VLForConditionalGeneration:
    return checkpoint.build_model(checkpoint.build_tokenizer(), seed=5)


def _qwen2_vl() -> Qwen2VLForConditionalGeneration:
    like = _qwen2_5_vl().config
    text = like.text_config.to_dict()
    torch.manual_seed(7)
    config = Qwen2VLConfig(
        text_config={key: text[key] for key in text if key not in ("model_type", "architectures", "layer_types")},
        vision_config={
            "depth": 2,
            "embed_dim": 64,
            "hidden_size": like.text_config.hidden_size,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": checkpoint.PATCH,
            "spatial_merge_size": checkpoint.MERGE,
            "temporal_patch_size": checkpoint.TEMPORAL_PATCH,
        },
        **{key: getattr(like, key) for key in ("image_token_id", "video_token_id", "vision_start_token_id")},
        vision_end_token_id=like.vision_end_token_id,
    )
    model = Qwen2VLForConditionalGeneration(config)
    model.generation_config = _qwen2_5_vl().generation_config
    return model


BUILDERS: dict[str, Callable] = {"qwen2_vl": _qwen2_vl, "qwen2_5_vl": _qwen2_5_vl}


def build(model_type: str) -> Model:
    """A random model whose answers depend on what it sees: its weights are larger than at initialisation."""
    network = BUILDERS[model_type]().eval()
    family = next(family for family in FAMILIES if model_type in family.model_types)
    return Model(f"random {model_type}", family(network, checkpoint.build_processor()))


@pytest.fixture(scope="session", params=sorted(BUILDERS))
def model(request: pytest.FixtureRequest) -> Model:
    """One random model of every family."""
    return build(request.param)


@pytest.fixture(scope="session")
def qwen() -> Model:
    """A random Qwen2.5-VL."""
    return build("qwen2_5_vl")


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (64, 64)) -> list[np.ndarray]:
    """`count` random images, `[height, width, 3]` uint8."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8))


def reference_dir() -> Path:
    """The folder of reference traces: the one asked for, the one beside the project, or the subset in tests/data."""
    here = Path(__file__).resolve().parent
    beside = here.parents[1] / "shared" / "reference"
    asked = os.environ.get("INFINIPOT_REFERENCE_DIR")
    return Path(asked) if asked else beside if beside.is_dir() else here / "data" / "reference"
