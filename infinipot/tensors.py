"""Tensors that users bring, as NumPy has them. Imports no tensor library: whoever made a tensor has done so."""

import sys
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from infinipot.errors import FrameError

if TYPE_CHECKING:
    import torch


def is_tensor(value: object) -> "TypeGuard[torch.Tensor]":
    """Whether it is a torch tensor, without importing torch, which takes seconds."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def values_of(tensor: "torch.Tensor", what: str) -> np.ndarray:
    """Returns what a tensor on any device holds, which may share its memory.

    Floating point comes as float32, since NumPy has neither bfloat16 nor what is shorter.

    Args:
        tensor: of any shape.
        what: it is to be, for messages: "a picture".

    Raises:
        FrameError: NumPy cannot hold its values: it is on the device "meta", sparse, quantized or the like.
    """
    try:
        values = tensor.detach().cpu()
        array: np.ndarray = (values.float() if values.is_floating_point() else values).numpy()
    except (TypeError, RuntimeError) as error:
        raise FrameError(f"{what} cannot be read from this tensor: {' '.join(str(error).split())}") from error
    return array
