"""Rows with budgets of their own: what attention passes over, and how shares are worked out."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infinipot import policies
from infinipot.policies.base import ScoredPolicy
from infinipot.policies.budgets import Budgets
from infinipot.tokens import Grid, VideoTokens
from support.models import build, logits, pictures
from support.video_tokens import reading

SMALL: dict[str, Any] = {"reserve": 70, "dialogue": 40, "block": 2}


@pytest.mark.parametrize("spec", ["pyramidkv", "adakv:of=[snapkv:queries=6],least=0"])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl"])
def test_what_is_hidden_is_passed_over_and_leaves_first(spec: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hidden token may hold anything: answers do not depend on it, and at the next compression it goes."""
    model, policy, dropped = build(name), policies.make(spec), []
    choose = ScoredPolicy.select

    def recording(self: ScoredPolicy, tokens: object, budget: int) -> Tensor:
        kept = choose(self, tokens, budget)  # type: ignore[arg-type]
        if self is policy:
            dropped.append((tokens.columns["hidden"] > 0, kept))  # type: ignore[attr-defined]
        return kept

    monkeypatch.setattr(ScoredPolicy, "select", recording)
    with model.stream(memory=300, policy=policy, **SMALL) as stream:
        for number, picture in enumerate(pictures(40)):
            stream.watch(picture, 2.0 * number)
        memory, expected = stream._state.memory, logits(model, stream)
        with stream.fork() as other, torch.inference_mode():
            for group in other._state.memory.groups:
                hidden = group.columns["hidden"][:, : memory.held] > 0
                assert 0 < int(hidden.sum()) < hidden.numel()
                assert (group.columns["cell"][:, : memory.held][hidden] >= 0).all(), "text is never hidden"
                group.keys[:, : memory.held][hidden] = 7.0
                group.values[:, : memory.held][hidden] = 7.0
            assert torch.equal(logits(model, other), expected)
            for group in other._state.memory.groups:
                group.columns["hidden"][:] = 0
            assert not torch.allclose(logits(model, other), expected)
    assert len(dropped) > 2
    for hidden, kept in dropped:
        for row in range(len(kept)):
            gone = set(range(hidden.shape[1])) - set(kept[row].tolist())
            left = set(hidden[row].nonzero()[:, 0].tolist())
            assert left <= gone or gone <= left


class Told(Budgets):
    """Shows each head as many tokens as the number of its layer says, and notes what it was told."""

    name = "told"

    def shown(self, scores: Tensor, arrival: Tensor, layer: int, layers: int) -> Tensor:
        assert (len(scores), layers) == (2, 4)
        return arrival >= arrival.sort(1).values[:, -1 - layer, None]


def test_each_layer_has_its_own_heads_and_its_own_number() -> None:
    """Its scores as well: those of another layer would choose other tokens."""
    generator = torch.Generator().manual_seed(5)
    states = torch.randn(8, 30, 16, generator=generator)
    tokens = VideoTokens(
        patch=torch.arange(30, dtype=torch.int32).expand(8, -1),
        cell=torch.zeros(8, 30, dtype=torch.int32),
        grids=(Grid(1, 1, 0),),
        newest_patch=29,
        layer=[0, 0, 1, 1, 2, 2, 3, 3],
        layers=4,
        head=[0, 1] * 4,
        read=reading({"keys": states, "rotated": states, "values": states}),
        columns={"hidden": torch.zeros(8, 30), "distance": states.norm(dim=-1)},
    )
    kept = torch.stack([torch.randperm(30, generator=generator)[:20] for _ in range(8)])
    told = Told(of="deviation").seen(tokens, kept)
    assert told.sum(1).tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    ada = policies.make("adakv:share=0.5,least=0")
    shown = ada.seen(tokens, kept)
    assert shown.view(4, -1).sum(1).tolist() == [20] * 4, "half of what the two heads of a layer keep"
    for layer in range(4):
        rows = slice(2 * layer, 2 * layer + 2)
        scores = ada.score(tokens).gather(1, kept)[rows]  # type: ignore[attr-defined]
        assert scores[shown[rows]].min() > scores[~shown[rows]].max()
    pyramid = policies.make("pyramidkv").seen(tokens, kept).sum(1).tolist()
    assert pyramid == [max(1, round(10 * share)) for share in np.linspace(2 - 1 / 20, 1 / 20, 4) for _ in range(2)]


@pytest.mark.parametrize("seed", range(4))
def test_heads_share_by_their_scores_together_and_layers_in_a_straight_line(seed: int) -> None:
    scores = torch.randn(3, 20, generator=torch.Generator().manual_seed(seed))
    arrival = torch.arange(20).expand(3, -1)
    shown = policies.make("adakv:share=0.5,least=0.2").shown(scores, arrival, 0, 4).numpy()  # type: ignore[attr-defined]
    # Ada-KV, algorithm 1: the top of all heads together, of each head 0.2 of its fair share first.
    flat = scores.numpy().copy()
    for head in range(3):
        flat[head, np.argsort(flat[head])[-2:]] = np.inf
    best = np.argsort(flat, axis=None)[-30:]
    expected = np.zeros(60, bool)
    expected[best] = True
    assert (shown == expected.reshape(3, 20)).all()
    assert shown.sum() == 30
    # PyramidKV, equations 2 and 3: from 2 B - B / 20 down to B / 20.
    pyramid = policies.make("pyramidkv")
    counts = [int(pyramid.shown(scores, arrival, layer, 5)[0].sum()) for layer in range(5)]  # type: ignore[attr-defined]
    assert counts == [max(1, round(10 * share)) for share in np.linspace(2 - 1 / 20, 1 / 20, 5)]
    top = pyramid.shown(scores, arrival, 2, 5)  # type: ignore[attr-defined]
    assert (scores.masked_fill(~top, torch.inf).amin(1) > scores.masked_fill(top, -torch.inf).amax(1)).all()
