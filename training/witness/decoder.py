"""A Qwen2 decoder under low-rank deltas, whose base never changes. Results are transformers' own; a test holds that.

The deltas of all layers are merged into the weights once a step, so the layers themselves cost what they cost without.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from infinipot.witness.checkpoint import SECTIONS
from infinipot.witness.deltas import MODULES, SCALE
from training.witness.tower import rotate

RANKS = {module: 32 if part == "self_attn" else 8 for module, part in MODULES.items()}
_FUSED = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


class Decoder(nn.Module):
    """The decoder; what is learned are the factors of the deltas and the embeddings of tokens that were added.

    Args:
        weights: of the base, by the names of transformers' `Qwen2_5_VLTextModel`.
        added: number of tokens behind the base's vocabulary.
        heads, theta, eps: attention heads, base of the rotary frequencies, epsilon of the norms.
    """

    table: Tensor
    last_norm: Tensor
    input_layernorm: Tensor
    post_attention_layernorm: Tensor
    axes: Tensor
    frequencies: Tensor

    def __init__(self, weights: Mapping[str, Tensor], added: int, heads: int, theta: float, eps: float) -> None:
        super().__init__()
        self.layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
        self.heads, self.eps = heads, eps
        table = weights["embed_tokens.weight"]
        self.head_dim = table.shape[1] // heads
        self.register_buffer("table", table.clone())
        self.added = nn.Parameter(table.mean(0).repeat(added, 1) + 0.02 * torch.randn(added, table.shape[1]))
        self.register_buffer("last_norm", weights["norm.weight"].clone())
        for name in ("input_layernorm", "post_attention_layernorm"):
            self.register_buffer(name, self._stack(weights, name))
        self.a, self.b = nn.ParameterDict(), nn.ParameterDict()
        for module, part in MODULES.items():
            base = self._stack(weights, f"{part}.{module}")
            self.register_buffer(module, base)
            _, out, inner = base.shape
            self.a[module] = nn.Parameter(torch.randn(self.layers, RANKS[module], inner) * inner**-0.5)
            self.b[module] = nn.Parameter(torch.zeros(self.layers, out, RANKS[module]))
        axes = torch.arange(3).repeat_interleave(torch.tensor(SECTIONS)).repeat(self.head_dim // 2 // sum(SECTIONS))
        self.register_buffer("axes", axes)
        self.register_buffer("frequencies", theta ** (-torch.arange(0, self.head_dim, 2) / self.head_dim))

    def _stack(self, weights: Mapping[str, Tensor], name: str) -> Tensor:
        return torch.stack([weights[f"layers.{layer}.{name}.weight"] for layer in range(self.layers)])

    def merged(self, dtype: torch.dtype, *, base: bool = False) -> list[tuple[Tensor, ...]]:
        """The weights of each layer, those of its fused projections; of the `base` alone, or with the deltas."""
        stacks = []
        for names in _FUSED:
            parts = [getattr(self, name) for name in names]
            if not base:
                parts = [
                    torch.baddbmm(part, self.b[name], self.a[name], alpha=SCALE)
                    for part, name in zip(parts, names, strict=True)
                ]
            stacks.append(torch.cat([part.to(dtype) for part in parts], 1).unbind(0))
        return list(zip(*stacks, strict=True))

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings `[..., hidden]` of tokens, those that were added among them."""
        known = len(self.table)
        old = F.embedding(ids.clamp(max=known - 1), self.table)
        new = F.embedding((ids - known).clamp(min=0), self.added)
        return torch.where((ids >= known)[..., None], new, old)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `[..., vocabulary]` of hidden states."""
        return hidden @ torch.cat([self.table, self.added]).to(hidden.dtype).T

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None, layers: list[tuple[Tensor, ...]]) -> Tensor:
        """Hidden states `[B, n, hidden]` behind the last norm.

        Args:
            x: embeddings `[B, n, hidden]`.
            positions: `[3, B, n]`.
            mask: added to attention scores, `[B, 1, n, n]`; None for a causal one.
            layers: from `merged`; their type is that of the arithmetic.
        """
        dtype = layers[0][0].dtype
        angles = positions[self.axes].permute(1, 2, 0).float() * self.frequencies
        cos, sin = (torch.cat([part, part], -1)[:, :, None].to(dtype) for part in (angles.cos(), angles.sin()))
        first, second, last = (
            norm.to(dtype) for norm in (self.input_layernorm, self.post_attention_layernorm, self.last_norm)
        )
        x = x.to(dtype)
        if mask is not None:
            mask = mask.to(dtype).expand(-1, self.heads, -1, -1)
        for number, (qkv, out, gate_up, down) in enumerate(layers):
            x = x + F.linear(self._attend(F.linear(self._norm(x, first[number]), qkv), cos, sin, mask), out)
            gate, up = F.linear(self._norm(x, second[number]), gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, down)
        return self._norm(x, last)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.eps)

    def _attend(self, qkv: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """Attention `[B, n, hidden]` of queries, keys and values that lie side by side."""
        parts = qkv.unflatten(-1, (-1, self.head_dim))  # [B, n, heads + 2 kv_heads, head_dim]
        kv_heads = (parts.shape[2] - self.heads) // 2
        rotated = rotate(parts[:, :, : self.heads + kv_heads], cos, sin)
        query, key = rotated.split([self.heads, kv_heads], 2)
        value = parts[:, :, self.heads + kv_heads :]
        key, value = (part.repeat_interleave(self.heads // kv_heads, 2) for part in (key, value))
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        attended = F.scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None)
        return attended.transpose(1, 2).flatten(2)
