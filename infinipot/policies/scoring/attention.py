"""Scores from attention: a column that queries have filled, see `Policy.attention`."""

import torch
from torch import Tensor

from infinipot.tokens import VideoTokens


def attended(tokens: VideoTokens, name: str) -> Tensor:
    """A column of attention, `[rows, N]` float32, in which what no query was asked about yet is infinitely high.

    So what has come in since is not evicted for want of having been looked at.
    """
    column = tokens.columns[name]
    return torch.where(column < 0, torch.inf, column)
