"""Which cells and which captions stay. Knows policies and what they are shown, not where slots lie.

The policy chooses cells for each row, i.e. each KV head of a layer. Captions (text that belongs to a temporal patch,
such as its time) are held by all rows alike, so they cannot follow the choice of each row. They are put to a vote: each
cell that the policy would keep, captions aside, is a vote for its patch. Patches keep their captions in order of votes,
as long as captions take no more than a bounded share of what stays. All other patches go, cells and captions. Then the
policy chooses again among the cells of the patches that stay. It never learns that there are captions. If several
processes share the heads, votes and cells are counted over all of them, so that all keep the same captions.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infinipot.errors import PolicyError
from infinipot.memory.storage import Rows
from infinipot.memory.tensor_parallel import TensorParallelGroup
from infinipot.memory.transaction import NOWHERE
from infinipot.memory.view import Viewer
from infinipot.policies.base import Policy
from infinipot.policies.scoring.ranking import highest
from infinipot.tokens import VideoTokens, is_at_hand

Part = Callable[[VideoTokens, int, slice], tuple[VideoTokens, Tensor | None]]
CAPTION_SHARE = 0.25  # the most that captions take of what a compression leaves, if cells can fill the rest


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays.

    Attributes:
        indices: for each group of rows, which of its cells stay, `[rows, count]` int64.
        count: how many cells stay, the same in each row.
        patches: the temporal patches whose captions stay.
    """

    indices: list[Tensor]
    count: int
    patches: frozenset[int] = frozenset()


def evict(policy: Policy, viewer: Viewer, captions: Sequence[int], budget: int, tp_group: TensorParallelGroup) -> Kept:
    """Chooses what stays.

    Args:
        policy: chooses the cells.
        viewer: shows the cells.
        captions: for each held caption token, the temporal patch it belongs to. Either every patch with held cells has
            captions, or none has.
        budget: |C|, the cells and caption tokens that stay; with captions it may be a few fewer.
        tp_group: the processes that share the rows.

    Raises:
        PolicyError: the policy's choice has the wrong type, shape or values.
    """
    if not captions:
        count = min(budget, viewer.held.cell_tokens)
        return Kept(_select(policy, viewer, count), count)
    return _evict_with_captions(policy, viewer, Counter(captions), budget, tp_group)


def _evict_with_captions(
    policy: Policy, viewer: Viewer, words: Counter[int], budget: int, tp_group: TensorParallelGroup
) -> Kept:
    """Chooses what stays if patches have captions; `words` has the caption tokens of each patch, by its number."""
    patches = sorted(words)
    unit = viewer.grids[-1].cells if policy.whole_patches else 1
    first = budget - min(words.total(), int(CAPTION_SHARE * budget))
    wanted = _select(policy, viewer, min(first - first % unit, viewer.held.cell_tokens))
    numbers = [_numbered(group.columns["patch"], viewer, number, patches) for number, group in enumerate(viewer.groups)]
    votes, cells = _votes(numbers, wanted, len(patches), tp_group)
    allowed = _admitted([words[patch] for patch in patches], votes.tolist(), cells, budget - unit + 1)
    # Rows hold different numbers of cells of those patches: all show as many as the row with the fewest.
    least = int(cells[:, allowed].sum(1).min())
    room = min(budget - sum(words[patches[number]] for number in allowed), least)
    room, shown = room - room % unit, least - least % unit
    among = torch.zeros(len(patches), dtype=torch.bool).index_fill(0, torch.tensor(allowed, dtype=torch.int64), True)
    kept = _select_among(policy, viewer, numbers, wanted, among, shown, room)
    used, _ = _votes(numbers, kept, len(patches), tp_group)
    return Kept(kept, room, frozenset(patches[number] for number in used.nonzero()[:, 0].tolist()))


def _select(policy: Policy, viewer: Viewer, budget: int) -> list[Tensor]:
    """The policy's choice among all cells, `[rows, budget]` for each group."""
    return _chosen(policy, viewer, viewer.held.cell_tokens, budget, lambda tokens, _number, _rows: (tokens, None))


def _select_among(
    policy: Policy,
    viewer: Viewer,
    numbers: list[Tensor],
    wanted: list[Tensor],
    among: Tensor,
    shown: int,
    room: int,
) -> list[Tensor]:
    """The policy's choice among the cells of some patches.

    Args:
        numbers: for each group, the patch number of each cell.
        wanted: the policy's choice among all cells. If a row has more than `shown` allowed cells, these come first.
        among: `[patches]` bool, the allowed patches.
        shown: how many cells of each row the policy is shown.
        room: how many cells stay.
    """

    def part(tokens: VideoTokens, number: int, rows: slice) -> tuple[VideoTokens, Tensor]:
        allowed = among.to(tokens.cell.device, non_blocking=True)[numbers[number][rows]]
        first = torch.zeros_like(allowed).scatter_(1, wanted[number][rows], True)
        index = highest(allowed.float() * (1 + first), shown, tokens.arrival)
        return tokens.part(index), index

    return _chosen(policy, viewer, shown, room, part)


