"""What was trained: low-rank deltas of the decoder, the vision tower and the embeddings of added tokens.

They lie in one safetensors file in bfloat16: `decoder.q_proj.a` `[layers, rank, in]` and `decoder.q_proj.b`
`[layers, out, rank]` for each of MODULES, `added` `[tokens, hidden]`, and `visual.*` as transformers names them.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
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


def put_deltas(model: Qwen2_5_VLForConditionalGeneration, file: Path) -> None:
    """Adds trained deltas to the weights of a decoder and puts the vision tower before it."""
    trained = {name: weight.float() for name, weight in load_file(file).items()}
    decoder = model.model.language_model
    with torch.no_grad():
        for module, part in MODULES.items():
            deltas = SCALE * trained[f"decoder.{module}.b"] @ trained[f"decoder.{module}.a"]
            for layer, delta in zip(decoder.layers, deltas, strict=True):
                getattr(getattr(layer, part), module).weight += delta
        decoder.embed_tokens.weight[-len(trained["added"]) :] = trained["added"]
    model.model.visual.load_state_dict(_under("visual.", trained))


def _under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
