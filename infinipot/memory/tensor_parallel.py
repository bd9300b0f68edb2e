"""The processes that share the KV heads of a model (tensor parallelism), and how they reach the same decisions.

Each process holds some heads of every layer and runs the policy on those alone, since heads are independent. What all
heads have in common (which captions stay, how far positions move) must be decided alike in every process, from what all
of them hold. Knows tensors, not what they mean.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class TensorParallelGroup:
    """The processes of a group; without one, this process alone.

    Attributes:
        group: a `torch.distributed` process group.
        device: the device of the tensors that the group exchanges.
    """

    group: Any = None
    device: torch.device = _CPU

    @property
    def count(self) -> int:
        """The number of processes."""
        return 1 if self.group is None else int(self.group.size())

    @property
    def number(self) -> int:
        """The rank of this process."""
        return 0 if self.group is None else int(self.group.rank())

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, `[count, *shape]` int64 on the CPU, the same result in each.

        Args:
            tensor: int64 or bool, of the same shape in every process.
        """
        mine = tensor.to(self.device, torch.int64)
        if self.group is None:
            return mine.unsqueeze(0)
        each = [torch.empty_like(mine) for _ in range(self.count)]
        torch.distributed.all_gather(each, mine.contiguous(), group=self.group)
        return torch.stack(each).cpu()


ALONE = TensorParallelGroup()
