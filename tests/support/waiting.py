"""Copies to a device for which the host waits until all that was asked of the device before is done.

A device is played by "meta", whose tensors have no numbers: what reads one fails there by itself, what sends one there
and waits does not. torch waits wherever it is not told `non_blocking`, and to index by a list it sends that list.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MAKES = (torch.tensor, torch.as_tensor)


class NoWaiting(TorchFunctionMode):
    """Inside, whatever waits for such a copy fails."""

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        made = func(*args, **given)
        if func in _MAKES:
            waits = _is_there(made)
        elif func is Tensor.to:
            waits = _is_there(made) and not _is_there(args[0]) and not given.get("non_blocking")
        elif func is Tensor.copy_:
            waits = _is_there(args[0]) and not _is_there(args[1]) and not given.get("non_blocking")
        elif func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            waits = _is_there(args[0]) and any(map(_is_sent, (*index, *args[2:])))
        else:
            waits = False
        assert not waits, f"{func.__name__} waits for the device"
        return made


def _is_sent(part: object) -> bool:
    """Whether an index, or what is written, has to get to the device first; a single number goes along."""
    return isinstance(part, list) or (isinstance(part, Tensor) and part.dim() > 0 and not _is_there(part))


def _is_there(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and tensor.device.type == "meta"
