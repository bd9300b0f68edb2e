"""Rules of the literature, each against a few lines of NumPy written from its paper, row by row on small tensors."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.overrides import TorchFunctionMode

from infinipot import policies
from infinipot.errors import CapError, PolicyError
from infinipot.policies.base import STRETCHES, UNSEEN
from infinipot.policies.cords import RIDGE, Unexplained
from infinipot.policies.scoring.neighbours import unit as unit_states
from infinipot.tokens import VideoTokens
from support.memories import view
from support.models import pictures
from support.video_tokens import as_sets, random_tokens, shown

MIXED = ((2, 3), (3, 2), (1, 4))
Row = dict[str, Any]  # of one row, in order of arrival: arrays of what `VideoTokens` has, and numbers


def rows_of(tokens: VideoTokens) -> list[Row]:
    """The rows of tokens that lie in order of arrival."""
    parts = {name: getattr(tokens, name).numpy() for name in ("patch", "cell", "keys", "values")}
    parts |= {name: column.numpy() for name, column in tokens.columns.items()}
    told = {"newest": tokens.newest_patch, "cells": tokens.grids[-1].cells, "layers": tokens.layers}
    grids = {grid.first_cell + cell: (grid, cell) for grid in tokens.grids for cell in range(grid.cells)}
    made = []
    for row, layer in enumerate(tokens.layer):
        of = [grids[cell] for cell in tokens.cell[row].tolist()]
        where = {
            "at": [divmod(cell, grid.columns) for grid, cell in of],
            "size": [(grid.rows, grid.columns) for grid, _ in of],
        }
        made.append({name: part[row] for name, part in parts.items()} | told | where | {"layer": layer})
    return made


def best(scores: np.ndarray, count: int) -> set[int]:
    """The highest; of equal scores the later."""
    return set(np.lexsort((np.arange(len(scores)), scores))[len(scores) - count :].tolist())


def unit(states: np.ndarray) -> np.ndarray:
    return states / np.linalg.norm(states, axis=-1, keepdims=True)


def snapkv(row: Row, budget: int) -> set[int]:
    """Li et al., section 4: votes of the window, pooled by 5 with zeros around; of the window stays what has room."""
    pooled = np.convolve(row["attention"], np.ones(5) / 5, "same")
    pooled[len(pooled) - min(2, budget // 8) :] = np.inf
    return best(pooled, budget)


def livevlm(row: Row, budget: int) -> set[int]:
    """Ning et al., section 3: the best `first` whatever the bucket, then in order while there is room in a bucket."""
    recent = row["patch"] > row["newest"] - max(1, int(0.125 * len(row["patch"]) / row["cells"]))
    order = np.lexsort((np.arange(len(recent)), np.where(recent, np.inf, row["attention"])))[::-1]
    kept = [i for place, i in enumerate(order) if recent[i] or place < int(0.25 * budget)][:budget]
    bucket = row["patch"] * 16 // (row["newest"] + 1)
    for capacity in (-(-budget // 16), len(order)):
        for i in order:
            # Of its bucket, those that rank above it take their places whether they were kept first or now.
            ahead = [j for j in order[: list(order).index(i)] if bucket[j] == bucket[i]]
            if len(kept) < budget and i not in kept and len(ahead) < capacity:
                kept.append(i)
    return set(map(int, kept))


def expected(row: Row, budget: int) -> set[int]:
    """Devoto et al., section 3: expected attention times the length of the value."""
    return best(row["expected"] * np.linalg.norm(row["values"], axis=-1), budget)


def kvzip(row: Row, budget: int) -> set[int]:
    return best(row["repeated"], budget)


def streammem(row: Row, budget: int) -> set[int]:
    return best(row["template"], budget)


def freevideollm(row: Row, budget: int) -> set[int]:
    """Han et al.: the frames that the prompt is about, and of each the region around its centre."""
    relevance, inside = np.zeros(len(row["patch"])), np.zeros(len(row["patch"]), bool)
    for patch in set(row["patch"].tolist()):
        own = np.flatnonzero(row["patch"] == patch)
        centre = own[row["asked"][own].argmax()]
        relevance[own] = row["asked"][centre]
        for token in own:
            within = []
            for axis in (0, 1):
                length = row["size"][token][axis]
                size = int(np.ceil(0.67 * length))
                start = min(max(0, row["at"][centre][axis] - size // 2), length - size)
                within.append(start <= row["at"][token][axis] < start + size)
            inside[token] = all(within)
    return best(np.where(inside, relevance, relevance - 2), budget)


def hermes(row: Row, budget: int) -> set[int]:
    """Equations of the three bands, one layer by itself."""
    count, layers = len(row["patch"]), row["layers"]
    first, last = round(0.1 * layers), layers - round(0.3 * layers)
    age = 1 - np.arange(count) / (count - 1)
    asked = row["global"]
    if row["layer"] < first:
        w, k = 1.0, 20.0
    elif row["layer"] >= last:
        w, k = 0.0, 0.5
    else:
        p = (row["layer"] - first) / (last - first - 1)
        w, k, asked = 0.75 - 0.6 * p, 20 - 19.5 * p, (row["local"] + row["global"]) / 2
    least_most = [(part - part.min()) / (part.max() - part.min()) for part in (asked, np.exp(-k * age))]
    return best((1 - w) * least_most[0] + w * least_most[1], budget)


def lagkv(row: Row, budget: int) -> set[int]:
    """Liang et al., equations 3 to 7, with partitions that are patches; the last is whole."""
    held = sorted(set(row["patch"].tolist()))
    scores = np.full(len(row["patch"]), np.inf)
    for patch, behind in pairwise(held):
        own, share = row["patch"] == patch, 0
        for states in (row["keys"], row["values"]):
            lag = states[row["patch"] == behind]
            spread = ((states[own] - lag.min(0)) / np.maximum(lag.max(0) - lag.min(0), 1e-9)).std(-1, ddof=1)
            power = np.exp(spread - spread.max())
            share = share + power / power.sum() / 2
        scores[own] = share - np.argsort(np.argsort(-share))
    return best(scores, budget)


def cords(row: Row, budget: int) -> set[int]:
    """Greedy k-centre in keys and values with a bonus for what the chosen ones leave unexplained."""
    points = np.concatenate([unit(row["keys"]), unit(row["values"])], -1).astype(float) * 0.5**0.5
    chosen = list(range(len(points)))[len(points) - int(0.125 * budget) :]
    while len(chosen) < budget:
        distance = (1 - points @ points[chosen].T).min(1)
        covered = 1e-2 * np.eye(points.shape[1]) + points[chosen].T @ points[chosen]
        bonus = 1e-2 * 0.5 * np.einsum("nd,de,ne->n", points, np.linalg.inv(covered), points)
        gain = distance + (bonus if len(chosen) > int(0.125 * budget) else 0)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return set(chosen)


def prototypes(row: Row, budget: int) -> set[int]:
    """A ring of the newest half, and centres far apart among the older."""
    points, ring = unit(row["keys"]).astype(float), budget - budget // 2
    older = len(points) - ring
    chosen: list[int] = []
    while len(chosen) < budget // 2:
        distance = (1 - points[:older] @ points[chosen].T).min(1) if chosen else np.arange(older) * 1.0
        distance[chosen] = -np.inf
        chosen.append(int(distance.argmax()))
    return {*chosen, *range(older, len(points))}


def recent_frames(row: Row, budget: int) -> set[int]:
    return set(range(len(row["patch"]) - budget, len(row["patch"])))


RULES: dict[str, Callable[[Row, int], set[int]]] = {
    "snapkv:queries=2": snapkv,
    "livevlm": livevlm,
    "expected-attention": expected,
    "kvzip": kvzip,
    "streammem": streammem,
    "freevideollm": freevideollm,
    "hermes:smoothing=false": hermes,
    "lagkv": lagkv,
    "cords:rounds=100": cords,
    "prototypes:rounds=100": prototypes,
    "recent-frames": recent_frames,
}


def in_order(spec: str, seed: int, **where: Any) -> tuple[policies.Policy, VideoTokens]:
    policy = policies.make(spec)
    tokens = shown(policy, random_tokens(seed, sizes=MIXED, patches=9, **where))
    return policy, tokens.part(tokens.in_order())


@pytest.mark.parametrize("spec", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_a_rule_is_the_papers(spec: str, seed: int) -> None:
    held = 0.9 if spec == "lagkv" else 0.7  # of patches of which one token is held no ranges can be told
    policy, tokens = in_order(spec, seed, held=held, layer=3 * seed, layers=10)
    for budget in (9, 17, 30):
        assert as_sets(policy.select(tokens, budget)) == [RULES[spec](row, budget) for row in rows_of(tokens)]


@pytest.mark.parametrize("seed", range(3))
def test_coverage_assures_every_stretch_of_time_of_its_best(seed: int) -> None:
    policy, tokens = in_order("deviation:coverage=0.75", seed, held=1)
    for budget in (24, 33):
        chosen = policy.select(tokens, budget)
        for row, kept in zip(rows_of(tokens), as_sets(chosen), strict=True):
            scores = np.linalg.norm(row["values"] - row["values"].mean(0), axis=-1)
            spread = int(0.75 * budget)
            stretches = min(STRETCHES, spread)
            of = row["patch"] * stretches // (row["newest"] + 1)
            assured: set[int] = set()
            for stretch in range(stretches):
                own = np.flatnonzero(of == stretch)
                assured |= set(own[np.argsort(scores[own])[::-1][: spread // stretches]].tolist())
            rest = sorted(set(range(len(of))) - assured, key=lambda i: -scores[i])
            assert kept == assured | set(rest[: budget - len(assured)])


def test_layers_take_over_from_the_layer_above() -> None:
    """HERMES, from the deepest up: s_l ← (1 - g) · s_l + g · s_(l+1), here of ten layers with a head each."""
    policy, _ = policies.make("hermes"), None
    tokens = replace(random_tokens(heads=10, patches=8), layer=list(range(10)), layers=10, head=[0] * 10)
    tokens = shown(policy, tokens)
    tokens = tokens.part(tokens.in_order())
    alone = policies.make("hermes:smoothing=false").score(tokens).numpy()  # type: ignore[attr-defined]
    expected = alone.copy()
    for layer in range(8, -1, -1):
        share = 0.1 if layer < 1 else 0.4 if layer >= 7 else 0.3
        expected[layer] = (1 - share) * expected[layer] + share * expected[layer + 1]
    np.testing.assert_allclose(policy.score(tokens), expected, atol=1e-6)  # type: ignore[attr-defined]


@pytest.mark.parametrize("after", [1, 2, 9])
def test_all_layers_keep_what_one_layer_attends_to(after: int) -> None:
    """Chen et al.: the mean over one layer's heads ranks tokens for all layers; here of four with two heads."""
    alike = random_tokens(held=1, heads=1)
    tokens = alike.part(torch.arange(alike.shape[1]).expand(1, -1))
    rows = torch.zeros(8, dtype=torch.int64)
    same = {name: getattr(tokens, name)[rows] for name in ("patch", "cell")}
    tokens = replace(tokens, **same, layer=[0, 0, 1, 1, 2, 2, 3, 3], layers=4, head=[0, 1] * 4)
    asked = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(after))
    tokens = replace(tokens, columns={"asked": asked})
    policy, layer = policies.make("fastv", after=after), min(after, 4) - 1
    expected = best(asked[2 * layer : 2 * layer + 2].double().mean(0).numpy(), 11)
    assert as_sets(policy.select(tokens, 11)) == [expected] * 8
    elsewhere = replace(tokens, layer=[5] * 8, layers=9)  # the layer that ranks lies on another device
    assert as_sets(policy.select(elsewhere, 11)) == [best(own, 11) for own in asked.double().numpy()]


