"""Small pictures of cells, by which it can be told whether a place has changed. Knows no model."""

import torch
from torch import Tensor

SIDE = 4  # blocks along each side of a cell


def picture_bytes(frames: int) -> int:
    """Bytes of the picture of a cell of a temporal patch of so many frames."""
    return frames * SIDE * SIDE * 3


def pictures(blocks: Tensor, rows: int, columns: int) -> Tensor:
    """What each cell shows: `[rows · columns, frames · 16, 3]` uint8.

    Args:
        blocks: the mean colours of 4 x 4 blocks of each cell, `[frames, 3, 4 · rows, 4 · columns]`, 0 to 1.
        rows, columns: of the grid.
    """
    levels = blocks.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    parted = levels.view(len(blocks), 3, rows, SIDE, columns, SIDE).permute(2, 4, 0, 3, 5, 1)
    return parted.reshape(rows * columns, -1, 3)
