"""Rotary position embedding of queries and keys. Knows positions and heads, not models.

Keys are stored as the model makes them, without rotation, and are rotated when they are read: a token can get a new
position any number of times without loss, and keys can be compared directly. A read costs one look-up and one complex
product.

In rotary embedding (RoFormer, arXiv 2104.09864) pairs of dimensions of a head are rotated by position · inv_freq[i]; in
the multimodal form (Qwen2-VL, arXiv 2409.12191) every frequency uses one of three position axes. `axes` says which, so
that chunked, interleaved and one-dimensional layouts need no code of their own.
"""

import math
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

_LEAST_POSITIONS = 1024  # the smallest table of angles
_TABLE_BYTES = 64 << 20  # the largest table: beyond it angles are computed
_PIECE = 8192  # positions whose angles are computed at a time, in float64


class Rotary:
    """How a family rotates: the pair of dimensions i and i + n is rotated by position · inv_freq[i].

    Heads are stored in a layout of their own: the two dimensions of a frequency next to each other, frequencies of one
    axis together, and unrotated dimensions last. So a rotation is one complex product. Dot products of heads in this
    layout are the same as in the model's.

    Args:
        inv_freq: `[n]`, angle per position; 2·n is the head's width, or less if only its first part is rotated.
        axes: the position axis of each frequency: 0 temporal, 1 row, 2 column. By default all use one axis, as flat
            positions do.
    """

    def __init__(self, inv_freq: Tensor, axes: Sequence[int] | None = None) -> None:
        axes = [0] * len(inv_freq) if axes is None else axes
        if len(axes) != inv_freq.shape[0]:
            raise ValueError(f"{inv_freq.shape[0]} frequencies need as many axes, got {len(axes)}")
        self.inv_freq = inv_freq.detach().to("cpu", torch.float32)
        self.axes = tuple(axes)
        self._order = sorted(range(len(axes)), key=lambda frequency: axes[frequency])
        runs = [(axis, len(list(run))) for axis, run in groupby(sorted(axes))]
        # Angles are looked up in pieces of one width for all axes, so that one look-up serves them all.
        self._piece = math.gcd(*(count for _, count in runs)) if len(runs) > 1 else len(axes)
        self._axis_of_piece = [axis for axis, count in runs for _ in range(count // self._piece)]
        self._layouts: dict[tuple[int, torch.device], Tensor] = {}
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def to_stored(self, *heads: Tensor) -> Tensor:
        """Concatenates heads `[heads, ..., head_dim]` of a model, in the stored layout."""
        width, half = heads[0].shape[-1], len(self.axes)
        if width == 2 * half and self._order == list(range(half)):
            pairs = [part.unflatten(-1, (2, half)).transpose(-1, -2) for part in heads]
            joined = pairs[0] if len(pairs) == 1 else torch.cat(pairs)
            return joined.reshape(len(joined), *heads[0].shape[1:])
        joined = heads[0] if len(heads) == 1 else torch.cat(heads)
        return joined.index_select(-1, self._layout(joined))

    def angles(self, positions: Sequence[Tensor], highest: int) -> Tensor:
        """The rotations of heads at some positions, `[..., frequencies]` complex64 in the order of the stored layout.

        Args:
            positions: `[...]` int for each axis, or one for all.
            highest: an upper bound of the positions.
        """
        device, count = positions[0].device, len(self._axis_of_piece)
        where = [positions[axis if len(positions) > 1 else 0] for axis in self._axis_of_piece]
        if highest >= _TABLE_BYTES // (8 * len(self.axes)):
            frequency = self.inv_freq[self._order].to(device, non_blocking=True).view(count, self._piece)
            turn = (torch.stack(where, -1).unsqueeze(-1) * frequency).flatten(-2)
            return torch.complex(turn.cos(), turn.sin())
        table, places = self._table(device, highest)
        index = where[0].reshape(-1) if count == 1 else torch.add(places, torch.stack(where, -1), alpha=count).view(-1)
        return table.index_select(0, index).view(*where[0].shape, len(self.axes))

    def rotate(self, heads: Tensor, angles: Tensor, out: Tensor) -> Tensor:
        """Rotates heads.

        Args:
            heads: `[..., head_dim]`, in the stored layout.
            angles: from `angles`; `[..., frequencies]`, broadcast over heads.
            out: float32, receives the result.

        Returns:
            `out`.
        """
        if heads.dtype == torch.float32 and heads.shape[-1] == 2 * len(self.axes):
            torch.mul(self._pairs(heads), angles, out=self._pairs(out))
        else:
            self.rotate_(out.copy_(heads), angles)
        return out

    def rotate_(self, heads: Tensor, angles: Tensor) -> Tensor:
        """Rotates heads `[..., head_dim]` float32 in the stored layout, in place; returns them."""
        self._pairs(heads).mul_(angles)
        return heads

    def _pairs(self, heads: Tensor) -> Tensor:
        """The rotated part of heads as complex numbers: a view."""
        return torch.view_as_complex(heads[..., : 2 * len(self.axes)].unflatten(-1, (-1, 2)))

    def _layout(self, heads: Tensor) -> Tensor:
        """The permutation of a head's dimensions, cached per width and device."""
        at = heads.shape[-1], heads.device
        if at not in self._layouts:
            half = len(self.axes)
            order = [dimension for frequency in self._order for dimension in (frequency, half + frequency)]
            forth = torch.tensor([*order, *range(2 * half, heads.shape[-1])])
            self._layouts[at] = forth.to(heads.device, non_blocking=True)
        return self._layouts[at]

    def _table(self, device: torch.device, highest: int) -> tuple[Tensor, Tensor]:
        """e^(i · position · frequency), piece by piece for each position: `[positions · pieces, piece]` complex64.

        The table doubles as streams reach higher positions; if they re-base, it stays within the trained range. Angles
        are rounded as models round them, to the float32 product of position and frequency. The second tensor,
        `[pieces]`, has the index of each piece.
        """
        known = self._tables.get(device)
        pieces = len(self._axis_of_piece)
        if known is None or len(known[0]) <= highest * pieces:
            count = max(_LEAST_POSITIONS, 1 << highest.bit_length())
            frequency, parts = self.inv_freq[self._order], []
            for places in torch.arange(count, dtype=torch.float32)[:, None].split(_PIECE):
                angle = (places * frequency).double()
                parts.append(torch.complex(angle.cos().float(), angle.sin().float()).to(device, non_blocking=True))
            known = torch.cat(parts).view(-1, self._piece), torch.arange(pieces, device=device, dtype=torch.int32)
            self._tables[device] = known
        return known
