"""What is usual in a row, the mean of its keys or of its values, and how far each token is from it.

Keys and values are read as few times as can be: this is most of what a policy costs that scores all that is held.
"""

import torch
from torch import Tensor


def distance(states: Tensor) -> Tensor:
    """‖x - x̄‖₂ of each token, x̄ being the mean over its row: `[rows, N]` float32; NaN for what is no number.

    Args:
        states: `[rows, N, head_dim]`.
    """
    states, length = _sound(states)
    mean = _mean(states, length)
    far = length.square() + mean.square().sum(-1) - 2 * (states @ mean.transpose(1, 2)).squeeze(-1)
    return far.clamp_min_(0).sqrt_()


def unlikeness(states: Tensor, *, unit: bool = False) -> Tensor:
    """1 - cos(x, x̄) of each token, x̄ being the mean over its row: `[rows, N]` float32; NaN for what is no number.

    Args:
        states: `[rows, N, head_dim]`.
        unit: takes the mean of states scaled to length 1.
    """
    states, length = _sound(states)
    mean = _mean(states, length, unit=unit)
    lengths = length.clamp_min(1e-9) * torch.linalg.vector_norm(mean, dim=-1).clamp_min(1e-9)
    return 1 - (states @ mean.transpose(1, 2)).squeeze(-1) / lengths


def _sound(states: Tensor) -> tuple[Tensor, Tensor]:
    """States in float32, with 0 for what is no number, and the length of each token's, then NaN: `[rows, N]`."""
    states = states.float()
    length = torch.linalg.vector_norm(states, dim=-1)
    return states.nan_to_num(0.0, 0.0, 0.0), torch.where(length.isfinite(), length, torch.nan)


def _mean(states: Tensor, length: Tensor, *, unit: bool = False) -> Tensor:
    """`[rows, 1, head_dim]`, of tokens that have a length, by it."""
    sound = length.isfinite()
    weight = torch.where(sound, 1 / length.clamp_min(1e-9), 0.0) if unit else sound.float()
    return weight.unsqueeze(1) @ states / weight.sum(1).view(-1, 1, 1).clamp_min(1e-30)
