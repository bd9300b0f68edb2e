"""What policies are shown of a memory: how many rows are read at once decides nothing."""

import pytest
import torch

from infinipot import policies, tokens
from infinipot.memory import LayerShape, Memory, PositionRule, view
from support.bookkeeper import DIM, ROTARY
from support.memories import parts


def compressed(spec: str, caption: int) -> list[torch.Tensor]:
    """What a memory holds whose rows were given keys and values of their own, behind three compressions."""
    policy, draw = policies.make(spec), torch.Generator().manual_seed(0)
    shapes = [LayerShape(heads, DIM, torch.device("cpu"), torch.float32) for heads in (2, 2, 3)]
    memory = Memory(200, shapes, ROTARY, PositionRule(), columns=policy.stored)
    for block in range(5):
        grid = memory.use_grid(*((3, 4) if block < 3 else (2, 3)))
        with memory.transaction() as transaction:
            if not block:
                transaction.text(5)
            for patch in range(3):
                transaction.video(grid, [3.0 * block + patch], caption)
            step = memory.step(transaction)
            for group in memory.groups:
                for part in (group.keys, group.values):
                    part[:, step.start : step.end].normal_(generator=draw)
                for name in policy.attention:  # as if somebody had looked
                    group.columns[name][:, : step.end].uniform_(generator=draw)
            memory.commit(transaction, policy=policy, budget_for=lambda _, video: 40 if video > 60 else None)
    assert memory.state.compressions >= 3
    return parts(memory)


@pytest.mark.parametrize("caption", [0, 2])
@pytest.mark.parametrize(
    "spec",
    [
        *("unusual", "keydiff", "deviation:coverage=0.5", "lagkv", "tar:keys=rotated", "adakv", "merged:of=unusual"),
        *("fastv", "hermes"),
    ],
)
def test_how_many_rows_are_read_at_once_decides_nothing(
    spec: str, caption: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = compressed(spec, caption)
    monkeypatch.setattr(view, "SHARE", 0.0)
    for at_hand, room, share in (({"cpu"}, 1, 0.0), (set(), 1, 0.0), (set(), 2 * 4 * DIM * 60, 0.0), (set(), 1, 0.5)):
        monkeypatch.setattr(tokens, "AT_HAND", at_hand)
        monkeypatch.setattr(view, "CACHE", room)
        monkeypatch.setattr(view, "SCRATCH", room)
        monkeypatch.setattr(view, "PART", share)
        for one, other in zip(compressed(spec, caption), together, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)  # products of few rows are rounded otherwise
