"""What is usual in a row, the mean of its keys or of its values, and how far each token is from it."""

import torch
from torch import Tensor


def distance(states: Tensor) -> Tensor:
    """‖x - x̄‖₂ of each token, x̄ being the mean over its row: `[rows, N]` float32; NaN for what is no number.

    Args:
        states: `[rows, N, head_dim]`.
    """
    states, sound = _sound(states.float())
    far = torch.linalg.vector_norm(states - _mean(states, sound), dim=-1)
    return far.masked_fill_(~sound, torch.nan)


def unlikeness(states: Tensor, *, unit: bool = False) -> Tensor:
    """1 - cos(x, x̄) of each token, x̄ being the mean over its row: `[rows, N]` float32; NaN for what is no number.

    Args:
        states: `[rows, N, head_dim]`.
        unit: takes the mean of states scaled to length 1.
    """
    states, sound = _sound(states.float())
    length = torch.linalg.vector_norm(states, dim=-1).clamp_min_(1e-9)
    mean = _mean(states, sound, 1 / length if unit else None)
    alike = (states @ mean.transpose(1, 2)).squeeze(-1)
    alike /= length * torch.linalg.vector_norm(mean, dim=-1).clamp_min(1e-9)
    return (1 - alike).masked_fill_(~sound, torch.nan)


def _sound(states: Tensor) -> tuple[Tensor, Tensor]:
    """States without what is no number, so that it spoils no mean; and which tokens have none, `[rows, N]` bool."""
    sound = torch.linalg.vector_norm(states, dim=-1).isfinite()
    return states.nan_to_num(0.0, 0.0, 0.0), sound


def _mean(states: Tensor, sound: Tensor, weight: Tensor | None = None) -> Tensor:
    """`[rows, 1, head_dim]`, over the sound tokens, by weight."""
    weight = sound.float() if weight is None else weight * sound
    return weight.unsqueeze(1) @ states / weight.sum(1).view(-1, 1, 1).clamp_min(1e-30)
