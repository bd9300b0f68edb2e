"""VaN, value norm: ‖v‖₂. High means salient.

InfiniPot-V, https://arxiv.org/abs/2506.15745. The norm may be averaged over a token's neighbours on the true grid; the
deeper the layer, the fewer neighbours.
"""

from typing import Literal

import torch
from torch import Tensor

from infinipot.policies.scoring.grid import neighbour_mean
from infinipot.policies.scoring.layers import by_group
from infinipot.tokens import VideoTokens

Pooling = Literal["none", "layerwise"]

# How far neighbours reach to each side in (patches, rows, columns), for each quarter of the layers: 7x7x7, 5x5, 3 and
# the token alone.
REACH = ((3, 3, 3), (0, 2, 2), (0, 0, 1), (0, 0, 0))


def van(tokens: VideoTokens, pooling: Pooling) -> Tensor:
    """VaN of every token from its column "van", `[rows, N]` float32, optionally averaged over neighbours."""
    norm = tokens.columns["van"]
    if pooling == "none":
        return norm
    order = tokens.in_order()
    patch, cell, pooled = (part.gather(1, order) for part in (tokens.patch, tokens.cell, norm))
    for reach, rows in by_group(tokens, lambda layer: REACH[4 * layer // tokens.layers]):
        if any(reach):
            pooled[rows] = neighbour_mean(pooled[rows], patch[rows], cell[rows], tokens.grids, reach)
    return norm.scatter(1, order, pooled)


def value_norm(values: Tensor) -> Tensor:
    """‖v‖₂ of values `[rows, N, head_dim]`: `[rows, N]` float32."""
    return torch.linalg.vector_norm(values, dim=-1, dtype=torch.float32)
