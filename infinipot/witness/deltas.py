"""What was trained: low-rank deltas of the decoder, the vision tower and the embeddings of added tokens.

They lie in one safetensors file: `decoder.q_proj.a` `[layers, rank, in]` and `decoder.q_proj.b` `[layers, out, rank]`
for each of MODULES, `added` `[tokens, hidden]`, and `visual.*` as transformers names them. Matrices are rounded to 8
bits, and what a step of each row is worth stands beside them under the same name with `.scale`; the rest is float32.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

MODULES = {  # a linear layer of the decoder, and the part that it is in
    "q_proj": "self_attn",
    "k_proj": "self_attn",
    "v_proj": "self_attn",
    "o_proj": "self_attn",
    "gate_proj": "mlp",
    "up_proj": "mlp",
    "down_proj": "mlp",
}
RANKS = {module: 32 if part == "self_attn" else 8 for module, part in MODULES.items()}
SCALE = 2.0  # of a delta: SCALE · b · a
_STEPS = 127  # of an 8-bit number, each way from zero
_OF_ROWS = ".scale"


def save_deltas(trained: dict[str, Tensor], file: Path) -> None:
    """Writes trained weights, matrices in 8 bits."""
    written = {}
    for name, weight in trained.items():
        if weight.dim() < 2:
            written[name] = weight.float().contiguous()
            continue
        rows = weight.float().flatten(1) if name.startswith("visual.") else weight.float()
        scale = rows.abs().amax(-1, keepdim=True).clamp(min=1e-12) / _STEPS
        written[name] = (rows / scale).round().to(torch.int8).view(weight.shape).contiguous()
        written[name + _OF_ROWS] = scale[..., 0].contiguous()
    save_file(written, file)


def load_deltas(file: Path) -> dict[str, Tensor]:
    """The trained weights in float32."""
    stored = load_file(file)
    weights = {}
    for name, weight in stored.items():
        if name.endswith(_OF_ROWS):
            continue
        scale = stored.get(name + _OF_ROWS)
        weights[name] = weight.float()
        if scale is not None:
            weights[name] *= scale.view(*scale.shape, *[1] * (weight.dim() - scale.dim()))
    return weights


def put_deltas(model: Qwen2_5_VLForConditionalGeneration, trained: dict[str, Tensor]) -> None:
    """Adds trained deltas to the weights of a decoder and puts the vision tower before it."""
    decoder = model.model.language_model
    with torch.no_grad():
        for module, part in MODULES.items():
            deltas = SCALE * trained[f"decoder.{module}.b"] @ trained[f"decoder.{module}.a"]
            for layer, delta in zip(decoder.layers, deltas, strict=True):
                getattr(getattr(layer, part), module).weight += delta
        decoder.embed_tokens.weight[-len(trained["added"]) :] = trained["added"]
    tower = "visual."
    model.model.visual.load_state_dict(
        {name.removeprefix(tower): weight for name, weight in trained.items() if name.startswith(tower)}
    )
