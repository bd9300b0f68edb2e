"""Plans a commit: what stays of the memory and the transaction, and where it moves.

It writes only to the slots of the transaction, which are not part of the memory yet. Knows the order of the steps, not
how a policy chooses.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from infinipot.errors import PolicyError
from infinipot.memory.eviction import Kept, evict, what_stays
from infinipot.memory.held import Held
from infinipot.memory.hiding import plan_hiding
from infinipot.memory.merging import Merging, plan_merging
from infinipot.memory.moves import Moves, plan_moves
from infinipot.memory.plan import Plan
from infinipot.memory.storage import Rows
from infinipot.memory.tensor_parallel import TensorParallelGroup
from infinipot.memory.transaction import NOWHERE, Kind, Transaction
from infinipot.memory.view import Viewer
from infinipot.policies.base import HIDDEN, MASS, UNSEEN, Policy

Viewing = Callable[..., Viewer]
Columns = list[dict[str, Tensor]]


def prepare(
    policy: Policy | None, groups: Sequence[Rows], transaction: Transaction, before: Held, grown: Held
) -> Columns:
    """Initialises the columns of the transaction's tokens; returns the new contents of the attention columns.

    Args:
        policy: the policy that the columns are for.
        groups: all rows.
        transaction: its tokens are in the slots after what is held.
        before, grown: what is held without the transaction and with it.
    """
    _label(groups, transaction, before, grown)
    if policy is None:
        return []
    if policy.merges:
        for group in groups:
            group.columns[MASS][:, before.tokens : grown.tokens] = 1
    if not policy.attention:
        return []
    for group in groups:
        for name in policy.attention:
            group.columns[name][:, before.tokens : grown.tokens] = UNSEEN
    return [transaction.observed.contents(policy.attention, *each, grown.tokens) for each in enumerate(groups)]


def plan_commit(
    policy: Policy | None,
    groups: Sequence[Rows],
    view: Viewing,
    columns: Columns,
    grown: Held,
    after: Held,
    prefix: bytes,
    *,
    budget: int | None,
    cap: int,
    tp_group: TensorParallelGroup,
) -> Plan:
    """Plans what is evicted, merged and moved. Changes nothing.

    Args:
        policy: chooses the cells that stay.
        groups: all rows.
        view: makes a viewer of what is held in some state, with new contents of columns.
        columns: those contents.
        grown: what is held, the transaction included.
        after: the same without the old turns that leave.
        prefix: the digest of `grown`, which what is held has afterwards if nothing leaves; see prefix.py.
        budget: |C|, or None if no cell is evicted.
        cap: slots per row.
        tp_group: the processes that share the rows.

    Raises:
        PolicyError: the policy's choice is not valid. A repeated index is only noticed on a CPU.
    """
    kept: Kept | None = None
    merging: list[Merging] = []
    if policy is not None and budget is not None:
        kept = evict(policy, view(grown, columns), grown.captions, budget, tp_group)
        after = after.without_cells(kept.count, kept.patches)
        if policy.merges:
            merging = plan_merging(policy, view(grown, columns), kept.indices)
            columns = _with(columns, MASS, [each.mass for each in merging])
        if policy.hides:
            columns = _with(columns, HIDDEN, plan_hiding(policy, view(grown, columns), kept.indices))
    if after.tokens == grown.tokens:
        return Plan(after, columns, merging) if kept else Plan(after, columns, prefix=prefix)
    moves = _plan_moves(groups, view(grown), kept, range(grown.turns_gone + 1, after.turns_gone + 1), after.tokens, cap)
    if policy is not None and any(len(each.source) != len(each.target) for each in moves):
        raise PolicyError(f"policy {policy.name!r} returned an index more than once: each is a token that stays")
    return Plan(grown.moved_to(after), columns, merging, moves)


def _plan_moves(
    groups: Sequence[Rows], viewer: Viewer, kept: Kept | None, turns_gone: range, tokens: int, cap: int
) -> list[Moves]:
    """Plans the moves in each group of rows.

    Args:
        viewer: shows all that is held.
        kept: the cells and captions that stay; None for all.
        turns_gone: the numbers of the turns that leave.
        tokens: how many slots stay.
    """
    patches = None if kept is None else kept.patches
    indices = [None] * len(groups) if kept is None else kept.indices
    stays = (what_stays(group, viewer, turns_gone, own, patches) for group, own in zip(groups, indices, strict=True))
    return [plan_moves(each, tokens, cap) for each in stays]


def _label(groups: Sequence[Rows], transaction: Transaction, before: Held, grown: Held) -> None:
    """Sets the cell column of text to -1 minus the number of its turn, counted from 1; the prompt has no turn."""
    turn, start = grown.turns_gone + len(grown.turns), before.tokens
    for number, (tokens, kind) in enumerate(transaction.taken.runs):
        if kind is Kind.TEXT and grown.turns and (number or before.tokens):
            for group in groups:
                group.columns["cell"][:, start : start + tokens] = NOWHERE - turn
        start += tokens


def _with(columns: Columns, name: str, contents: Sequence[Tensor]) -> Columns:
    """Adds the contents of one more column to those of each group."""
    return [{**own, name: part} for own, part in zip(columns or [{} for _ in contents], contents, strict=True)]
