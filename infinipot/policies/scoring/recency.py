"""Which tokens are recent, and which stretch of the stream a token is from."""

import torch
from torch import Tensor

from infinipot.policies.scoring.ranking import highest, newest
from infinipot.tokens import VideoTokens


def recent_patches(tokens: VideoTokens, share: float) -> int:
    """r, how many of the newest patches are recent: a share of the N/P patches held, at least one."""
    return max(1, int(share * tokens.shape[1] / tokens.grids[-1].cells))


def in_recent_patches(tokens: VideoTokens, share: float) -> Tensor:
    """Which tokens are from recent patches, `[rows, N]` bool.

    Recent is a time: patches that a gate has left out since the newest one held count as well, so that fewer of those
    held are recent.
    """
    return tokens.patch > tokens.newest_held - recent_patches(tokens, share)


def best_of_newest(scores: Tensor, tokens: VideoTokens, count: int) -> Tensor:
    """The `count` highest tokens of the newest patch, or all of it, `[rows, N]` bool."""
    in_newest = tokens.patch == tokens.newest_held
    if max(grid.cells for grid in tokens.grids) <= count:
        return in_newest
    best = highest(scores.masked_fill(~in_newest, -torch.inf), count, tokens.arrival)
    return in_newest & torch.zeros_like(in_newest).scatter(1, best, True)


def stretch(tokens: VideoTokens, stretches: int) -> Tensor:
    """Which of `stretches` equal stretches of the stream so far each token is from: `[rows, N]` int64 from 0."""
    return tokens.patch.long() * stretches // (tokens.newest_patch + 1)


def last_tokens(tokens: VideoTokens, count: int) -> Tensor:
    """Which tokens are among the last `count` to arrive, `[rows, N]` bool: the queries, where a block's cells are."""
    last = newest(tokens.arrival, min(count, tokens.shape[1]))
    return torch.zeros(tokens.shape, dtype=torch.bool, device=last.device).scatter(1, last, True)
