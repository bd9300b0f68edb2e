"""Video tokens made of random or chosen numbers, as policies are shown them."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from infinipot import policies
from infinipot.policies import Policy
from infinipot.tokens import Grid, NewTokens, VideoTokens, take

HEAD_DIM = 8


def reading(states: Mapping[str, Tensor]) -> Callable[[str, slice], Tensor]:
    """What reads them, as tokens do."""
    return lambda name, rows: states[name][rows]


def changed(tokens: VideoTokens, **given: Any) -> VideoTokens:
    """The same tokens with other keys, values, rotated keys or anything else."""
    states = {name: given.pop(name, getattr(tokens, name)) for name in ("keys", "values", "rotated")}
    return replace(tokens, read=reading(states), **given)


def shown(policy: Policy, tokens: VideoTokens, asked: list[tuple[str, slice]] | None = None) -> VideoTokens:
    """The tokens with the policy's columns, measured as if they had come one after the other and all had stayed.

    Args:
        asked: where it is written which states of which rows the policy reads while it measures.
    """
    latest = torch.full(tokens.shape, -1)
    for row, order in enumerate(tokens.in_order().tolist()):
        last: dict[int, int] = {}
        for place in order:
            cell = int(tokens.cell[row, place])
            latest[row, place], last[cell] = last.get(cell, -1), place
    states = {name: getattr(tokens, name) for name in ("keys", "values", "rotated")}
    states |= {"previous": take(tokens.keys, latest.clamp_min(0)), "has_previous": latest >= 0}
    plain = {field.name: getattr(tokens, field.name) for field in fields(tokens)}
    read = reading(states)

    def noted(name: str, rows: slice) -> Tensor:
        if asked is not None:
            asked.append((name, rows))
        return read(name, rows)

    new = NewTokens(**plain | {"read": noted})
    told = {
        name: paid.nan_to_num().sigmoid()
        for name, paid in zip(policy.attention, tokens.values.float().unbind(-1), strict=False)
    }
    told |= {"hidden": torch.zeros(tokens.shape, dtype=torch.float32)} if policy.hides else {}
    told |= {"mass": torch.ones(tokens.shape, dtype=torch.float32)} if policy.merges else {}
    return replace(tokens, columns={**policy.measure(new), **told})


def select(policy: Policy | str, tokens: VideoTokens, budget: int) -> Tensor:
    policy = policies.make(policy)
    return policy.select(shown(policy, tokens), budget)


def turned(keys: Tensor, patch: Tensor) -> Tensor:
    """Keys rotated by time, as a model's rotary embedding does, in the first two of their four pairs."""
    angle = patch[..., None] * torch.tensor([1.0, 0.3])
    x, y = keys[..., :2], keys[..., 4:6]
    moved = keys.clone()
    moved[..., :2] = x * angle.cos() - y * angle.sin()
    moved[..., 4:6] = x * angle.sin() + y * angle.cos()
    return moved


def video_tokens(
    plain: Tensor, values: Tensor, patch: Tensor, cell: Tensor, grids: tuple[Grid, ...], **where: Any
) -> VideoTokens:
    """Tokens whose keys without rotation are `plain`."""
    where = {"newest_patch": int(patch.max()), "layer": 0, "layers": 4} | where
    patch, cell, layer = patch.int(), cell.int(), [where.pop("layer")] * len(patch)
    states = {"keys": plain, "values": values, "rotated": turned(plain, patch)}
    return VideoTokens(patch, cell, grids, layer=layer, head=range(len(patch)), read=reading(states), **where)


def random_tokens(
    seed: int = 0,
    heads: int = 2,
    sizes: tuple[tuple[int, int], ...] = ((2, 3),),
    patches: int = 8,
    held: float = 0.7,
    **where: int,
) -> VideoTokens:
    """Patches of one size after the other, of which each head holds other tokens."""
    draw = torch.Generator().manual_seed(seed)
    grids: list[Grid] = []
    for rows, columns in sizes:
        grids.append(Grid(rows, columns, first_cell=sum(grid.cells for grid in grids)))
    seen = [
        (t, grid.first_cell + c)
        for t in range(patches)
        for grid in [grids[t * len(grids) // patches]]
        for c in range(grid.cells)
    ]
    count = max(2, int(held * len(seen)))
    index = torch.stack([torch.randperm(len(seen), generator=draw)[:count].sort().values for _ in range(heads)])
    patch, cell = torch.tensor(seen).T[:, index]
    plain, values = torch.randn(2, heads, count, HEAD_DIM, generator=draw)
    return video_tokens(plain, values, patch, cell, tuple(grids), **{"newest_patch": patches - 1} | where)


def copies(tokens: VideoTokens, kinds: int, seed: int = 0) -> VideoTokens:
    """The same places, at which keys and values are exact copies of a few: a picture that stands still."""
    draw = torch.Generator().manual_seed(seed)
    rows, length = tokens.shape
    which = torch.randint(0, kinds, (rows, length, 1), generator=draw).expand(-1, -1, HEAD_DIM)
    plain, values = (part.gather(1, which) for part in torch.randn(2, rows, kinds, HEAD_DIM, generator=draw))
    return changed(tokens, keys=plain, values=values, rotated=turned(plain, tokens.patch))


def as_sets(selected: Tensor) -> list[set[int]]:
    return [set(row) for row in selected.tolist()]
