"""The trained part: low-rank deltas of the decoder, the vision tower and the embeddings of added tokens.

They lie in one safetensors file: `decoder.q_proj.a` `[layers, rank, in]` and `decoder.q_proj.b` `[layers, out, rank]`
for each of MODULES, `added` `[tokens, hidden]`, and `visual.*` as transformers names them. Matrices are rounded to 8
bits, and what a step of each row is worth stands beside them under the same name with `.scale`; the rest is float32.
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
SCALE = 2.0  # of a delta: SCALE · b · a
OF_ROWS = ".scale"  # behind the name of a matrix: what a step of each of its rows is worth


def load_deltas(file: Path) -> dict[str, Tensor]:
    """The trained weights in float32."""
    stored = load_file(file)
    weights = {}
    for name, weight in stored.items():
        if name.endswith(OF_ROWS):
            continue
        scale = stored.get(name + OF_ROWS)
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
