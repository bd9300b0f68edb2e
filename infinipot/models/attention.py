"""Attention to a bounded memory, as transformers' decoders call it.

A decoder is run with all its tokens at position 0, where rotary embedding turns nothing: queries and keys arrive here
as the model makes them. Their step stores the keys, and turns both to the true positions. A model that is run in any
other way, without a step, gets the attention that it would have had.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from infinipot.memory import Step

NAME = "infinipot"


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    step: Step | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What `AttentionInterface` asks for: `[1, heads, n, head_dim]` each in, `[1, n, heads, head_dim]` out."""
    if step is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    step.write(module.layer_idx, key[0], value[0])
    keys, values = step.read(module.layer_idx)
    attended = _causal(step.rotated(query[0]), keys, values, step, kwargs.get("scaling"))
    return attended.transpose(0, 1).unsqueeze(0), None


def _causal(queries: Tensor, keys: Tensor, values: Tensor, step: Step, scaling: float | None) -> Tensor:
    """Of the last n of N tokens each sees those up to itself; KV heads are shared without copies."""
    mask, whole = None, step.count == step.end
    if step.count > 1 and not whole:
        on_gpu = queries.device.type == "cuda"
        mask = causal_lower_right(step.count, step.end) if on_gpu else step.mask(queries.device, queries.dtype)
    attended: Tensor = scaled_dot_product_attention(
        queries.unsqueeze(0),
        keys.unsqueeze(0),
        values.unsqueeze(0),
        attn_mask=mask,
        is_causal=whole and step.count > 1,
        scale=scaling,
        enable_gqa=True,
    )
    return attended[0]


def attach(decoder: Any) -> None:
    """Has a decoder call `attend`."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    decoder.config._attn_implementation = NAME


NO_MASK = torch.zeros(1, 1, 1, 1)  # a mask in four dimensions is taken as it is: so none is made
