"""Attention to bounded memories, as transformers' decoders call it.

A decoder is run with all its tokens at position 0, where rotary embedding turns nothing: queries and keys arrive here
as the model makes them. Their steps, one for each stream, store the keys, and turn both to the true positions. A model
that is run in any other way, without steps, gets transformers' attention by torch's fused kernels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from infinipot.memory import Step, Steps

NAME = "infinipot"  # ahead of the name of the kernel that computes it


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    steps: Steps | None = None,
    *,
    kernel: Callable[[Tensor, Tensor, Tensor, Step, float, Tensor | None], Tensor],
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What `AttentionInterface` asks for: `[1, heads, n, head_dim]` each in, `[1, n, heads, head_dim]` out.

    The tokens are those of `steps`, one after the other: each attends to its own step's memory. What they make is
    stored in the memories of its followers, too, which hold the same.
    """
    if not steps:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
    layer, heads, attended = module.layer_idx, query.shape[1], []
    raw = steps.rotary.to_stored(query[0], key[0])
    turned = steps.turned(raw)
    queries, new = (part.split(steps.counts, 1) for part in (turned[:heads], turned[heads:]))
    stored, values = (part.split(steps.counts, 1) for part in (raw[heads:], value[0]))
    for number, step in enumerate(steps):
        alike = (step, *step.followers)
        for each in alike:
            each.store(layer, stored[number], values[number], new[number])
        held = step.read(layer)
        for each in alike:
            if each.observers:
                own = query[0].split(steps.counts, 1)[number]
                each.observe(layer, own, queries[number], held[0], scaling)
        attended.append(kernel(queries[number], *held, step, scaling, step.hidden(layer)))
    joined = attended[0] if len(attended) == 1 else torch.cat(attended, 1)
    return joined.transpose(0, 1).unsqueeze(0), None


def _fused(queries: Tensor, keys: Tensor, values: Tensor, step: Step, scaling: float, hidden: Tensor | None) -> Tensor:
    """Of the last n of N tokens each sees those up to itself that are not hidden; KV heads are shared without copies.

    torch chooses among its kernels, FlashAttention where the device has it.

    Args:
        queries: `[heads, n, head_dim]`.
        keys, values: `[kv_heads, N, head_dim]`.
        step: whose tokens ask.
        scaling: what products are multiplied with.
        hidden: see `Step.hidden`.
    """
    if hidden is not None:
        return _fused_with_hidden(queries, keys, values, step, scaling, hidden)
    mask, whole = None, step.count == step.length
    if step.count > 1 and not whole:
        # FlashAttention has the rule built in, for half precision; elsewhere one mask serves all layers.
        built_in = queries.device.type == "cuda" and queries.dtype != torch.float32
        mask = causal_lower_right(step.count, step.length) if built_in else step.mask(queries.device, queries.dtype)
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


def _fused_with_hidden(
    queries: Tensor, keys: Tensor, values: Tensor, step: Step, scaling: float, hidden: Tensor
) -> Tensor:
    """As `_fused`, where slots are hidden: KV heads stand as a batch, so that each has one mask for its heads."""
    seen = ~hidden.unsqueeze(1)
    if step.count > 1:
        seen = seen & (step.mask(queries.device, queries.dtype) == 0)
    attended: Tensor = scaled_dot_product_attention(
        queries.unflatten(0, (len(keys), -1)),
        keys.unsqueeze(1),
        values.unsqueeze(1),
        attn_mask=seen,
        scale=scaling,
        enable_gqa=True,
    )
    return attended.flatten(0, 1)


def _plain(queries: Tensor, keys: Tensor, values: Tensor, step: Step, scaling: float, hidden: Tensor | None) -> Tensor:
    """What `_fused` gives, computed by the formula, one operation at a time."""
    groups = queries.unflatten(0, (len(keys), -1))
    scores = (groups @ keys.transpose(1, 2).unsqueeze(1)).mul_(scaling)
    if step.count > 1:
        scores += step.mask(queries.device, queries.dtype)
    if hidden is not None:
        scores.masked_fill_(hidden.unsqueeze(1), -torch.inf)
    weights = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
    return (weights @ values.unsqueeze(1)).flatten(0, 1)


def attach(decoder: Any) -> None:
    """Has a decoder call the attention of this module, by the kernel that it was loaded with."""
    given = str(decoder.config._attn_implementation).removeprefix(f"{NAME}-")
    name, kernel = (f"{NAME}-eager", _plain) if given == "eager" else (f"{NAME}-sdpa", _fused)
    AttentionInterface.register(name, partial(_attend, kernel=kernel))
    AttentionMaskInterface.register(name, sdpa_mask)
    decoder.config._attn_implementation = name
