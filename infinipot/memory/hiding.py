"""Kept tokens that attention does not see: how rows of one length come to have budgets of their own.

All rows hold the same number of slots, so that storage never moves and a step reads a layer at once. A policy that
gives some rows less hides the rest of what they keep: attention passes over it, and it leaves first. A hidden slot is
not a free one: it goes on taking its bytes. Where no policy hides anything there is no column, no mask and no cost.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from infinipot.memory.view import Viewer
from infinipot.policies.base import HIDDEN, Policy


def plan_hiding(policy: Policy, viewer: Viewer, kept: Sequence[Tensor]) -> list[Tensor]:
    """For each group `[rows, length]` float32, 1 for the slots that are hidden: the column once it is stored.

    Args:
        policy: hides.
        viewer: shows the cells, of which some stay.
        kept: for each group `[rows, count]` int64, which.
    """
    found = [torch.zeros_like(group.columns[HIDDEN][:, : viewer.held.tokens]) for group in viewer.groups]
    every = policy.across_layers
    for number, rows in viewer.chunks(viewer.held.cells, policy.reads_states, whole_layers=True, whole=every):
        group, stays = viewer.groups[number], kept[number][rows]
        seen = policy.seen(viewer.tokens(group, rows), stays)
        found[number][rows].scatter_(1, viewer.slots(group, rows).gather(1, stays), (~seen).float())
    return found
