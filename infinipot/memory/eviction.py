"""Which cells and which captions stay. Knows policies and what they are shown, not where slots lie.

Cells are chosen by the policy, for each layer and KV head. Captions (text that stands with a temporal patch, such as
its time) are held by all layers and heads alike, so they cannot follow each head's choice: policies vote. What a policy
would keep without a thought for captions counts, cell by cell, as votes for patches; patches keep their captions in
order of votes while those take a bounded share of what stays; patches beyond it go, cells and captions. Then the policy
chooses again, shown nothing but cells of the patches that stay. It never learns that there are captions. Where several
processes share the heads, votes and cells are counted over all of them, so that each comes to the same captions.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infinipot.errors import PolicyError
from infinipot.memory.view import Viewer
from infinipot.policies.base import Policy, VideoTokens

CAPTION_SHARE = 0.25  # of what a compression leaves: the most that captions take, if cells can fill the rest


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays.

    Attributes:
        cells: for each layer, `[kv_heads, n]` int64, which of its cells, ascending; n is the same for all.
        patches: the temporal patches whose captions stay.
        notes: for each layer, `[kv_heads, n]` float32, what the policy noted of those cells, if it does.
    """

    cells: list[Tensor]
    patches: frozenset[int] = frozenset()
    notes: Sequence[Tensor] = ()

    @property
    def count(self) -> int:
        """Cells that stay, per layer and KV head."""
        return self.cells[0].shape[-1]


def evict(policy: Policy, viewer: Viewer, captions: Sequence[int], budget: int) -> Kept:
    """Chooses what stays.

    Args:
        policy: chooses cells.
        viewer: shows them.
        captions: for each caption token held, the temporal patch that it belongs to; every patch of which cells are
            held has some, or none has.
        budget: |C|, the cells and caption tokens that stay; where there are captions, a few fewer may.

    Raises:
        PolicyError: the policy's choice is not what was asked for.
    """
    viewer = viewer.noted_by(policy)
    layers = range(len(viewer.layers))
    if not captions:
        everywhere = [_select(policy, viewer.tokens(layer), budget) for layer in layers]
        return Kept(everywhere, notes=_notes(viewer, everywhere))
    words = Counter(captions)
    patches = sorted(words)
    unit = viewer.grids[-1].cells if policy.whole_patches else 1
    first = budget - min(len(captions), int(CAPTION_SHARE * budget))
    votes, own = _votes(policy, viewer, patches, first - first % unit)
    votes, cells = viewer.ranks.gather(votes).sum(0), viewer.ranks.gather(own).flatten(0, 1)
    allowed = _admitted([words[patch] for patch in patches], votes.tolist(), cells, budget - unit + 1)
    room = budget - sum(words[patches[number]] for number in allowed)
    room = min(room, int(cells[:, allowed].sum(1).min()))
    lengths = own[:, allowed].sum(1).view(len(viewer.layers), -1).tolist()
    kept, used = _select_among(policy, viewer, patches, allowed, lengths, room - room % unit)
    return Kept(kept, frozenset(patches[number] for number in used), _notes(viewer, kept))


def _notes(viewer: Viewer, cells: list[Tensor]) -> list[Tensor]:
    """What the policy noted of the chosen cells of each layer; nothing if it does not note."""
    return [viewer.notes[layer].gather(1, chosen) for layer, chosen in enumerate(cells)] if viewer.notes else []


def _votes(policy: Policy, viewer: Viewer, patches: list[int], budget: int) -> tuple[Tensor, Tensor]:
    """How many cells of each patch the policy keeps, `[patches]`, and how many each head of a layer holds,
    `[layers · kv_heads, patches]`."""
    votes, held = [], []
    for layer in range(len(viewer.layers)):
        tokens = viewer.tokens(layer)
        number = _numbered(tokens, patches)
        chosen = number.gather(1, _select(policy, tokens, budget))
        votes.append(_count(chosen, len(patches)).sum(0))
        held.append(_count(number, len(patches)))
    # Devices are waited for once all layers have their work.
    return torch.stack([vote.cpu() for vote in votes]).sum(0), torch.cat([count.cpu() for count in held])


