"""Scores from attention: a column that queries have filled, see `Policy.attention`."""

import torch
from torch import Tensor

from infinipot.tokens import VideoTokens


def attended(tokens: VideoTokens, name: str) -> Tensor:
    """A column of attention, `[rows, N]` float32; infinite for tokens that no query has attended to yet.

    So tokens that came in since the last queries are not evicted before they can be attended to.
    """
    column = tokens.columns[name]
    return torch.where(column < 0, torch.inf, column)
