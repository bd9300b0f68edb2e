"""What a policy sees of a memory: the video tokens of one layer, all heads together or a part of one head's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from infinipot.errors import PolicyError
from infinipot.memory.ranks import ALONE, Ranks
from infinipot.memory.rotary import Rotary
from infinipot.memory.storage import BoundedLayer
from infinipot.policies.base import Grid, Policy, VideoTokens


@dataclass(frozen=True, slots=True)
class Viewer:
    """Looks at the cells that lie in some runs of slots, the same in every layer.

    Attributes:
        layers: the layers that hold them, and rotary: how their keys are rotated, by device.
        slots: the runs, in order of arrival.
        grids, newest_patch: see `VideoTokens`.
        across_spans: whether cells of one number may differ in row and column position.
        noted: the newest temporal patch of which the policy has noted what it will, -1 for none.
        ranks: the processes that share the heads.
        notes: for each layer, `[kv_heads, N]` float32, what the policy noted of all tokens; empty if it does not
            note, and ahead of that.
    """

    layers: Sequence[BoundedLayer]
    rotary: dict[torch.device, Rotary]
    slots: list[slice]
    grids: tuple[Grid, ...]
    newest_patch: int
    across_spans: bool
    noted: int = -1
    ranks: Ranks = ALONE
    notes: Sequence[Tensor] = ()

    def tokens(self, layer: int) -> VideoTokens:
        """All that one layer holds."""
        bounded = self.layers[layer]
        parts = bounded.slab.keys, bounded.slab.values, bounded.slab.origin
        keys, values, origin = (_take(part, self.slots).transpose(0, 1) for part in parts)
        heads = torch.arange(bounded.shape.kv_heads, device=bounded.shape.device)

        def unrotate(order: Tensor | None = None) -> Tensor:
            return self._unrotated(bounded, heads, order)

        return VideoTokens(
            keys=keys,
            values=values,
            patch=origin[..., 0],
            cell=origin[..., 1],
            grids=self.grids,
            newest_patch=self.newest_patch,
            layer=layer,
            layers=len(self.layers),
            unrotate=unrotate,
            first_head=self.ranks.number * bounded.shape.kv_heads,
            noted=self.notes[layer] if self.notes else None,
        )

    def noted_by(self, policy: Policy) -> Self:
        """The same, with notes of all tokens: of those up to patch `noted` the stored ones, of the others new ones.

        Raises:
            PolicyError: the policy's notes are not one float32 a token.
        """
        notes = []
        for layer, bounded in enumerate(self.layers):
            tokens = self.tokens(layer)
            now = policy.note(tokens)
            if now is None:
                return self
            if now.shape != tokens.cell.shape or now.dtype != torch.float32:
                raise PolicyError(
                    f"policy {policy.name!r} noted {now.dtype} of shape {tuple(now.shape)}: "
                    f"float32 of shape {tuple(tokens.cell.shape)} was asked for"
                )
            before = _take(bounded.slab.notes, self.slots).T
            notes.append(torch.where(tokens.patch > self.noted, now, before))
        return replace(self, notes=notes)

    def part(self, tokens: VideoTokens, head: int, index: Tensor) -> VideoTokens:
        """Of one head of a layer's tokens, those at `index` `[n]` int64, ascending: as if it held no others."""
        bounded = self.layers[tokens.layer]
        heads = torch.tensor([head], device=index.device)

        def unrotate(order: Tensor | None = None) -> Tensor:
            return self._unrotated(bounded, heads, (index if order is None else index[order]).view(1, -1))

        per_token = ("keys", "values", "patch", "cell", *(["noted"] if self.notes else []))
        shown = {name: getattr(tokens, name)[head : head + 1, index] for name in per_token}
        return replace(tokens, **shown, unrotate=unrotate, first_head=tokens.first_head + head)

    def _unrotated(self, bounded: BoundedLayer, heads: Tensor, order: Tensor | None) -> Tensor:
        """Keys `[heads, n, head_dim]` float32 in some order `[heads, n]`, moved to temporal position 0.

        Within one span, tokens of a cell have the same row and column positions, so only time has to be undone.
        """
        shape = bounded.shape
        # A memory's video is one run of slots, but where text stands inside it or a draft puts some behind it.
        if order is None or len(self.slots) > 1:
            slots = slot_numbers(self.slots, shape.device)
            slot = slots if order is None else slots[order]
        else:
            slot = order + self.slots[0].start
        rows = (slot * shape.kv_heads + heads.unsqueeze(-1)).reshape(-1)
        keys = bounded.slab.keys.view(-1, shape.head_dim).index_select(0, rows).to(torch.float32)
        temporal, base = bounded.slab.origin.view(-1, 4)[:, 2:].index_select(0, rows).unbind(-1)
        turned = self.rotary[shape.device].unrotate_(keys, temporal, base if self.across_spans else None)
        return turned.view(len(heads), -1, shape.head_dim)


def slot_numbers(slices: list[slice], device: torch.device) -> Tensor:
    """The slots of some runs, `[n]` int64."""
    runs = [torch.arange(part.start, part.stop, device=device) for part in slices]
    return torch.cat(runs) if runs else torch.zeros(0, dtype=torch.int64, device=device)


def _take(rows: Tensor, slices: list[slice]) -> Tensor:
    """The rows of these slices: a view where they are one run."""
    return rows[slices[0]] if len(slices) == 1 else torch.cat([rows[part] for part in slices])
