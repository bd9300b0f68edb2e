"""Rotary position embedding of cached keys: turning them on, and back. Knows keys and positions, not models.

A key that was rotated for position p becomes the key of position p + δ by one more rotation by δ (RoFormer,
arXiv 2104.09864). In multimodal rotary embedding (Qwen2-VL, arXiv 2409.12191) every frequency turns with one of three
position axes; `axes` says with which, so that chunked, interleaved and one-dimensional layouts are all the same here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Rotary:
    """How a family rotates its keys: dimensions i and i + n turn together, by position · inv_freq[i].

    Args:
        inv_freq: `[n]`, angle per position; 2·n is the head's width, or less where only its first part is rotated.
        axes: for each frequency the position axis it turns with: 0 temporal, 1 row, 2 column.
    """

    def __init__(self, inv_freq: Tensor, axes: Sequence[int]) -> None:
        if len(axes) != inv_freq.shape[0]:
            raise ValueError(f"{inv_freq.shape[0]} frequencies need as many axes, got {len(axes)}")
        self.inv_freq = inv_freq.detach().to(torch.float32)
        self.axes = tuple(axes)
        temporal = torch.tensor([axis == 0 for axis in axes], device=inv_freq.device)
        self._in_time, self._in_space = self.inv_freq * temporal, self.inv_freq * ~temporal
        # The frequencies that a shift in time alone has to touch, as one slice.
        leading = self.axes.count(0)
        self._moved_by_time = slice(0, leading if set(self.axes[:leading]) <= {0} else len(axes))

    def to(self, device: torch.device) -> "Rotary":
        """The same rotation with its frequencies on another device."""
        return Rotary(self.inv_freq.to(device), self.axes)

    def unrotate_(self, keys: Tensor, temporal: Tensor, spatial: Tensor | None = None) -> Tensor:
        """Moves keys, in place, to temporal position 0, and by `-spatial` on the row and the column axis.

        Args:
            keys: `[..., head_dim]` float32.
            temporal: `[...]` int, the positions that they were rotated for.
            spatial: `[...]` int; None to leave rows and columns, which spares most of the work.

        Returns:
            `keys`.
        """
        turning = self._moved_by_time if spatial is None else slice(0, self.inv_freq.shape[0])
        angle = temporal.unsqueeze(-1) * self._in_time[turning]
        if spatial is not None:
            angle += spatial.unsqueeze(-1) * self._in_space
        return self._turn_(keys, angle.neg_(), turning)

    def move_(self, keys: Tensor, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> Tensor:
        """Moves keys, in place, from some positions to others: to what a model makes of them there, without drift.

        A model rounds the angle of a position to float32, which at 100,000 positions is a hundredth of a radian.
        The same rounding is done here for both ends of a move in time, and their difference is taken in float64.

        Args:
            keys: `[..., head_dim]` float32.
            before, after: temporal and base positions, `[...]` int each.

        Returns:
            `keys`.
        """
        wide = torch.float32 if keys.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        start, end = ((temporal.unsqueeze(-1) * self._in_time).to(wide) for temporal, _ in (before, after))
        angle = end - start + (after[1] - before[1]).unsqueeze(-1).to(wide) * self._in_space
        return self._turn_(keys, angle, slice(0, self.inv_freq.shape[0]))

    def _turn_(self, keys: Tensor, angle: Tensor, turning: slice) -> Tensor:
        half = self.inv_freq.shape[0]
        cos, sin = angle.cos().to(torch.float32), angle.sin().to(torch.float32)
        first, second = keys[..., :half][..., turning], keys[..., half : 2 * half][..., turning]
        turned = first * sin + second * cos
        first.mul_(cos).addcmul_(second, sin, value=-1.0)
        second.copy_(turned)
        return keys