def _chosen(policy: Policy, viewer: Viewer, length: int, budget: int, part: Part) -> list[Tensor]:
    """The indices of the cells that stay, `[rows, budget]` for each group. The policy is asked if there is a choice.

    Args:
        length: how many cells of each row the policy is shown.
        part: maps the tokens of some rows to those that the policy is shown, with their indices among all.
    """
    choices: list[list[Tensor]] = [[] for _ in viewer.groups]
    choice = 0 < budget < length
    for number, rows in viewer.chunks(length, choice and policy.reads_states, whole=policy.across_layers):
        tokens, index = part(viewer.tokens(viewer.groups[number], rows), number, rows)
        count = rows.stop - rows.start
        if choice:
            chosen = policy.select(tokens, budget)
            _check(policy, chosen, (count, budget), length)
        else:
            chosen = torch.arange(min(budget, length), device=tokens.cell.device).expand(count, -1)
        choices[number].append(chosen if index is None else index.gather(1, chosen))
    return [torch.cat(parts) for parts in choices]


def _check(policy: Policy, chosen: Tensor, shape: tuple[int, int], length: int) -> None:
    """Checks type and shape of a policy's choice, and its values if they are on a CPU: nothing waits for a device."""
    if chosen.shape != shape or chosen.dtype != torch.int64:
        raise PolicyError(
            f"policy {policy.name!r} returned {chosen.dtype} indices of shape {tuple(chosen.shape)}: "
            f"int64 of shape {shape} were asked for"
        )
    if not is_at_hand(chosen):
        return
    least, most = (int(end) for end in chosen.aminmax())
    if least < 0 or most >= length:
        raise PolicyError(
            f"policy {policy.name!r} returned indices from {least} to {most}: tokens are numbered from 0 to "
            f"{length - 1}"
        )


def _numbered(patch: Tensor, viewer: Viewer, number: int, patches: list[int]) -> Tensor:
    """For each cell of a group, the index of its patch in `patches`, `[rows, count]` int64."""
    group = viewer.groups[number]
    own = patch.gather(1, viewer.slots(group, slice(0, group.count))).long()
    return torch.searchsorted(torch.tensor(patches).to(own.device, non_blocking=True), own)


def _votes(
    numbers: Sequence[Tensor], chosen: Sequence[Tensor], patches: int, tp_group: TensorParallelGroup
) -> tuple[Tensor, Tensor]:
    """How many cells of each patch were chosen, `[patches]`, and how many each row holds, `[rows, patches]`.

    Both are on the CPU and cover the rows of all processes. This is the only step of a compression that waits for its
    devices, since the number of captions that stay determines how many slots are held.
    """
    counts = [
        torch.stack([_count(own.gather(1, some), patches), _count(own, patches)])
        for own, some in zip(numbers, chosen, strict=True)
    ]
    votes_and_cells = tp_group.gather(torch.cat([count.cpu() for count in counts], 1))
    return votes_and_cells[:, 0].sum((0, 1)), votes_and_cells[:, 1].flatten(0, 1)


def _count(numbers: Tensor, patches: int) -> Tensor:
    """How often each number below `patches` occurs in each row, `[rows, patches]` int64."""
    return numbers.new_zeros(len(numbers), patches).scatter_add_(1, numbers, torch.ones_like(numbers))


def _admitted(words: list[int], votes: list[int], cells: Tensor, budget: int) -> list[int]:
    """The patches that keep their captions, ascending: the newest, and others in order of votes.

    Captions take up to their share of the budget. If the cells of these patches would not fill the rest, more patches
    stay, as long as each brings at least as many cells as its caption has tokens. Any room left after that stays empty.

    Args:
        words: the caption tokens of each patch.
        votes: the votes for each patch.
        cells: `[rows, patches]`, how many cells of each patch each row holds.
        budget: the most cells and caption tokens that stay.
    """
    newest, fewest = len(words) - 1, cells.amin(0).tolist()
    admitted, used, held = [], 0, torch.zeros_like(cells[:, 0])
    for number in sorted(range(len(words)), key=lambda number: (number != newest, -votes[number], -number)):
        after = used + words[number]
        shared = after <= CAPTION_SHARE * budget and votes[number] > 0
        fills = used + int(held.min()) < budget and fewest[number] >= words[number]
        if after < budget and (number == newest or shared or fills):
            admitted.append(number)
            used, held = after, held + cells[:, number]
    return sorted(admitted)


def what_stays(
    group: Rows, viewer: Viewer, turns_gone: range, cells: Tensor | None, patches: frozenset[int] | None
) -> Tensor:
    """Which slots of a group of rows stay, `[rows, n]` bool.

    Args:
        turns_gone: the numbers of the turns that leave.
        cells: `[rows, count]`, the indices of the cells that stay; None for all.
        patches: the temporal patches whose captions stay; None for all.
    """
    held = viewer.held
    if held.run is not None and cells is not None and not held.captions and not turns_gone:
        stays = torch.ones(len(cells), held.tokens, dtype=torch.bool, device=cells.device)
        stays[:, held.run].zero_().scatter_(1, cells, True)
        return stays
    cell, patch = (group.columns[name][:, : held.tokens] for name in ("cell", "patch"))
    stays = cell >= 0
    if cells is not None:
        slots = viewer.slots(group, slice(0, group.count)).gather(1, cells)
        stays = torch.zeros_like(stays).scatter_(1, slots, True)
    turn = NOWHERE - cell  # the turn that text belongs to, 0 for the prompt
    stays |= (patch == NOWHERE) & ((turn < turns_gone.start) | (turn >= turns_gone.stop))
    words = (patch != NOWHERE) & (cell == NOWHERE)
    if patches is not None and patches:
        staying = torch.tensor(sorted(patches), dtype=patch.dtype).to(patch.device, non_blocking=True)
        words &= torch.isin(patch, staying)
    return stays if patches == frozenset() else stays | words
