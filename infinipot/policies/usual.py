"""What is usual in a row: the mean of its keys, or of its values."""

from torch import Tensor


def usual(states: Tensor) -> Tensor:
    """The mean over the tokens of each row, `[rows, 1, head_dim]`, of those that are numbers.

    Args:
        states: `[rows, N, head_dim]` float32.
    """
    sound = states.isfinite().all(-1, keepdim=True)
    return states.where(sound, 0.0).sum(1, keepdim=True) / sound.sum(1, keepdim=True).clamp_min(1)