@pytest.mark.parametrize("question", ["How many circles, squares: and crosses?", "[x]", " padded ", "open [", "a=b"])
def test_a_question_that_is_known_is_an_option_that_specs_can_hold(question: str) -> None:
    if "[" in question or question != question.strip():
        with pytest.raises(PolicyError, match="without brackets"):
            policies.make("fastv", question=question)
        return
    policy = policies.make("fastv", question=question)
    assert policies.make(policy.spec) == policy
    assert policy.attention["asked"].probe == question


def test_what_leaves_a_patch_goes_into_its_most_attended_token() -> None:
    """StreamMem's prototypes, for whole patches, patches of which one token stays, and patches that go."""
    policy, tokens = in_order("streammem", 1)
    kept = policy.select(tokens, 7)
    merge = policy.merge(tokens, kept)
    for row, told in enumerate(rows_of(tokens)):
        stay = set(kept[row].tolist())
        for token in range(tokens.shape[1]):
            same = [other for other in stay if told["patch"][other] == told["patch"][token]]
            leader = max(same, key=lambda other: told["template"][other], default=None)
            goes = int(merge.into[row, token])
            assert goes == (leader if token not in stay and leader is not None else goes)
            assert token not in stay or goes == token
            assert leader is not None or goes not in stay
    np.testing.assert_array_equal(merge.weight, tokens.columns["template"])


