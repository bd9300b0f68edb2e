"""When a memory is compressed, down to how many tokens, and what is done to positions afterwards.

Knows neither which tokens stay, which is the policy's choice, nor what is laid out.
"""

from collections.abc import Callable

from infinipot.engine.pending import Pending
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState


def budget_after(setup: Setup, pending: Pending) -> Callable[[int, int], int | None]:
    """The video tokens to leave of so many, given the text tokens beside them; None to leave all.

    All stay while the next block fits after them, unless the policy never wants to hold as many.
    """
    policy, budget, cells = setup.policy, setup.budget, pending.grid.cells
    patch = pending.patch_tokens(setup)
    most = policy.most(patch)

    def budget_for(text: int, video: int) -> int | None:
        fits = video + pending.block * patch <= budget.video(text) and (most is None or video <= most)
        if fits or not policy.evicts:
            return None
        target = budget.target(text, cells)
        return target if most is None else min(target, most)

    return budget_for


def close_gaps(setup: Setup, state: StreamState) -> None:
    """Re-assigns positions without gaps after a compression, where the policy is one that does."""
    memory = state.memory
    if setup.policy.dense_positions and state.dense_after != memory.state.compressions:
        memory.rebase(target=0, limit=memory.cursor.next)
        state.dense_after = memory.state.compressions
