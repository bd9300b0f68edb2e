"""What is usual in a row, the mean of its keys or of its values, and how far each token is from it.

Keys and values are read as few times as can be: this is most of what a policy costs that scores all that is held.
"""

import torch
from torch import Tensor

from infinipot.tokens import is_at_hand


def distance(states: Tensor) -> Tensor:
    """‖x - x̄‖₂ of each token, x̄ being the mean over its row: `[rows, N]` float32; NaN for what is no number.

    Args:
        states: `[rows, N, head_dim]`.
    """
    states, length, mean = _with_mean(states, lengths(states))
    far = length.square() + mean.square().sum(-1) - 2 * (states @ mean.transpose(1, 2)).squeeze(-1)
    return far.clamp_min_(0).sqrt_()


def unlikeness(states: Tensor, *, unit: bool = False, length: Tensor | None = None) -> Tensor:
    """1 - cos(x, x̄) of each token, x̄ being the mean over its row: `[rows, N]` float32; NaN for what is no number.

    Args:
        states: `[rows, N, head_dim]`.
        unit: takes the mean of states scaled to length 1.
        length: see `lengths`, where it is known.
    """
    states, length, mean = _with_mean(states, lengths(states) if length is None else length, unit=unit)
    scale = length.clamp_min(1e-9) * torch.linalg.vector_norm(mean, dim=-1).clamp_min(1e-9)
    return 1 - (states @ mean.transpose(1, 2)).squeeze(-1) / scale


def lengths(states: Tensor) -> Tensor:
    """‖x‖₂ of each token of `[rows, N, head_dim]`: `[rows, N]` float32; NaN for what is no number."""
    length = torch.linalg.vector_norm(states, dim=-1, dtype=torch.float32)
    return torch.where(length.isfinite(), length, torch.nan)


def _with_mean(states: Tensor, length: Tensor, *, unit: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """States in float32, with 0 for what is no number, their lengths, and the mean of those that have one.

    Returns:
        `[rows, N, head_dim]`, `[rows, N]` and `[rows, 1, head_dim]`.
    """
    states, sound = states.float(), length.isfinite()
    whole = is_at_hand(length) and bool(sound.all())  # then there is nothing to copy, nor to weigh
    states = states if whole else states.nan_to_num(0.0, 0.0, 0.0)
    if whole and not unit:
        return states, length, states.mean(1, keepdim=True)
    weight = torch.where(sound, 1 / length.clamp_min(1e-9), 0.0) if unit else sound.float()
    return states, length, weight.unsqueeze(1) @ states / weight.sum(1).view(-1, 1, 1).clamp_min(1e-30)