def test_in_deep_layers_what_leaves_goes_into_the_oldest_that_stays() -> None:
    policy = policies.make("hermes")
    for layer, deep in ((0, False), (6, False), (7, True), (9, True)):
        tokens = shown(policy, random_tokens(layer=layer, layers=10))
        kept = policy.select(tokens, 9)
        into = policy.merge(tokens, kept).into
        oldest = kept.gather(1, tokens.arrival.gather(1, kept).argmin(1, keepdim=True))
        own = torch.arange(tokens.shape[1]).expand_as(into)
        stays = torch.zeros_like(into, dtype=torch.bool).scatter(1, kept, True)
        assert torch.equal(into, torch.where(stays, own, oldest) if deep else own)


@pytest.mark.parametrize(
    "spec", ["snapkv:queries=3", "livevlm", "kvzip", "streammem", "hermes", "expected-attention", "fastv"]
)
def test_what_nobody_was_asked_about_yet_stays(spec: str) -> None:
    policy, tokens = in_order(spec, 2, layer=4, layers=10)
    columns = {name: column.clone() for name, column in tokens.columns.items()}
    for name in policy.attention:
        columns[name][:, 5:9] = UNSEEN
    assert all({5, 6, 7, 8} <= kept for kept in as_sets(policy.select(replace(tokens, columns=columns), 16)))


