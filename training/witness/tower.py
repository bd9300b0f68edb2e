"""Qwen2.5-VL's vision tower for frames of one size, all temporal patches at once.

transformers' own runs the patches one after the other, which leaves an accelerator idle. Names and results are its own
(a test holds them together), so a trained tower's weights go into a checkpoint as they are.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from infinipot.embedded.facts import MERGE, PATCH, TEMPORAL_PATCH
from infinipot.witness.checkpoint import CELLS, DEPTH, HEADS, INNER, SIZE, WIDTH

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # the processor's own


class Tower(nn.Module):
    """Pixels to visual tokens, which begin near `middle` `[hidden]`, the mean of the word embeddings."""

    def __init__(self, middle: Tensor) -> None:
        super().__init__()
        self.patch_embed: Any = nn.Module()
        self.patch_embed.proj = nn.Linear(3 * TEMPORAL_PATCH * PATCH**2, WIDTH, bias=False)
        self.blocks = nn.ModuleList(_Block() for _ in range(DEPTH))
        self.merger: Any = nn.Module()
        self.merger.ln_q = _Norm(WIDTH)
        merged = WIDTH * MERGE**2
        last = nn.Linear(merged, len(middle))
        self.merger.mlp = nn.Sequential(nn.Linear(merged, merged), nn.GELU(), last)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.03)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(last.weight, std=0.006)
        last.bias.data.copy_(middle)
        cos, sin = rotary()
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Visual tokens `[T * CELLS ** 2, hidden]` of images `[T, 2, SIZE, SIZE, 3]` uint8."""
        x = self.patch_embed.proj(patchify(images))
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.merger.mlp(self.merger.ln_q(x).reshape(-1, WIDTH * MERGE**2))

    def exported(self) -> dict[str, Tensor]:
        """The weights as transformers' tower has them: its first layer is a convolution."""
        weights = self.state_dict()
        first = weights["patch_embed.proj.weight"]
        return weights | {"patch_embed.proj.weight": first.view(WIDTH, 3, TEMPORAL_PATCH, PATCH, PATCH)}


class _Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, 1e-6)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        query, key = (rotate(part, cos, sin) for part in (query, key))
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(WIDTH, INNER), nn.Linear(WIDTH, INNER)
        self.down_proj = nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = _Norm(WIDTH), _Norm(WIDTH)
        self.attn, self.mlp = _Attention(), _Mlp()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the halves of the last dimension against each other, as transformers does."""
    first, second = x.chunk(2, -1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), -1) * sin.to(x.dtype)


def rotary() -> tuple[Tensor, Tensor]:
    """Cosines and sines of a frame's patches, `[patches, head_dim]`, by row and column."""
    quarter = WIDTH // HEADS // 4
    frequencies = 1e4 ** (-torch.arange(quarter) / quarter)
    place = torch.arange(SIZE // PATCH).view(CELLS, MERGE)
    rows = place[:, None, :, None].expand(CELLS, CELLS, MERGE, MERGE).reshape(-1, 1)
    columns = place[None, :, None, :].expand(CELLS, CELLS, MERGE, MERGE).reshape(-1, 1)
    angles = torch.cat([rows * frequencies, columns * frequencies] * 2, -1)
    return angles.cos(), angles.sin()


def patchify(images: Tensor) -> Tensor:
    """Images `[T, 2, SIZE, SIZE, 3]` uint8 to normalised patches `[T, patches, values]`, as the processor does."""
    mean, std = (torch.tensor(each, device=images.device) for each in (_MEAN, _STD))
    pixels = (images.float() / 255 - mean) / std
    split = pixels.view(-1, TEMPORAL_PATCH, CELLS, MERGE, PATCH, CELLS, MERGE, PATCH, 3)
    return split.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(len(images), (SIZE // PATCH) ** 2, -1)
