"""Rotary position embedding of what attends and what is attended to. Knows positions and heads, not models.

Keys are stored as the model makes them, without rotation, and are rotated when they are read: a token can be given
another position any number of times at no loss, and comparing keys needs no undoing. A read costs one look-up and one
complex product a key for each axis.

In rotary embedding (RoFormer, arXiv 2104.09864) two dimensions of a head turn together, by position · inv_freq[i]; in
the multimodal form (Qwen2-VL, arXiv 2409.12191) every frequency turns with one of three position axes. `axes` says with
which, so that chunked, interleaved and one-dimensional layouts are all the same here.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

_LEAST_POSITIONS = 1024  # that a table of angles is made for
_TABLE_BYTES = 64 << 20  # of one at the most: angles of positions beyond it are computed
_PIECE = 8192  # positions whose angles are computed at once, in float64


class Rotary:
    """How a family rotates: dimensions i and i + n turn together, by position · inv_freq[i].

    Heads are stored in a layout of their own: the two dimensions of a frequency side by side, frequencies of one axis
    in a row, and behind them what does not turn. So a rotation is one complex product an axis. Products of two heads in
    this layout are those of the model's.

    Args:
        inv_freq: `[n]`, angle per position; 2·n is the head's width, or less where only its first part is rotated.
        axes: for each frequency the position axis it turns with: 0 temporal, 1 row, 2 column.
    """

    def __init__(self, inv_freq: Tensor, axes: Sequence[int]) -> None:
        if len(axes) != inv_freq.shape[0]:
            raise ValueError(f"{inv_freq.shape[0]} frequencies need as many axes, got {len(axes)}")
        self.inv_freq = inv_freq.detach().to("cpu", torch.float32)
        self.axes = tuple(axes)
        self._order = sorted(range(len(axes)), key=lambda frequency: axes[frequency])
        runs = [(axis, len(list(run))) for axis, run in groupby(sorted(axes))]
        ends = torch.tensor([count for _, count in runs]).cumsum(0).tolist()
        self.sections = tuple((axis, slice(end - count, end)) for (axis, count), end in zip(runs, ends, strict=True))
        self._layouts: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}
        self._tables: dict[torch.device, list[Tensor]] = {}

    def to_stored(self, heads: Tensor) -> Tensor:
        """Heads `[..., head_dim]` of a model in the layout of this class."""
        return heads.index_select(-1, self._layout(heads)[0])

    def to_model(self, heads: Tensor) -> Tensor:
        """The model's own layout of heads `[..., head_dim]`."""
        return heads.index_select(-1, self._layout(heads)[1])

    def angles(self, positions: Sequence[Tensor], highest: int) -> list[Tensor]:
        """What turns heads at some positions, one tensor a section: `[..., frequencies]` complex64.

        Args:
            positions: `[...]` int of each axis, or one for all.
            highest: no position is above it.
        """
        device = positions[0].device
        where = [positions[axis if len(positions) > 1 else 0] for axis, _ in self.sections]
        if highest >= _TABLE_BYTES // (8 * len(self.axes)):
            frequency = self.inv_freq[self._order].to(device)
            turns = [
                at.unsqueeze(-1) * frequency[section] for at, (_, section) in zip(where, self.sections, strict=True)
            ]
            return [torch.complex(turn.cos(), turn.sin()) for turn in turns]
        tables = self._tables_of(device, highest)
        return [
            table.index_select(0, at.reshape(-1)).view(*at.shape, table.shape[1])
            for at, table in zip(where, tables, strict=True)
        ]

    def rotate_(self, heads: Tensor, angles: Sequence[Tensor]) -> Tensor:
        """Turns heads, in place.

        Args:
            heads: `[..., head_dim]` float32, in the stored layout.
            angles: see there; `[..., frequencies]` each, broadcast over heads.

        Returns:
            `heads`.
        """
        pairs = torch.view_as_complex(heads[..., : 2 * len(self.axes)].unflatten(-1, (-1, 2)))
        for (_, section), turn in zip(self.sections, angles, strict=True):
            pairs[..., section].mul_(turn)
        return heads

    def _layout(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """The permutation of a head's dimensions, and the one back, made once a width and device."""
        at = heads.shape[-1], heads.device
        if at not in self._layouts:
            half = len(self.axes)
            order = [dimension for frequency in self._order for dimension in (frequency, half + frequency)]
            forth = torch.tensor([*order, *range(2 * half, heads.shape[-1])])
            self._layouts[at] = forth.to(heads.device), forth.argsort().to(heads.device)
        return self._layouts[at]

    def _tables_of(self, device: torch.device, highest: int) -> list[Tensor]:
        """For each section e^(i · position · frequency), `[positions, frequencies]` complex64.

        They grow by doubling to what streams reach, the trained range at the most where those re-base. Angles are
        rounded as models round them, to the float32 product of position and frequency.
        """
        tables = self._tables.get(device)
        if tables is None or len(tables[0]) <= highest:
            count = max(_LEAST_POSITIONS, 1 << highest.bit_length())
            frequency, pieces = self.inv_freq[self._order], []
            for places in torch.arange(count, dtype=torch.float32)[:, None].split(_PIECE):
                angle = (places * frequency).double()
                pieces.append(torch.complex(angle.cos().float(), angle.sin().float()).to(device))
            turns = torch.cat(pieces)
            tables = [turns[:, section].contiguous() for _, section in self.sections]
            self._tables[device] = tables
        return tables
