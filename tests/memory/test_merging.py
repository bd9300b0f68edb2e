"""Evicted tokens that go into kept ones: means, masses, places, and what an interruption leaves."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from infinipot import policies
from infinipot.memory import LayerShape, Memory, PositionRule, Rotary
from infinipot.memory.merging import Piece
from infinipot.memory.storage import Rows
from infinipot.policies.base import Merge
from infinipot.tokens import VideoTokens
from support.faults import Boom, fail_at
from support.memories import view

DIM = 8
ROTARY = Rotary(1.0 / 100.0 ** (torch.arange(4) / 4), axes=[0, 0, 1, 2])


@dataclass(frozen=True)
class Drawn(policies.Policy):
    """Keeps the tokens, and merges them, that a draw by patch, cell and row says."""

    name = "drawn"
    merges = True

    def draw(self, tokens: VideoTokens, salt: float) -> Tensor:
        row = torch.tensor(tokens.layer).unsqueeze(1) * 7.0 + torch.tensor(list(tokens.head)).unsqueeze(1)
        return ((tokens.patch * 12.9898 + tokens.cell * 78.233 + row * 37.7 + salt).sin() * 43758.5453).frac().abs()

    def select(self, tokens: VideoTokens, budget: int) -> Tensor:
        return self.draw(tokens, 0.0).topk(budget).indices

    def merge(self, tokens: VideoTokens, kept: Tensor) -> Merge:
        place = (self.draw(tokens, 1.0) * kept.shape[1]).long()
        own = torch.arange(tokens.shape[1]).expand(tokens.shape)
        leaves = self.draw(tokens, 2.0) < 0.2
        into = torch.where(leaves, own, kept.gather(1, place)).scatter(1, kept, kept)
        return Merge(into, self.draw(tokens, 3.0) * tokens.columns["mass"])


Token = tuple[np.ndarray, np.ndarray, float]  # key, value, mass


def rows_of(memory: Memory) -> list[dict[tuple[int, int], Token]]:
    """What each row holds of the video, by patch and cell."""
    found = []
    for group in memory.groups:
        for row in range(group.count):
            patch, cell = (group.columns[name][row, : memory.held].tolist() for name in ("patch", "cell"))
            keys, values = (part[row, : memory.held].float().numpy().copy() for part in (group.keys, group.values))
            mass = group.columns["mass"][row, : memory.held].tolist()
            found.append(
                {(p, c): (keys[i], values[i], mass[i]) for i, (p, c) in enumerate(zip(patch, cell, strict=True))}
            )
            found[-1] = {place: token for place, token in found[-1].items() if place[1] >= 0}
    return found


def merged(policy: Drawn, memory: Memory, budget: int) -> list[dict[tuple[int, int], Token]]:
    """What is held once the policy has chosen: by the definition, token by token."""
    found = []
    before, number = rows_of(memory), 0
    for group in range(len(memory.groups)):
        tokens = view(memory, group)
        kept = policy.select(tokens, budget)
        wanted = policy.merge(tokens, kept)
        for row in range(len(kept)):
            places = [*zip(tokens.patch[row].tolist(), tokens.cell[row].tolist(), strict=True)]
            stay, held = kept[row].tolist(), before[number]
            made = {}
            for place in stay:
                into = [i for i in range(len(places)) if i not in stay and int(wanted.into[row, i]) == place]
                into = [i for i in into if wanted.weight[row, i] > 0]
                if into:
                    weight = wanted.weight[row, [place, *into]].double().numpy()
                    parts = [held[places[i]] for i in (place, *into)]
                    key, value = (np.average([part[k] for part in parts], 0, weight) for k in (0, 1))
                    made[places[place]] = key, value, sum(part[2] for part in parts)
                else:
                    made[places[place]] = held[places[place]]
            found.append(made)
            number += 1
    return found


def filled(kv_heads: int, dtype: torch.dtype, policy: policies.Policy) -> Memory:
    torch.manual_seed(kv_heads)
    shape = LayerShape(kv_heads, DIM, torch.device("cpu"), dtype)
    memory = Memory(64, [shape] * 3, ROTARY, PositionRule(), columns=policy.stored)
    take(memory, policy, 4, None)
    return memory


def take(memory: Memory, policy: policies.Policy, patches: int, budget: int | None) -> None:
    """Takes in patches of 12 cells, of random content, between texts."""
    grid = memory.use_grid(3, 4)
    with memory.transaction() as transaction:
        transaction.text(2, 0.0)
        for _ in range(patches):
            transaction.video(grid, [float(transaction.cursor.patch)])
        step = memory.step(transaction)
        for layer in range(3):
            heads = memory.groups[0].shape.kv_heads
            step.store(layer, *torch.randn(2, heads, step.count, DIM).to(memory.groups[0].shape.dtype))
        memory.commit(transaction, policy=policy, budget_for=lambda _, __: budget)


def compress(memory: Memory, policy: policies.Policy, budget: int) -> None:
    with memory.transaction() as transaction:
        transaction.text(1)
        step = memory.step(transaction)
        for layer in range(3):
            step.store(layer, *torch.ones(2, memory.groups[0].shape.kv_heads, 1, DIM))
        memory.commit(transaction, policy=policy, budget_for=lambda _, __: budget)


def agree(one: list[dict], other: list[dict], tolerance: float) -> None:
    for mine, theirs in zip(one, other, strict=True):
        assert mine.keys() == theirs.keys()
        for place, (key, value, mass) in mine.items():
            np.testing.assert_allclose(key, theirs[place][0], atol=tolerance)
            np.testing.assert_allclose(value, theirs[place][1], atol=tolerance)
            assert mass == theirs[place][2]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_kept_tokens_become_means_of_what_goes_into_them(kv_heads: int, dtype: torch.dtype, tolerance: float) -> None:
    policy = Drawn()
    memory = filled(kv_heads, dtype, policy)
    for budget in (30, 17, 5):
        expected = merged(policy, memory, budget)
        compress(memory, policy, budget)
        agree(rows_of(memory), expected, tolerance)
        assert any(mass > 1 for row in rows_of(memory) for *_, mass in row.values())


@pytest.mark.parametrize(("owner", "method"), [(Piece, "compute"), (Piece, "write"), (Rows, "scratch"), (Rows, "move")])
def test_a_merge_is_made_once_however_often_it_is_interrupted(owner: type, method: str) -> None:
    policy = Drawn()
    memory = filled(2, torch.float32, policy)
    expected = merged(policy, memory, 17)
    count, interrupted = 0, True
    while interrupted:
        memory, count = filled(2, torch.float32, policy), count + 1
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, owner, method, count)
            try:
                compress(memory, policy, 17)
                interrupted = False
            except Boom:
                pass
        memory.settle()
        agree(rows_of(memory), expected, 1e-6)
    assert count > 2 or method == "move"


def test_nothing_changes_where_nothing_goes_into_anything() -> None:
    policy = policies.make("merged:of=deviation,least=1")
    plain, merging = (filled(2, torch.float32, policy) for _ in range(2))
    compress(plain, policies.make("deviation"), 20)
    compress(merging, policy, 20)
    for one, other in zip(rows_of(plain), rows_of(merging), strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[place][0], other[place][0]) for place in one)


def test_merging_goes_into_the_nearest_and_a_prototype_is_one_of_the_oldest() -> None:
    merged, prototypes = (policies.make(name) for name in ("merged:least=0", "prototypes"))
    for policy in (merged, prototypes):
        memory = filled(2, torch.float32, policy)
        tokens = view(memory)
        kept = policy.select(tokens, 20)
        into = policy.merge(tokens, kept).into
        unit = torch.nn.functional.normalize(tokens.keys, dim=-1).double().numpy()
        for row in range(len(kept)):
            stay = kept[row].tolist()
            takers = stay if policy is merged else sorted(stay, key=lambda i: int(tokens.arrival[row, i]))[:10]
            for token in set(range(tokens.shape[1])) - set(stay):
                best = max(takers, key=lambda i: unit[row, token] @ unit[row, i])
                dropped = policy is merged and unit[row, token] @ unit[row, best] < 0
                assert int(into[row, token]) == (token if dropped else best)


def test_without_centres_a_ring_of_prototypes_is_left_as_it_is() -> None:
    policy = policies.make("prototypes:share=0")
    plain, ring = (filled(2, torch.float32, policy) for _ in range(2))
    compress(plain, policies.make("sliding-window"), 20)
    compress(ring, policy, 20)
    assert (ring.groups[0].columns["mass"][:, : ring.held] <= 1).all()
    for one, other in zip(rows_of(plain), rows_of(ring), strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[place][part], other[place][part]) for place in one for part in (0, 1))


@pytest.mark.parametrize("name", ["merged:least=0", "prototypes"])
def test_what_is_not_finite_spoils_no_mean(name: str) -> None:
    policy = policies.make(name)
    memory = filled(2, torch.float32, policy)
    group, first = memory.groups[0], memory.state.text
    for states in (group.keys, group.values):
        states[:, first + 1 : memory.held - 12 : 5] = torch.nan
    compress(memory, policy, 20)
    for row in rows_of(memory):
        assert sum(bool(np.isnan(key).any()) for key, _, _ in row.values()) == 0
