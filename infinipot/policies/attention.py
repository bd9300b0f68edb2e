"""What a policy may ask to see of attention: which queries, and what becomes of them. Knows no models."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from infinipot.policies.ranking import newest
from infinipot.tokens import VideoTokens

UNSEEN = -1.0  # the attention of a token that no query was asked about yet


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of some queries to the tokens that are held; it arrives as a column, see `Policy.attention`.

    Each KV head has the attention of the query heads that share it, over all that it holds, text included.

    Attributes:
        queries: how many of the last ones are asked: cells of the block, or tokens of the probe; 0 for all.
        probe: a question that the model runs over after the block, and forgets; "" for the chat template's text around
            a question alone; None for no probe: the block's own cells ask.
        repeats: whether the block's own content stands after the probe, as what is asked for; in pieces that fit.
        over: what becomes of the queries: their "mean", the "max" of all times, or "expected": the attention that
            queries to come would pay on average, if they were normally distributed as these are.
    """

    queries: int = 0
    probe: str | None = None
    repeats: bool = False
    over: Literal["mean", "max", "expected"] = "mean"


def attended(tokens: VideoTokens, name: str) -> Tensor:
    """A column of attention, `[rows, N]` float32, in which what no query was asked about yet is infinitely high.

    So what has come in since is not evicted for want of having been looked at.
    """
    column = tokens.columns[name]
    return torch.where(column < 0, torch.inf, column)


def last_tokens(tokens: VideoTokens, count: int) -> Tensor:
    """Which tokens are of the `count` cells that came in last, `[rows, N]` bool: those that ask, where a block does."""
    last = newest(tokens.arrival, min(count, tokens.shape[1]))
    return torch.zeros(tokens.shape, dtype=torch.bool, device=last.device).scatter(1, last, True)
