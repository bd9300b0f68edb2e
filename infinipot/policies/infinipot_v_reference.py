"""The published InfiniPot-V code, index by index, for reproducing published numbers.

https://github.com/aiha-lab/InfiniPot-V. It differs from `InfiniPotV` in two assumptions: it compares keys as they are
cached, rotated to their positions, and it takes the N tokens for N/P full patches, whatever was evicted before.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from infinipot.errors import PolicyError
from infinipot.policies.base import Policy
from infinipot.policies.options import Share
from infinipot.policies.scoring.layers import by_group
from infinipot.policies.scoring.ranking import highest
from infinipot.policies.scoring.van import value_norm
from infinipot.tokens import Grid, VideoTokens, take

POOLS = ((3, 7), (2, 5), (1, 3), (0, 1))  # (dimensions, kernel) for each quarter of the layers


@dataclass(frozen=True)
class InfiniPotVReference(Policy):
    """Keeps what the published InfiniPot-V code keeps, to the index.

    Options, by their published names:
        tar_ratio: the share of the budget that TaR fills, recent patches included; VaN fills the rest.
        query_ratio: the share of the held patches that are recent and always stay.
        adaptive_pooling: whether VaN is averaged over windows of 7x7x7, 5x5, 3 and 1, by quarter of the layers.
    """

    name: ClassVar[str] = "infinipot-v-reference"
    paper: ClassVar[str] = "InfiniPot-V, arXiv 2506.15745; code github.com/aiha-lab/InfiniPot-V"
    whole_patches: ClassVar[bool] = True
    one_size: ClassVar[bool] = True

    tar_ratio: Share = 0.5
    query_ratio: Share = 0.25
    adaptive_pooling: bool = False

    @property
    def reads_states(self) -> bool:
        return True

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        grid, (_, length) = tokens.grids[-1], tokens.shape
        if length % grid.cells or budget % grid.cells:
            raise PolicyError(
                f"{self.name} works on whole patches, of {grid.cells} tokens here; "
                f"got {length} tokens and a budget of {budget}"
            )
        order = tokens.in_order()
        place = torch.arange(length, device=order.device).expand(tokens.shape)
        salience = value_norm(tokens.values).gather(1, order)
        if self.adaptive_pooling:
            for pool, rows in by_group(tokens, lambda layer: POOLS[min(layer // max(tokens.layers // 4, 1), 3)]):
                salience[rows] = _pooled(salience[rows], grid, *pool)
        if self.tar_ratio > 0:
            distinct = self._least_redundant(take(tokens.rotated, order), place, budget, grid.cells)
            salience = salience.scatter(1, distinct, torch.inf)
        return order.gather(1, highest(salience, budget, place))

    def _least_redundant(self, keys: Tensor, place: Tensor, budget: int, cells: int) -> Tensor:
        """The tokens that TaR keeps, by place: the recent patches, and the past tokens least similar to them."""
        rows, length, _ = keys.shape
        held, kept = length // cells, budget // cells
        recent = int(held * self.query_ratio)
        past = budget - round((1 - self.tar_ratio) * budget) - recent * cells
        if not recent or past < 0:
            raise PolicyError(
                f"{self.name}: query_ratio={self.query_ratio} makes {recent} of {held} patches recent; "
                f"that must be at least one, and fit in tar_ratio={self.tar_ratio} of the {kept} that stay"
            )
        frames = functional.normalize(keys.float(), dim=-1).view(rows, -1, cells, keys.shape[-1])
        similarity = (frames[:, :-recent] * frames[:, -recent:].mean(1, keepdim=True)).sum(-1)
        newest = place[:, length - recent * cells :]
        return torch.cat([highest(-similarity.flatten(1), past, place[:, : -recent * cells]), newest], dim=1)


def _pooled(norm: Tensor, grid: Grid, dimensions: int, kernel: int) -> Tensor:
    """Average pooling with zero padding that counts in the mean; the kernel is the largest odd one that fits."""
    if not dimensions:
        return norm
    shape = (norm.shape[1] // grid.cells, grid.rows, grid.columns) if dimensions > 1 else (norm.shape[1],)
    kernel = min(kernel, *(size - 1 + size % 2 for size in shape[-dimensions:]))
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[dimensions - 1]
    volume = norm.view(norm.shape[0], *([1] if dimensions != 2 else []), *shape)
    return pool(volume, kernel, stride=1, padding=kernel // 2).reshape(norm.shape)
