"""Trained weights as they are put into the repository: rounded to 8 bits, see `infinipot.witness.deltas`."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from infinipot.witness.deltas import OF_ROWS

_STEPS = 127  # of an 8-bit number, each way from zero


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
        written[name + OF_ROWS] = scale[..., 0].contiguous()
    save_file(written, file)
