"""Hides kept tokens from attention, so that rows that hold the same number of tokens can have different budgets.

All rows hold the same number of slots, so that a step reads a whole layer at once. A policy that gives some rows less
hides the rest of what they keep: attention skips it, and it is evicted first. A hidden slot still takes its bytes. If
the policy hides nothing, there is no column, no mask and no cost.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from infinipot.memory.view import Viewer
from infinipot.policies.base import HIDDEN, Policy


def plan_hiding(policy: Policy, viewer: Viewer, kept: Sequence[Tensor]) -> list[Tensor]:
    """The new `hidden` column of each group, `[rows, length]` float32: 1 where a slot is hidden.

    Args:
        policy: a policy that hides.
        viewer: shows the cells.
        kept: for each group, the indices of the cells that stay, `[rows, count]` int64.
    """
    hidden = [torch.zeros_like(group.columns[HIDDEN][:, : viewer.held.tokens]) for group in viewer.groups]
    every = policy.across_layers
    for number, rows in viewer.chunks(viewer.held.cell_tokens, policy.reads_states, whole_layers=True, whole=every):
        group, stays = viewer.groups[number], kept[number][rows]
        seen = policy.seen(viewer.tokens(group, rows), stays)
        hidden[number][rows].scatter_(1, viewer.slots(group, rows).gather(1, stays), (~seen).float())
    return hidden