def test_recent_frames_hold_no_more_than_they_are_told(qwen: Any) -> None:
    with qwen.stream(memory=300, policy="recent-frames:patches=3", reserve=56, dialogue=40, block=2) as stream:
        for number, picture in enumerate(pictures(41)):
            stream.watch(picture)
            patches = view(stream._state.memory).patch if number > 8 else None
            if patches is not None:
                newest = stream._state.memory.cursor.patch
                assert sorted(set(patches[0].tolist())) == [newest - 3, newest - 2, newest - 1]
                assert patches.shape[1] == 3 * stream._state.memory.grids[-1].cells


@pytest.mark.parametrize("policy", ["recent-frames", "infinipot-v-reference"])
def test_what_is_kept_has_room_for_a_whole_patch(qwen: Any, policy: str) -> None:
    """Half of a patch's tokens would be none, once they are rounded down to whole patches."""
    with qwen.stream(memory=300, policy=policy, keep=0.05) as stream, pytest.raises(CapError, match="too small"):
        stream.watch(pictures(1)[0])


@pytest.mark.parametrize("counts", [(1, 1, 1), (3, 9), (20, 2), (40, 40)])
def test_what_chosen_points_leave_unexplained_is_kept_up_to_date(counts: tuple[int, ...]) -> None:
    """By the definition, x · λ(λI + XᵀX)⁻¹x, however many a round chooses, copies among them."""
    draw = torch.Generator().manual_seed(sum(counts))
    points = unit_states(torch.randn(2, 60, 12, generator=draw))
    points[:, 30:] = points[:, :30]
    chosen = points[:, :4]
    told = Unexplained(points, chosen, 0.5)
    for start, count in zip((4, 44, 3), counts, strict=False):
        more = points.roll(-start, 1)[:, :count]
        chosen = torch.cat([chosen, more], 1)
        covered = RIDGE * torch.eye(12, dtype=points.dtype) + chosen.mT @ chosen
        left = RIDGE * torch.einsum("rnd,rde,rne->rn", points, torch.linalg.inv(covered), points)
        torch.testing.assert_close(told(more), (0.5 * left).float(), atol=1e-7, rtol=1e-5)


class RoundedProducts(TorchFunctionMode):
    """Inside, products of float32 are rounded as a GPU rounds them to TF32, of which ten bits are behind the point."""

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.__matmul__, Tensor.matmul, torch.matmul):
            args = tuple(map(self._rounded, args))
        return func(*args, **(kwargs or {}))

    def _rounded(self, factor: Tensor) -> Tensor:
        if factor.dtype != torch.float32:
            return factor
        return ((factor.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("noise", [0.0, 1e-3, 0.1])
@pytest.mark.parametrize("rounds", [1, 3])
def test_a_still_picture_leaves_little_unexplained_where_products_are_rounded_to_tf32(
    noise: float, rounds: int
) -> None:
    torch.manual_seed(1)
    width, count = 64, 1200
    points = normalize(torch.randn(1, 1, width) + noise * torch.randn(1, count, width), dim=-1)
    exact, rounded = (Unexplained(each, each[:, :0], 1.0) for each in (points.double(), points))
    with RoundedProducts():
        for some in points.split(count // rounds, 1):
            expected, found = exact(some.double()), rounded(some)
            torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)
