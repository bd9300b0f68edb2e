"""The policies' contract, over the whole registry, and the method itself against slow and obvious code."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from infinipot import policies
from infinipot.errors import PolicyError
from infinipot.policies import Policy, ScoredPolicy
from infinipot.policies.base import HIDDEN
from infinipot.policies.infinipot_v_ablations import guess_coordinates
from infinipot.policies.options import to_text
from infinipot.policies.scoring.ranking import highest, highest_within
from infinipot.policies.scoring.recency import in_recent_patches, recent_patches
from infinipot.policies.scoring.tar import tar
from infinipot.policies.scoring.van import REACH, value_norm, van
from infinipot.tokens import Grid, NewTokens, VideoTokens
from support.video_tokens import HEAD_DIM, as_sets, changed, copies, random_tokens, reading, select, shown, video_tokens
from support.waiting import NoWaiting

VARIANTS = [
    "streaming-llm:sinks=100000",
    "deviation:coverage=0.5",
    "snapkv:queries=3,kernel=1",
    "livevlm:buckets=3",
    "merged:of=[tar:coverage=0.2,reference=recent],least=0",
    "unusual:coverage=0.25,newest=0.5",
    "unusual:values=0,newest=0",
    "unusual:values=1.3,keys=0.7",
    "unusual:corners=0",
    "prototypes:share=0",
    "adakv:of=[novelty:newest=0.5],least=1",
    "pyramidkv:of=snapkv,share=1,steep=1",
    "prototypes:share=1,rounds=3",
    "cords:orthogonal=0,recent=0,rounds=100",
    "tar:reference=recent",
    "tar:keys=rotated",
    "van:pooling=layerwise",
    "infinipot-v-ablations:scored=again",
    "infinipot-v-ablations:reference=recent,pooling=layerwise",
    "infinipot-v:combine=two-stage,reference=recent",
    "infinipot-v:combine=two-stage,r1=1",
    "infinipot-v:combine=two-stage,r1=0",
    "infinipot-v:combine=two-stage",
    "infinipot-v:combine=union,reference=recent,alpha=0,recent=0",
    "infinipot-v:combine=union,alpha=1,recent=1",
    "novelty:coverage=0.5,newest=0",
    "infinipot-v-ablations:combine=two-stage,r1=0.5,scored=again",
    "infinipot-v-ablations:keys=rotated,coordinates=guessed,pooling=layerwise",
    "infinipot-v-ablations:combine=union,reference=recent,coordinates=guessed",
    "infinipot-v-reference:tar_ratio=0",
    "infinipot-v-reference:tar_ratio=0.75,adaptive_pooling=true",
]
EVICTING = [kind.name for kind in policies.available() if kind.evicts] + VARIANTS
every_policy = pytest.mark.parametrize("spec", EVICTING)
PARTS = ("keys", "values", "rotated", "patch", "cell")


# The contract, over the whole registry.


@st.composite
def situations(draw: st.DrawFn, whole_patches: bool = False) -> tuple[VideoTokens, int]:
    """What a policy may be asked: any survivors of any grids, exact copies of each other or not, any budget."""
    side = st.integers(1, 4)
    sizes = draw(st.lists(st.tuples(side, side), min_size=1, max_size=1 if whole_patches else 3))
    patches = draw(st.integers(4, 9))
    tokens = random_tokens(
        seed=draw(st.integers(0, 2**16)),
        heads=draw(st.integers(1, 3)),
        sizes=tuple(sizes),
        patches=patches,
        held=1 if whole_patches else draw(st.floats(0.1, 1)),
        newest_patch=draw(st.integers(patches - 1, patches + 3)),
        layer=draw(st.integers(0, 27)),
        layers=28,
    )
    if kinds := draw(st.none() | st.integers(1, 6)):
        tokens = copies(tokens, kinds, draw(st.integers(0, 2**16)))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    tokens = changed(tokens, **{name: getattr(tokens, name).to(dtype) for name in ("keys", "values", "rotated")})
    if whole_patches:
        return tokens, (patches * 3 // 4) * tokens.grids[-1].cells
    length = tokens.cell.shape[1]
    return tokens, draw(st.integers(1, length - 1))


@every_policy
@settings(max_examples=25)
@given(data=st.data())
def test_selects_budget_distinct_tokens_of_each_head(spec: str, data: st.DataObject) -> None:
    policy = policies.make(spec)
    tokens, budget = data.draw(situations(policy.whole_patches))
    tokens = shown(policy, tokens)
    tensors = {name: getattr(tokens, name) for name in ("patch", "cell", "keys", "values", "rotated")}
    tensors |= tokens.columns
    before = {name: value.clone() for name, value in tensors.items()}

    selected = policy.select(tokens, budget)

    heads, length = tokens.shape
    assert set(tokens.columns) == set(policy.stored)
    assert all(column.shape == tokens.shape and column.dtype == torch.float32 for column in tokens.columns.values())
    assert selected.shape == (heads, budget)
    assert selected.dtype == torch.int64
    assert all(len(kept) == budget and min(kept) >= 0 and max(kept) < length for kept in as_sets(selected))
    assert all(torch.equal(tensors[name], value) for name, value in before.items())
    assert torch.equal(selected, policy.select(tokens, budget))


@every_policy
@settings(max_examples=15)
@given(data=st.data())
def test_the_order_in_which_tokens_lie_means_nothing(spec: str, data: st.DataObject) -> None:
    """But for a mean that is rounded otherwise: then tokens may be traded that are as good as each other."""
    policy = policies.make(spec)
    tokens, budget = data.draw(situations(policy.whole_patches))
    tokens = shown(policy, tokens)
    draw = torch.Generator().manual_seed(budget)
    order = torch.stack([torch.randperm(tokens.shape[1], generator=draw) for _ in range(tokens.shape[0])])
    straight, other = policy.select(tokens, budget), order.gather(1, policy.select(tokens.part(order), budget))
    if as_sets(other) != as_sets(straight):
        assert isinstance(policy, ScoredPolicy)
        scores = policy.score(tokens)
        assert not torch.equal(policy.score(tokens.part(order)), scores.gather(1, order))
        kept = (scores.gather(1, chosen).sort(1).values for chosen in (straight, other))
        torch.testing.assert_close(*kept, rtol=1e-5, atol=1e-6)


# Those of which a token's score depends on what is held and on its own content, not on when or where it was.
BY_CONTENT = [
    *("adakv", "cords", "cords:recent=0,rounds=5", "deviation", "expected-attention", "infinipot-v", "keydiff"),
    *("infinipot-v:combine=two-stage", "kvzip", "merged", "novelty", "prototypes", "pyramidkv", "streammem", "tar"),
    *("unusual", "unusual:values=1.3,keys=0.7", "van"),
]


@pytest.mark.parametrize("spec", BY_CONTENT)
@settings(max_examples=15)
@given(data=st.data())
def test_of_exact_copies_the_later_stays(spec: str, data: st.DataObject) -> None:
    policy = policies.make(spec)
    tokens, budget = data.draw(situations())
    told = shown(policy, tokens)
    draw = torch.Generator().manual_seed(budget)
    told = told.part(torch.stack([torch.randperm(told.shape[1], generator=draw) for _ in range(told.shape[0])]))
    content = torch.cat([told.keys, told.values, *(column.unsqueeze(-1) for column in told.columns.values())], -1)
    for row, kept in enumerate(as_sets(policy.select(told, budget))):
        _, kind = content[row].unique(dim=0, return_inverse=True)
        for each in kind.unique():
            own = (kind == each).nonzero().flatten().tolist()
            own.sort(key=lambda token, row=row: int(told.arrival[row, token]))
            stay = sum(token in kept for token in own)
            assert kept >= set(own[len(own) - stay :])


@every_policy
def test_what_is_no_number_ranks_by_one_rule_and_stays_where_it_is(spec: str) -> None:
    """Of one token in one head: that head still keeps as many as asked for, the others what they kept."""
    policy = policies.make(spec)
    tokens, budget = situation(policy)
    clean = as_sets(select(policy, tokens, budget))
    for odd in (torch.nan, -torch.nan, torch.inf, -torch.inf):
        spoilt = {name: getattr(tokens, name).clone() for name in ("keys", "values", "rotated")}
        for states in spoilt.values():
            states[1, 4] = odd
        kept = as_sets(select(policy, changed(tokens, **spoilt), budget))
        assert [len(head) for head in kept] == [budget] * 3, odd
        assert (kept[0], kept[2]) == (clean[0], clean[2]), odd
        assert len(kept[1] - clean[1]) <= 12 + 6 * ("layerwise" in spec), f"{odd}: its neighbours go on being ranked"


def test_ranks_of_what_is_no_number_do_not_depend_on_its_sign() -> None:
    scores = torch.tensor([[0.0, torch.nan, -1.0, -torch.inf, torch.inf]])
    arrival = torch.arange(5).unsqueeze(0)
    signed = scores.clone()
    signed.view(torch.int32)[0, 1] |= -(1 << 31)
    for either in (scores, signed):
        assert [as_sets(highest(either, k, arrival))[0] for k in range(6)] == [
            set([4, 0, 2, 3, 1][:k]) for k in range(6)
        ]


def situation(policy: Policy, **where: int) -> tuple[VideoTokens, int]:
    tokens = random_tokens(heads=3, sizes=((3, 4),), held=1 if policy.whole_patches else 0.8, **where)
    return tokens, 6 * 12 if policy.whole_patches else 50


@every_policy
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_works_in_half_precision(spec: str, dtype: torch.dtype) -> None:
    policy = policies.make(spec)
    tokens, budget = situation(policy)
    half = changed(tokens, keys=tokens.keys.to(dtype), values=tokens.values.to(dtype))
    assert [len(kept) for kept in as_sets(select(policy, half, budget))] == [budget] * 3


@pytest.mark.parametrize("reference", ["previous", "recent"])
@pytest.mark.parametrize("keys", ["unrotated", "rotated"])
def test_tar_of_half_precision_keys_is_exact_and_does_not_overflow(reference: Any, keys: Any) -> None:
    tokens = random_tokens(heads=3, sizes=((3, 4),))
    plain, cached = (1000 * tensor for tensor in (tokens.keys, tokens.rotated))  # squares leave float16
    half = changed(tokens, keys=plain.half(), rotated=cached.half())
    exact = changed(tokens, keys=plain.half().float(), rotated=cached.half().float())
    torch.testing.assert_close(tar(half, reference, 0.25, keys), tar(exact, reference, 0.25, keys))
    assert tar(half, reference, 0.25, keys).dtype == torch.float32


@pytest.mark.parametrize("spec", [spec for spec in EVICTING if spec != "random"])
def test_treats_every_head_alike(spec: str) -> None:
    policy = policies.make(spec)
    tokens, budget = situation(policy)
    order = torch.tensor([2, 0, 1])
    moved = changed(tokens, **{name: getattr(tokens, name)[order] for name in PARTS})
    kept = as_sets(select(policy, tokens, budget))
    assert as_sets(select(policy, moved, budget)) == [kept[head] for head in order]


@every_policy
def test_reads_tokens_from_a_longer_buffer(spec: str) -> None:
    policy = policies.make(spec)
    tokens, budget = situation(policy)
    length = tokens.shape[1]

    def within(tensor: Tensor) -> Tensor:
        buffer = torch.full((tensor.shape[0], length + 9, *tensor.shape[2:]), 77, dtype=tensor.dtype)
        buffer[:, 4 : 4 + length] = tensor
        return buffer[:, 4 : 4 + length]

    told = shown(policy, tokens)
    inside = {name: within(getattr(tokens, name)) for name in PARTS}
    longer = changed(told, **inside, columns={name: within(column) for name, column in told.columns.items()})
    assert torch.equal(policy.select(longer, budget), policy.select(told, budget))


@every_policy
def test_reads_few_rows_at_a_time_or_says_that_it_reads_them_itself(spec: str) -> None:
    policy = policies.make(spec)
    tokens, budget = situation(policy)
    told, read = shown(policy, tokens), list[int]()

    def counted(name: str, rows: slice) -> Tensor:
        states = tokens.read(name, rows)
        read.append(len(states))
        return states

    kept = policy.select(replace(told, read=counted, at_once=2), budget)
    assert as_sets(kept) == as_sets(policy.select(told, budget))
    assert policy.reads_states or max(read, default=0) <= 2


@every_policy
def test_measures_few_rows_at_a_time_and_finds_the_same(spec: str) -> None:
    policy = policies.make(spec)
    tokens, _ = situation(policy)
    asked = list[tuple[str, slice]]()
    few = shown(policy, replace(tokens, at_once=1), asked)
    at_once = [len(range(*rows.indices(len(tokens.cell)))) for name, rows in asked if name != "has_previous"]
    assert set(at_once) <= {1}
    for name, column in shown(policy, tokens).columns.items():
        assert torch.equal(few.columns[name], column)


@every_policy
@pytest.mark.parametrize("layer", range(4))
def test_never_waits_for_the_data(spec: str, layer: int) -> None:
    """Meta tensors have no data: what would copy a number to the host, or let it decide a shape, fails on them."""
    policy = policies.make(spec)
    tokens, budget = situation(policy, layer=layer)
    columns = {name: column.to("meta") for name, column in shown(policy, tokens).columns.items()}
    states = {name: getattr(tokens, name).to("meta") for name in PARTS} | {"previous": tokens.keys.to("meta")}
    blind = changed(tokens, columns=columns, **{name: states[name] for name in PARTS})
    with NoWaiting():
        kept = policy.select(blind, budget)
        assert kept.shape == (3, budget)
        assert not policy.merges or policy.merge(blind, kept).into.shape == tokens.shape
        assert not policy.hides or policy.seen(blind, kept).shape == kept.shape
    states["has_previous"] = torch.ones(tokens.shape, dtype=torch.bool, device="meta")
    plain = {field.name: getattr(blind, field.name) for field in fields(blind)} | {"read": reading(states)}
    new = NewTokens(**plain)
    with NoWaiting():
        measured = policy.measure(new)
    assert {name: column.shape for name, column in measured.items()} == dict.fromkeys(
        policy.columns, (3, tokens.shape[1])
    )


@every_policy
def test_static_silent_video_has_no_undefined_scores(spec: str) -> None:
    policy = policies.make(spec)
    tokens, budget = situation(policy)
    zeros = torch.zeros_like(tokens.keys)
    silent = changed(tokens, keys=zeros, values=zeros, rotated=zeros)
    assert [len(kept) for kept in as_sets(select(policy, silent, budget))] == [budget] * 3
    assert not tar(silent, "previous", 0.25, "unrotated").isnan().any()


@every_policy
def test_a_process_may_have_another_default_type(spec: str) -> None:
    policy = policies.make(spec)
    tokens, budget = situation(policy)
    kept = as_sets(select(policy, tokens, budget))
    torch.set_default_dtype(torch.float64)
    try:
        assert as_sets(select(policy, tokens, budget)) == kept
    finally:
        torch.set_default_dtype(torch.float32)


# The baselines.


def test_uniform_keeps_even_distances() -> None:
    tokens = random_tokens(patches=7, held=1)  # 42 tokens
    assert policies.make("uniform").select(tokens, 5).tolist() == [[0, 8, 16, 25, 33]] * 2


def test_sliding_window_keeps_the_last() -> None:
    assert as_sets(select("sliding-window", random_tokens(), 3)) == [{30, 31, 32}] * 2


def test_streaming_llm_keeps_sinks_and_the_last() -> None:
    assert as_sets(select("streaming-llm:sinks=2", random_tokens(), 5)) == [{0, 1, 30, 31, 32}] * 2
    assert as_sets(select("streaming-llm", random_tokens(), 3)) == [{0, 1, 2}] * 2
    assert policies.make("streaming-llm").dense_positions


def test_random_draws_anew_for_seed_layer_head_and_time() -> None:
    tokens = random_tokens()
    draws = [
        policies.make("random", seed=seed).select(replace(tokens, layer=[layer] * 2, newest_patch=newest), 16)
        for seed, layer, newest in [(0, 0, 8), (1, 0, 8), (0, 1, 8), (0, 0, 9)]
    ]
    sets = [frozenset(kept) for draw in draws for kept in as_sets(draw)]
    assert len(set(sets)) == len(sets)


# The method, against code that is slow and obvious.


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def slow_tar_previous(keys: Tensor, tokens: VideoTokens, recent: int) -> list[list[float]]:
    scores: list[list[float]] = []
    for key, cell in zip(keys.tolist(), tokens.cell.tolist(), strict=True):
        last: dict[int, list[float]] = {}
        scores.append([])
        for k, c in zip(key, cell, strict=True):
            scores[-1].append(cosine(k, last[c]) if c in last else -math.inf)
            last[c] = k
    return scores


def slow_tar_recent(keys: Tensor, tokens: VideoTokens, recent: int) -> list[list[float]]:
    scores: list[list[float]] = []
    for key, cell, patch in zip(keys.tolist(), tokens.cell.tolist(), tokens.patch.tolist(), strict=True):
        new = [t > max(patch) - recent for t in patch]
        scores.append([])
        for i, k in enumerate(key):
            near = [cosine(k, key[j]) for j in range(len(key)) if new[j] and cell[j] == cell[i]]
            scores[-1].append(sum(near) / len(near) if near and not new[i] else -math.inf)
    return scores


def slow_van(tokens: VideoTokens, reach: tuple[int, int, int]) -> list[list[float]]:
    def coordinates(held: list[int], t: int, c: int) -> tuple[tuple[int, int, int], Grid]:
        grid = next(g for g in tokens.grids if g.first_cell <= c < g.first_cell + g.cells)
        return (held.index(t), *divmod(c - grid.first_cell, grid.columns)), grid

    scores: list[list[float]] = []
    for values, patch, cell in zip(tokens.values.tolist(), tokens.patch.tolist(), tokens.cell.tolist(), strict=True):
        held = sorted(set(patch))
        at = [coordinates(held, t, c) for t, c in zip(patch, cell, strict=True)]
        norms = [math.hypot(*value) for value in values]
        scores.append([])
        for here, own in at:
            near = [
                norm
                for norm, (there, grid) in zip(norms, at, strict=True)
                if grid == own and all(abs(there[axis] - here[axis]) <= reach[axis] for axis in range(3))
            ]
            scores[-1].append(sum(near) / len(near))
    return scores


def best(scores: list[float], count: int, among: set[int] | None = None) -> set[int]:
    """The highest scores among some; of equals the later."""
    pool = range(len(scores)) if among is None else among
    return set(sorted(pool, key=lambda i: (scores[i], i), reverse=True)[:count])


def slow_two_stage(
    tar: list[float], van: list[float], recent: list[bool], newest: list[bool], budget: int, policy: Any
) -> set[int]:
    drop = min(round(policy.r1 * len(tar)), len(tar) - budget)
    return best(van, budget, among=best([-x for x in tar], len(tar) - drop))


def slow_union(
    tar: list[float], van: list[float], recent: list[bool], newest: list[bool], budget: int, policy: Any
) -> set[int]:
    now = {i for i, is_recent in enumerate(recent) if is_recent}
    past = set(range(len(tar))) - now
    by_time = now | best([-x for x in tar], max(0, round(policy.alpha * budget) - len(now)), among=past)
    return by_time | best(van, budget - len(by_time), among=past - by_time)


def slow_product(
    tar: list[float], van: list[float], recent: list[bool], newest: list[bool], budget: int, policy: Any
) -> set[int]:
    new = [max(1e-4, 1 - x) for x in tar if x > -math.inf]
    usual = sum(new) / len(new) if new else 1.0
    scores = [(max(1e-4, 1 - x) if x > -math.inf else usual) * v**policy.power for x, v in zip(tar, van, strict=True)]
    held = best(scores, int(policy.newest * budget), among={i for i, is_newest in enumerate(newest) if is_newest})
    return held | best(scores, budget - len(held), among=set(range(len(scores))) - held)


SLOW_TAR = {"previous": slow_tar_previous, "recent": slow_tar_recent}
SLOW_COMBINE: dict[str, Callable[..., set[int]]] = {
    "product": slow_product,
    "two-stage": slow_two_stage,
    "union": slow_union,
}
MIXED = ((2, 3), (3, 2), (1, 4))


def close(fast: Tensor, slow: list[list[float]]) -> bool:
    return torch.allclose(fast.double(), torch.tensor(slow, dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize("reference", ["previous", "recent"])
@pytest.mark.parametrize("keys", ["unrotated", "rotated"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_tar_is_the_papers(reference: Any, keys: Any, share: float, seed: int) -> None:
    tokens = random_tokens(seed, sizes=MIXED, patches=9)
    compared = tokens.keys if keys == "unrotated" else tokens.rotated
    slow = SLOW_TAR[reference](compared, tokens, recent_patches(tokens, share))
    assert close(tar(tokens, reference, share, keys), slow)


@pytest.mark.parametrize("reference", ["previous", "recent"])
@pytest.mark.parametrize("at_once", [1, 2, 4, 6, 100])
def test_tar_is_the_same_however_many_rows_a_scratch_holds(reference: Any, at_once: int) -> None:
    tokens = random_tokens(heads=5, sizes=MIXED, patches=12)
    pieces = replace(tokens, at_once=at_once)
    assert torch.equal(tar(pieces, reference, 0.25, "unrotated"), tar(tokens, reference, 0.25, "unrotated"))
    assert [row for rows in pieces.pieces(2) for row in range(rows.start, rows.stop)] == [*range(5)]


@pytest.mark.parametrize("layer", range(8))
@pytest.mark.parametrize("held", [0.02, 0.3, 0.8])
@pytest.mark.parametrize("sizes", [((4, 6),), ((5, 9), (9, 5))])
def test_van_is_the_mean_over_held_neighbours(layer: int, held: float, sizes: tuple[tuple[int, int], ...]) -> None:
    drawn = random_tokens(layer, sizes=sizes, patches=10, held=held, layer=layer, layers=8)
    tokens = shown(policies.make("van"), drawn)
    assert close(van(tokens, "none"), slow_van(tokens, (0, 0, 0)))
    assert close(van(tokens, "layerwise"), slow_van(tokens, REACH[layer // 2]))


def test_van_is_pooled_7x7x7_then_5x5_then_3_then_not() -> None:
    assert [tuple(2 * side + 1 for side in reach) for reach in REACH] == [(7, 7, 7), (1, 5, 5), (1, 1, 3), (1, 1, 1)]


@pytest.mark.parametrize("combine", SLOW_COMBINE)
@pytest.mark.parametrize("reference", ["previous", "recent"])
@pytest.mark.parametrize("seed", range(4))
def test_infinipot_v_combines_as_it_says(combine: str, reference: Any, seed: int) -> None:
    tokens = random_tokens(seed, sizes=MIXED, patches=12)
    redundancy, salience = tar(tokens, reference, 0.25, "unrotated"), value_norm(tokens.values)
    told = redundancy, salience, in_recent_patches(tokens, 0.25), tokens.patch == tokens.newest_held
    heads = [*zip(*(part.tolist() for part in told), strict=True)]
    for share in (0.0, 0.1, 0.45, 0.9, 1.0):
        options = {"r1": share, "alpha": share, "power": 4 * share, "newest": share}
        policy = policies.make("infinipot-v-ablations", combine=combine, reference=reference, **options)
        held = shown(policy, tokens)
        for budget in (15, 27, 37):
            slow = [SLOW_COMBINE[combine](*head, budget, policy) for head in heads]
            assert as_sets(policy.select(held, budget)) == slow, (share, budget)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_unlike_the_usual_is_the_papers(seed: int) -> None:
    tokens = random_tokens(seed, sizes=MIXED, patches=9)
    for row, (keys, values) in enumerate(zip(tokens.keys.numpy(), tokens.values.numpy(), strict=True)):
        unit = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
        anchor = unit.mean(0)
        unlike = -(unit @ anchor) / np.linalg.norm(anchor)
        far = np.linalg.norm(values - values.mean(0), axis=-1)
        for name, scores in (("keydiff", unlike), ("deviation", far)):
            assert as_sets(select(name, tokens, 11))[row] == best(scores.tolist(), 11)


def test_recent_patches_are_a_share_of_what_is_held_and_at_least_one() -> None:
    tokens = random_tokens(sizes=((2, 3),), patches=8, held=1)  # 48 tokens, P = 6
    assert [recent_patches(tokens, share) for share in (0, 0.1, 0.25, 0.49, 1)] == [1, 1, 2, 3, 8]
    assert in_recent_patches(tokens, 0.25).tolist() == [[False] * 36 + [True] * 12] * 2


def test_union_always_keeps_the_recent_patches() -> None:
    tokens = random_tokens(patches=8, held=1)
    tokens.values[:, -12:] = 0  # nothing to say
    for reference in ("previous", "recent"):
        for alpha in (0, 0.5, 1):
            policy = policies.make("infinipot-v", combine="union", reference=reference, alpha=alpha)
            for budget in (12, 13, 40):
                assert all(kept >= set(range(36, 48)) for kept in as_sets(select(policy, tokens, budget)))
            assert as_sets(select(policy, tokens, 5)) == [set(range(43, 48))] * 2


@pytest.mark.parametrize("scored", ["once", "again"])
def test_a_product_keeps_the_newest_patch_up_to_a_share(scored: str) -> None:
    tokens = random_tokens(patches=8, held=1)
    tokens.values[:, -6:] *= 1e-3  # next to nothing to say
    for budget, newest, kept in ((24, 0.25, 6), (40, 0.5, 6), (12, 0.25, 3), (7, 0.5, 3), (12, 0.0, 0), (5, 1.0, 5)):
        policy = policies.make("infinipot-v-ablations", scored=scored, newest=newest)
        chosen = as_sets(select(policy, tokens, budget))
        assert [len(head & set(range(42, 48))) for head in chosen] == [kept] * 2


@pytest.mark.parametrize("seed", range(3))
def test_tar_of_new_tokens_is_the_papers(seed: int) -> None:
    tokens = random_tokens(seed, sizes=MIXED, patches=9)
    measured = shown(policies.make("tar"), tokens).columns["tar"]
    assert close(measured, slow_tar_previous(tokens.keys, tokens, 1))


@pytest.mark.parametrize("seed", range(3))
def test_what_is_unusual_is_so_among_what_it_came_with_and_among_what_is_held(seed: int) -> None:
    """Values are compared once, with those that came in together; keys each time, with those that are held."""
    policy = policies.make("unusual:values=2,keys=0.5,newest=0,corners=0")
    tokens = shown(policy, random_tokens(seed, sizes=MIXED, patches=9))
    held = tokens.part(torch.arange(0, tokens.shape[1], 2).expand(tokens.shape[0], -1))
    for row, kept in enumerate(as_sets(policy.select(held, 9))):
        values, keys = tokens.values[row].double().numpy(), held.keys[row].double().numpy()
        far = np.linalg.norm(values - values.mean(0), axis=-1)[::2]
        middle = keys.mean(0)
        unlike = 1 - keys @ middle / np.linalg.norm(keys, axis=-1) / np.linalg.norm(middle)
        assert kept == best((far**2 * unlike**0.5).tolist(), 9)


def test_what_is_unusual_in_the_night_competes_with_the_day() -> None:
    """Each patch has one cell that is unlike the others; from the middle on everything is at 0.7 of its size."""
    patches, cells, held = 16, 12, 18
    draw = torch.Generator().manual_seed(0)
    odd = torch.zeros(patches * cells, dtype=torch.bool)
    odd[torch.arange(patches) * cells + torch.randint(0, cells, (patches,), generator=draw)] = True
    states = torch.randn(2, 1, HEAD_DIM, generator=draw) + 0.1 * torch.randn(
        2, patches * cells, HEAD_DIM, generator=draw
    )
    states[:, odd] += 2 * torch.randn(2, patches, HEAD_DIM, generator=draw)
    states[:, patches * cells // 2 :] *= 0.7
    keys, values = states.unsqueeze(1)
    policy, kept = policies.make("unusual:corners=0"), torch.zeros(1, 0, dtype=torch.int64)
    place, distance = torch.arange(patches * cells), torch.zeros(1, 0)

    def told(some: Tensor) -> VideoTokens:
        return video_tokens(keys[:, some], values[:, some], some[None] // cells, some[None] % cells, (Grid(3, 4, 0),))

    for block in place.split(2 * cells):
        distance = torch.cat([distance, shown(policy, told(block)).columns["distance"]], 1)
        kept = torch.cat([kept, block[None]], 1)
        if kept.shape[1] > held:
            stays = policy.select(replace(told(kept[0]), columns={"distance": distance}), held)
            kept, distance = kept.gather(1, stays), distance.gather(1, stays)
    found, night = odd[kept[0]], kept[0] >= len(place) // 2
    assert int(found[~night].sum()) >= 6
    assert int(found[night].sum()) >= 6


@pytest.mark.parametrize("spec", ["keydiff", "deviation:coverage=0.5", "unusual", "merged:of=keydiff", "snapkv"])
def test_some_of_the_newest_patch_stays_whatever_it_shows(spec: str) -> None:
    tokens = random_tokens(patches=8, held=1, newest_patch=9)  # 48 tokens, P = 6; a gate has left out what came last
    usual = tokens.keys.mean(1, keepdim=True), tokens.values.mean(1, keepdim=True)
    for states, mean in zip((tokens.keys, tokens.values), usual, strict=True):
        states[:, -6:] = mean
    for share, budget, least in ((0.25, 24, 6), (0.125, 40, 5), (0.125, 24, 3), (0.01, 24, 0)):
        policy = policies.make(f"{spec}{',' if ':' in spec else ':'}newest={share}")
        assert all(len(kept & set(range(42, 48))) >= least for kept in as_sets(select(policy, tokens, budget)))


@pytest.mark.parametrize("spec", ["adakv:newest=0.25", "pyramidkv:of=novelty", "adakv:of=unusual"])
def test_what_a_budget_assures_is_shown(spec: str) -> None:
    policy, tokens = policies.make(spec), random_tokens(patches=8, held=1)
    for states in (tokens.keys, tokens.values):
        states[:, -6:] = states.mean(1, keepdim=True)  # nothing to say, so that scores alone would hide it
    told = shown(policy, tokens)
    told = replace(told, columns={**told.columns, HIDDEN: torch.zeros(tokens.shape)})
    kept = policy.select(told, 24)
    newest = (tokens.patch == 7).gather(1, kept)
    assert newest.sum(1).min() >= 3
    assert policy.seen(told, kept)[newest].sum() >= 2 * 3


def test_tokens_are_in_order_however_long_the_stream_is() -> None:
    short = random_tokens(patches=8, held=0.7)
    ages = torch.tensor([0, 5, 40_000, 3_000_000, 3_000_001, 90_000_000, 2**31 - 9, 2**31 - 8], dtype=torch.int32)
    old = replace(short, patch=ages[short.patch.long()], newest_patch=2**31 - 8)
    assert torch.equal(old.in_order(), short.in_order())
    assert torch.equal(old.arrival.argsort(1), short.in_order())
    assert 0 <= old.arrival.min() <= old.arrival.max() < 2**31


@given(data=st.data())
def test_the_highest_of_each_group_is_told_to_all_of_it(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 12))
    group = data.draw(st.lists(st.sampled_from([0, 1, 7, 2**31 - 1]), min_size=length, max_size=length))
    score = data.draw(st.lists(st.integers(-3, 3).map(float), min_size=length, max_size=length))
    told = highest_within(torch.tensor([group, group[::-1]]), torch.tensor([score, score[::-1]]))
    wanted = [max(its for its, one in zip(score, group, strict=True) if one == own) for own in group]
    assert told.tolist() == [wanted, wanted[::-1]]


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_most_unusual_patches_keep_their_corners(share: float) -> None:
    """By definition: of 9 patches of 3x4 cells, each with a cell that is unlike the others by another length."""
    patches, cells, corners = 9, 12, (0, 3, 8, 11)
    draw = torch.Generator().manual_seed(1)
    place = torch.arange(patches * cells)
    states = torch.randn(2, 1, HEAD_DIM, generator=draw).repeat(1, len(place), 1)
    states += 0.01 * torch.randn(2, len(place), HEAD_DIM, generator=draw)
    lengths = torch.tensor([3.0, 9, 1, 7, 2, 8, 4, 6, 5])
    states[:, place % cells == 5] += lengths[:, None] * torch.randn(2, 1, HEAD_DIM, generator=draw)
    keys, values = states.unsqueeze(1)
    tokens = video_tokens(keys, values, place[None] // cells, place[None] % cells, (Grid(3, 4, 0),))
    policy = policies.make(f"unusual:corners={share},newest=0")
    told = shown(policy, tokens)
    assert told.columns["corner"].count_nonzero() == patches * len(corners)
    for budget in (16, 40, 72):
        (kept,) = as_sets(policy.select(told, budget))
        assured = int(share * budget) // len(corners)  # patches of which all corners stay
        for patch in lengths.argsort(descending=True)[:assured].tolist():
            assert kept >= {patch * cells + corner for corner in corners}, (budget, patch)
    (all_corners,), budget = as_sets(told.columns["corner"].nonzero()[None, :, 1]), 60
    greedy = policies.Unusual(corners=0.9, newest=0.0)  # fewer corners than have room
    scores = greedy.score(told)[0].tolist()
    rest = sorted(set(range(patches * cells)) - all_corners, key=scores.__getitem__)[len(all_corners) - budget :]
    assert as_sets(greedy.select(told, budget)) == [all_corners | set(rest)]
    bare = as_sets(select("unusual:newest=0,corners=0", tokens, 16))[0]
    assert sum(token % cells in corners for token in bare) < 8


# What the method is for, on planted scenes.


def scene(patches: int = 6, rows: int = 2, columns: int = 3) -> VideoTokens:
    """Nothing ever changes: every cell shows the same at all times."""
    cells = rows * columns
    index = torch.arange(patches * cells).expand(2, -1)
    patch, cell = index // cells, index % cells
    plain = torch.randn(2, cells, HEAD_DIM, generator=torch.Generator().manual_seed(3)).repeat(1, patches, 1)
    return video_tokens(plain, torch.ones_like(plain), patch, cell, (Grid(rows, columns, 0),))


@pytest.mark.parametrize("reference", ["previous", "recent"])
def test_static_scene_is_fully_redundant_whatever_the_time(reference: Any) -> None:
    still = scene()
    redundancy = tar(still, reference, 0.2, "unrotated")
    compared = redundancy.isfinite()
    assert int(compared.sum()) == 2 * 30
    torch.testing.assert_close(redundancy[compared], torch.ones(60))
    assert tar(still, reference, 0.2, "rotated")[compared].min() < 0.9


@pytest.mark.parametrize("reference", ["previous", "recent"])
def test_tar_keeps_the_cell_that_moves(reference: str) -> None:
    still = scene()
    plain = still.keys.clone()
    moving = torch.arange(36) % 6 == 4
    plain[:, moving] = torch.randn(2, 6, HEAD_DIM, generator=torch.Generator().manual_seed(5))
    kept = select(f"tar:reference={reference}", changed(still, keys=plain), 11)
    assert all(set(moving.nonzero().flatten().tolist()) <= tokens for tokens in as_sets(kept))


def test_where_nothing_is_new_a_product_goes_by_value() -> None:
    """Rounding makes keys that repeat a little more or less alike: that must not decide, nor turn a score negative."""
    still = scene()
    values = torch.rand(still.values.shape, generator=torch.Generator().manual_seed(1))
    values[:, 4] *= 10  # in the first patch, which has nothing to be compared with
    whole = changed(still, values=values)
    first = torch.arange(6).expand(2, -1)
    for tokens in (whole, replace(whole.part(first), newest_patch=0)):
        policy = policies.make("novelty", newest=0)
        assert as_sets(select(policy, tokens, 5)) == as_sets(select("van", tokens, 5))


def test_a_product_is_scored_once_or_again() -> None:
    tokens = random_tokens(patches=10)
    once, again = (policies.make("infinipot-v-ablations", scored=scored, newest=0) for scored in ("once", "again"))
    told = shown(once, tokens)
    assert as_sets(select(again, tokens, 9)) == as_sets(once.select(told, 9)), "nothing has left yet"
    other = replace(told, columns={**told.columns, "tar": told.columns["tar"].flip(1)})
    assert as_sets(once.select(other, 9)) != as_sets(once.select(told, 9))
    recent = policies.make("infinipot-v-ablations", reference="recent")
    assert again.columns == recent.columns == ("van",)


@pytest.mark.parametrize("combine", SLOW_COMBINE)
def test_infinipot_v_keeps_a_loud_value_that_is_new(combine: str) -> None:
    still = scene()
    still.values[:, 3] *= 10  # cell 3 of the first patch
    for name in ("van", "novelty" if combine == "product" else f"infinipot-v:combine={combine}"):
        assert all(3 in kept for kept in as_sets(select(name, still, 10)))


def test_two_stage_drops_a_loud_value_that_is_redundant() -> None:
    still = scene()
    still.values[:, 9] *= 10  # cell 3 again, one patch later
    plain = still.keys.clone()
    plain[:, torch.arange(36) > 11] = torch.randn(2, 24, HEAD_DIM, generator=torch.Generator().manual_seed(5))
    tokens = changed(still, keys=plain)
    for share, stays in ((1 / 6, False), (0, True)):
        policy = policies.make("infinipot-v", combine="two-stage", r1=share)
        assert all((9 in kept) == stays for kept in as_sets(select(policy, tokens, 20)))


def test_guessed_coordinates_are_the_true_ones_until_something_is_evicted() -> None:
    whole, holes = random_tokens(patches=8, held=1), random_tokens(patches=8, held=0.6)
    guessed = guess_coordinates(whole)
    assert torch.equal(guessed.patch, whole.patch)
    assert torch.equal(guessed.cell, whole.cell)
    assert (guessed.grids, guessed.newest_patch) == (whole.grids, whole.newest_patch)
    guessing, true = policies.make("infinipot-v-ablations", coordinates="guessed"), policies.make("novelty")
    assert as_sets(select(guessing, whole, 30)) == as_sets(select(true, whole, 30))
    assert as_sets(select(guessing, holes, 20)) != as_sets(select(true, holes, 20))


def test_reference_is_the_union_until_something_is_evicted() -> None:
    tokens = random_tokens(patches=8, held=1)
    reference = policies.make("infinipot-v-reference", tar_ratio=0.5)
    union = policies.make("infinipot-v-ablations", combine="union", reference="recent", keys="rotated")
    assert as_sets(reference.select(tokens, 36)) == as_sets(select(union, tokens, 36))


def test_reference_names_what_it_cannot_do() -> None:
    whole, holes = random_tokens(patches=8, held=1), random_tokens(patches=8, held=0.6)
    with pytest.raises(PolicyError, match="whole patches, of 6 tokens"):
        policies.make("infinipot-v-reference").select(holes, 12)
    with pytest.raises(PolicyError, match="makes 0 of 8 patches recent"):
        policies.make("infinipot-v-reference", query_ratio=0.1).select(whole, 36)
    with pytest.raises(PolicyError, match="makes 7 of 8 patches recent"):
        policies.make("infinipot-v-reference", query_ratio=0.9).select(whole, 36)


def test_ties_go_to_the_later_token() -> None:
    assert as_sets(select("van", scene(), 7)) == [set(range(29, 36))] * 2
    scores = torch.tensor([[0.0, -0.0, 1.0, -torch.inf, torch.inf, -2.5, 1.0, -1.0]])
    order = [4, 6, 2, 1, 0, 7, 5, 3]
    arrival = torch.arange(8).unsqueeze(0)
    assert [as_sets(highest(scores, k, arrival))[0] for k in range(9)] == [set(order[:k]) for k in range(9)]


# The registry.


def test_registry_holds_every_policy() -> None:
    names = [kind.name for kind in policies.available()]
    assert names == sorted(set(names))
    assert {"full", "uniform", "random", "tar", "van", "infinipot-v", "infinipot-v-reference"} <= set(names)


@pytest.mark.parametrize("kind", policies.available(), ids=lambda kind: kind.name)
def test_every_policy_describes_itself(kind: type[Policy]) -> None:
    assert len(kind.summary()) > 20
    assert kind.summary().endswith(".")
    assert policies.make(kind.name) == kind()
    assert kind().spec == kind.name
    assert {option: getattr(kind(), option) for option in kind.defaults()} == kind.defaults()


# Options in the order in which a spec writes them, with the defaults that it leaves out. Answers are stored by specs:
# with another order or default, those of an earlier run would not be found, or be taken for another policy's.
SPECS = """
adakv:coverage=0.0,newest=0.0,of=deviation,share=0.5,least=0.2
cords:values=0.5,orthogonal=0.5,recent=0.125,rounds=16
deviation:coverage=0.0,newest=0.0
expected-attention:coverage=0.0,newest=0.0,queries=0
fastv:coverage=0.0,newest=0.0,question=,after=2
freevideollm:coverage=0.0,newest=0.0,question=,region=0.67
full:
hermes:coverage=0.0,newest=0.0,shallow=0.1,deep=0.3,smoothing=true
infinipot-v:combine=union,reference=previous,alpha=0.5,recent=0.25,r1=0.125,pooling=none
infinipot-v-ablations:combine=product,reference=previous,alpha=0.5,recent=0.25,r1=0.125,pooling=none,\
scored=once,power=4.0,newest=0.25,keys=unrotated,coordinates=true
infinipot-v-reference:tar_ratio=0.5,query_ratio=0.25,adaptive_pooling=false
keydiff:coverage=0.0,newest=0.0
kvzip:coverage=0.0,newest=0.0
lagkv:coverage=0.0,newest=0.0
livevlm:queries=64,buckets=16,first=0.25,recent=0.125
merged:coverage=0.0,newest=0.0,of=deviation,least=0.5
novelty:coverage=0.0,newest=0.25,power=4.0
prototypes:share=0.5,rounds=16
pyramidkv:coverage=0.0,newest=0.0,of=deviation,share=0.5,steep=20.0
random:coverage=0.0,newest=0.0,seed=0
recent-frames:patches=0
sliding-window:coverage=0.0,newest=0.0
snapkv:coverage=0.0,newest=0.0,queries=64,recent=0.125,kernel=5
streaming-llm:coverage=0.0,newest=0.0,sinks=4
streammem:coverage=0.0,newest=0.0
tar:coverage=0.0,newest=0.0,reference=previous,recent=0.25,keys=unrotated
uniform:
unusual:coverage=0.0,newest=0.125,values=1.0,keys=1.0,corners=0.25
van:coverage=0.0,newest=0.0,pooling=none
"""


def test_specs_are_written_as_they_always_were() -> None:
    for kind, line in zip(policies.available(), SPECS.split(), strict=True):
        defaults = ",".join(f"{option}={to_text(value)}" for option, value in kind.defaults().items())
        assert f"{kind.name}:{defaults}" == line


@pytest.mark.parametrize("spec", VARIANTS)
def test_spec_makes_the_same_policy_again(spec: str) -> None:
    assert policies.make(policies.make(spec).spec) == policies.make(spec)


def test_options_come_from_text_and_keywords() -> None:
    policy = policies.make("infinipot-v: combine=union, alpha=0.4", recent=1)
    assert (policy.combine, policy.alpha, policy.recent) == ("union", 0.4, 1)  # type: ignore[attr-defined]
    assert policies.make(policy) is policy
    assert policies.make("infinipot-v-reference:adaptive_pooling=True").adaptive_pooling is True  # type: ignore[attr-defined]
    assert policies.make("random:seed=7") == policies.make("random", seed=7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: policies.make("infinipot"), 'unknown policy: "infinipot"; did you mean "infinipot-v".*unusual, van'),
        (lambda: policies.make("Sliding_Window"), 'did you mean "sliding-window"'),
        (
            lambda: policies.make("zzz"),
            r'"zzz"; Possible: adakv, cords, deviation, .*full, hermes, infinipot-v',
        ),
        (lambda: policies.make("tar:refrence=recent"), 'of tar: "refrence"; did you mean "reference".*recent, keys'),
        (lambda: policies.make("tar", alpha=1), 'of tar: "alpha"'),
        (lambda: policies.make("uniform:alpha=1"), 'of uniform: "alpha"; Possible: none'),
        (lambda: policies.make("tar:reference"), "reference has no value; write reference="),
        (lambda: policies.make("tar:recent=0.1,recent=0.2"), "recent is given twice"),
        (lambda: policies.make("tar:recent=0.1", recent=0.2), "recent is given twice"),
        (lambda: policies.make("tar:reference=next"), "reference='next' .* 'previous' or 'recent'"),
        (lambda: policies.make("infinipot-v:alpha=much"), "alpha='much' .* a number from 0 to 1"),
        (lambda: policies.make("infinipot-v:alpha=1.5"), "alpha=1.5 .* a number from 0 to 1"),
        (lambda: policies.make("infinipot-v:alpha=nan"), "alpha=nan .* a number from 0 to 1"),
        (lambda: policies.make("infinipot-v", alpha=True), "alpha=True .* a number from 0 to 1"),
        (lambda: policies.make("snapkv", queries=0), "queries=0 .* a whole number 1 or more"),
        (lambda: policies.make("livevlm", queries=0), "queries=0 .* a whole number 1 or more"),
        (lambda: policies.make("random:seed=0.5"), "seed='0.5' .* a whole number 0 or more"),
        (lambda: policies.make("random", seed=-1), "seed=-1 .* a whole number 0 or more"),
        (lambda: policies.make("infinipot-v-reference:adaptive_pooling=1"), "adaptive_pooling='1' .* true or false"),
        (lambda: policies.make(policies.make("tar"), recent=0.5), "has its options already; got recent"),
        (
            lambda: policies.make("infinipot-v:newest=0.125"),
            r'option of infinipot-v: "newest"; Possible: combine, refer',
        ),
        (lambda: policies.make("infinipot-v:combine=two-stage,alpha=0.3"), "alpha changes nothing beside the other"),
        (lambda: policies.make("infinipot-v", combine="two-stage", recent=0.5), "recent changes nothing"),
        (lambda: policies.make("infinipot-v:r1=0.5"), "infinipot-v: r1 changes nothing"),
        (lambda: policies.make("merged:of=[tar:recent=0.5]"), "tar: recent changes nothing"),
        (lambda: policies.make("infinipot-v:combine=product"), r"combine='product' is not possible: it is 'union'"),
        (lambda: policies.make("merged:of=adakv"), "of='adakv' does more with its scores"),
        (lambda: policies.make("merged:of=streaming-llm"), "does more with its scores"),
        (lambda: policies.make("adakv:of=recent-frames"), "gives no scores"),
        (lambda: policies.make(3), "must be a name or a Policy, not int: 3"),  # type: ignore[arg-type]
    ],
)
def test_errors_name_what_is_possible(make: Callable[[], Policy], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        make()


def test_a_policy_of_ones_own_needs_no_registry() -> None:
    @dataclass(frozen=True)
    class Oldest(Policy):
        """Keeps the oldest tokens."""

        name = "oldest"

        def select(self, tokens: VideoTokens, budget: int) -> Tensor:
            return torch.arange(budget).expand(tokens.cell.shape[0], budget)

    assert policies.make(Oldest()).select(random_tokens(), 4).tolist() == [[0, 1, 2, 3]] * 2
    assert "oldest" not in [kind.name for kind in policies.available()]


@pytest.mark.parametrize("compared", [{"reference": "recent"}, {"keys": "rotated"}], ids=str)
def test_a_stored_tar_stands_for_no_other_comparison(compared: dict[str, Any]) -> None:
    tokens = random_tokens()
    stored = replace(tokens, columns={"tar": torch.zeros(tokens.shape)})
    score = cast(ScoredPolicy, policies.make("tar", **compared)).score
    assert torch.equal(score(stored), score(tokens))