def _count(numbers: Tensor, patches: int) -> Tensor:
    """How often each of `patches` numbers stands in each row of `[rows, n]`: `[rows, patches]` int64."""
    counts = numbers.new_zeros(len(numbers), patches)
    return counts.scatter_add_(1, numbers, torch.ones_like(numbers))


def _admitted(words: list[int], votes: list[int], cells: Tensor, budget: int) -> list[int]:
    """The patches that keep their captions, ascending: the newest, and others in order of votes.

    Captions take up to their share of the budget. Where the cells of so few patches would not fill the rest, more
    patches stay, as long as each brings at least as many cells as its caption takes: what is left over stays empty.

    Args:
        words: caption tokens of each patch.
        votes: for each patch.
        cells: `[rows, patches]`, how many each head of each layer holds.
        budget: cells and captions together leave at the most this many.
    """
    newest, fewest = len(words) - 1, cells.amin(0).tolist()
    admitted, taken, held = [], 0, torch.zeros_like(cells[:, 0])
    for number in sorted(range(len(words)), key=lambda number: (number != newest, -votes[number], -number)):
        after = taken + words[number]
        shared = after <= CAPTION_SHARE * budget and votes[number] > 0
        fills = taken + int(held.min()) < budget and fewest[number] >= words[number]
        if after < budget and (number == newest or shared or fills):
            admitted.append(number)
            taken, held = after, held + cells[:, number]
    return sorted(admitted)


def _select_among(
    policy: Policy, viewer: Viewer, patches: list[int], allowed: list[int], lengths: list[list[int]], budget: int
) -> tuple[list[Tensor], set[int]]:
    """The policy's choice among the cells of some patches, for each layer, and the patches that it is from.

    Args:
        allowed: places in `patches`.
        lengths: for each layer and head, how many cells it holds of those.
    """
    kept, used = [], []
    unit = viewer.grids[-1].cells if policy.whole_patches else 1
    among = torch.zeros(len(patches), dtype=torch.bool).index_fill(0, torch.tensor(allowed, dtype=torch.int64), True)
    for layer, counts in enumerate(lengths):
        tokens = viewer.tokens(layer)
        number = _numbered(tokens, patches)
        # Those that may stay first, in their order: how many they are is known, so no device has to be asked.
        order = (~among.to(number.device)[number]).to(torch.uint8).argsort(dim=1, stable=True)
        chosen = []
        for head, count in enumerate(counts):
            index = order[head, count % unit : count]
            chosen.append(index[_select(policy, viewer.part(tokens, head, index), budget)[0]])
        kept.append(torch.stack(chosen))
        used.append(_count(number.gather(1, kept[-1]), len(patches)).sum(0))
    stays = torch.stack([count.cpu() for count in used]).any(0)
    return kept, set(viewer.ranks.gather(stays).any(0).nonzero().flatten().tolist())


def _numbered(tokens: VideoTokens, patches: list[int]) -> Tensor:
    """For each token the place of its patch in `patches`: `[kv_heads, N]` int64."""
    return torch.searchsorted(torch.tensor(patches, device=tokens.patch.device), tokens.patch.long().contiguous())


def _select(policy: Policy, tokens: VideoTokens, budget: int) -> Tensor:
    """A policy's choice, `[kv_heads, budget]` int64 ascending; everything where the budget is no limit."""
    heads, length = tokens.cell.shape
    if not 0 < budget < length:
        return torch.arange(min(budget, length), device=tokens.cell.device).expand(heads, -1)
    chosen = policy.select(tokens, budget)
    if chosen.shape != (heads, budget) or chosen.dtype != torch.int64:
        raise PolicyError(
            f"policy {policy.name!r} returned {chosen.dtype} indices of shape {tuple(chosen.shape)}: "
            f"int64 of shape {(heads, budget)} were asked for"
        )
    return _ascending(chosen, length)


def _ascending(chosen: Tensor, length: int) -> Tensor:
    """Rows of indices below `length`, put in order: by counting, which is faster than sorting."""
    heads, count = chosen.shape
    taken = torch.zeros(heads, length, dtype=torch.bool, device=chosen.device).scatter_(1, chosen, True)
    place = torch.where(taken, taken.cumsum(1) - 1, count)
    index = torch.arange(length, device=chosen.device).expand(heads, -1)
    return torch.zeros(heads, count + 1, dtype=torch.int64, device=chosen.device).scatter_(1, place, index)[:, :count]
