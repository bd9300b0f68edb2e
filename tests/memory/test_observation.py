"""What attends to what: what observers are shown, and the columns that policies ask for."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infinipot import Model, policies
from infinipot.engine.limits import probe_ids
from infinipot.errors import CapError
from infinipot.memory import LayerShape, Memory, PositionRule, Rotary, Steps, observation
from infinipot.memory.observation import Seen
from infinipot.policies.base import UNSEEN, Attention
from infinipot.policies.scoring.attention import attended
from support.memories import held, same, to_model, view
from support.models import build, pictures

HEADS, GROUP, DIM = 2, 3, 8
ROTARY = Rotary(1.0 / 100.0 ** (torch.arange(4) / 4), axes=[0, 0, 1, 2])
ASKED = {
    "mean": Attention(queries=4),
    "max": Attention(queries=4, over="max"),
    "expected": Attention(queries=4, over="expected"),
    "probe": Attention(queries=2, probe="?"),
}
SMALL: dict[str, Any] = {"reserve": 70, "dialogue": 40, "block": 2}


def memory_of(columns: tuple[str, ...] = ()) -> Memory:
    shape = LayerShape(HEADS, DIM, torch.device("cpu"), torch.float32)
    return Memory(100, [shape] * 2, ROTARY, PositionRule(), columns=columns)


@dataclass
class Recorder:
    """Keeps what it is shown."""

    seen: list[Seen] = field(default_factory=list)

    def __call__(self, seen: Seen) -> None:
        self.seen.append(Seen(seen.step, seen.layer, seen.raw, seen.queries.clone(), seen.keys.clone(), seen.scaling))


@dataclass
class Attended:
    """Takes how much the last tokens of a step attend to each slot: `[kv_heads, N]` of each layer, by its number."""

    asking: Tensor
    layers: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, seen: Seen) -> None:
        heads = torch.cat(list(seen.weights(self.asking)), 2)  # [kv_heads, heads of one KV head, asking, N]
        self.layers[seen.layer] = heads.mean((1, 2))


def run(step: Any) -> None:
    """What a decoder does: writes, reads and shows each layer."""
    for layer in range(2):
        step.store(layer, torch.randn(HEADS, step.count, DIM), torch.randn(HEADS, step.count, DIM))
        raw = torch.randn(HEADS * GROUP, step.count, DIM)
        keys, _ = step.read(layer)
        step.observe(layer, raw, Steps((step,)).turned(ROTARY.to_stored(raw)), keys, 0.5)


def weights(seen: Seen, place: int, head: int) -> np.ndarray:
    """The attention of one query head of one token, by the formula."""
    keys, query = seen.keys.numpy()[head // GROUP], seen.queries.numpy()[head, place]
    powers = np.exp([0.5 * float(key @ query) for key in keys[: seen.step.start + place + 1]])
    return np.append(powers / powers.sum(), np.zeros(len(keys) - len(powers)))


@pytest.mark.parametrize("piece", [1 << 20, 40])
def test_columns_are_the_attention_of_the_last_cells_and_of_probes(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "_PIECE", piece)
    torch.manual_seed(0)
    memory, recorder = memory_of(tuple(ASKED)), Recorder()
    grid = memory.use_grid(2, 2)
    with memory.transaction() as transaction:
        transaction.text(3)
        transaction.video(grid, [0.0], before=1, after=2)
        transaction.video(grid, [1.0], before=1, after=2)
        blocks = {name: asked for name, asked in ASKED.items() if asked.probe is None}
        run(memory.step(transaction, blocks, [recorder]))
        with memory.aside(transaction):
            transaction.text(3)
            run(memory.step(transaction, {"probe": ASKED["probe"]}, [recorder]))
        assert (memory.filled, transaction.tokens) == (17, 17)
        memory.commit(transaction, policy=Wanting())
    block, probe = recorder.seen[:2], recorder.seen[2:]
    for layer, head in ((0, 0), (1, 1)):
        group = range(GROUP * head, GROUP * (head + 1))
        row = HEADS * layer + head
        last = [weights(block[layer], place, each) for place in (11, 12, 13, 14) for each in group]
        behind = [weights(probe[layer], place, each)[:17] for place in (1, 2) for each in group]
        for name, expected in (("mean", np.mean(last, 0)), ("max", np.max(last, 0)), ("probe", np.mean(behind, 0))):
            np.testing.assert_allclose(memory.groups[0].columns[name][row, :17], expected, atol=1e-6)
        found = memory.groups[0].columns["expected"][row, :17]
        np.testing.assert_allclose(found, np.mean([expected_attention(block[layer], each) for each in group], 0), 1e-4)


@dataclass(frozen=True)
class Wanting(policies.Policy):
    """Asks for all kinds of attention."""

    name = "wanting"
    attention = ASKED

    def select(self, tokens: Any, budget: int) -> Tensor:
        return attended(tokens, "mean").topk(budget).indices


def expected_attention(seen: Seen, head: int) -> np.ndarray:
    """E[exp(q·k/2)] of normal queries at the next 512 positions, as shares of 1 (Expected Attention, section 3)."""
    queries = seen.raw[head, [11, 12, 13, 14]].numpy().astype(float)
    angles = np.arange(seen.step.highest, seen.step.highest + 512)[:, None] * ROTARY.inv_freq.double().numpy()
    cos, sin = np.diag(np.cos(angles).mean(0)), np.diag(np.sin(angles).mean(0))
    ahead = np.block([[cos, -sin], [sin, cos]])
    mean, spread = ahead @ queries.mean(0), ahead @ np.cov(queries.T, bias=True) @ ahead.T
    keys = to_model(ROTARY, seen.keys[head // GROUP]).numpy().astype(float)
    powers = [math.exp(key @ mean / 2 + key @ spread @ key / 8) for key in keys]
    return np.array(powers) / sum(powers)


def test_what_was_not_observed_stays_as_it_was_and_what_is_new_is_unseen() -> None:
    memory = memory_of(("mean", "max"))
    asked = {name: ASKED[name] for name in ("mean", "max")}
    grid, policy = memory.use_grid(2, 2), Wanting()
    before: dict[str, Tensor] = {}
    for number in range(3):
        with memory.transaction() as transaction:
            transaction.video(grid, [float(number)])
            run(memory.step(transaction, asked if number != 1 else {}))
            object.__setattr__(policy, "attention", asked)
            memory.commit(transaction, policy=policy)
        now = {name: memory.groups[0].columns[name][:, : memory.held].clone() for name in asked}
        if number == 1:
            assert all(torch.equal(now[name][:, :4], before[name]) for name in asked)
            assert all((now[name][:, 4:] == UNSEEN).all() for name in asked)
            tokens = view(memory)
            assert attended(tokens, "mean")[:, 4:].isinf().all()
        if number == 2:
            assert (now["max"][:, :8] >= before["max"]).all()
            assert (now["mean"][:, :4] < before["mean"][:, :4]).any()
            assert all((now[name] >= 0).all() for name in asked)
        before = now


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl", "qwen3_5"])
def test_attention_that_is_observed_is_the_attention_that_is_paid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Averaged values, weighted by it, are what the kernel comes to."""
    model, found = build(name), []
    forward = type(model.adapter).forward
    fused = "infinipot.models.attention.scaled_dot_product_attention"
    kernel = torch.nn.functional.scaled_dot_product_attention

    def recording(queries: Tensor, keys: Tensor, values: Tensor, **kwargs: Any) -> Tensor:
        out = kernel(queries, keys, values, **kwargs)
        found.append((values[0].clone(), out[0].unflatten(0, (values.shape[1], -1)).mean(1)))
        return out

    def observed(adapter: Any, embeddings: Tensor, step: Any) -> Tensor:
        evidence = Attended(torch.arange(step.count)[-3:])
        object.__setattr__(step, "observers", (*step.observers, evidence))
        found.clear()
        logits = forward(adapter, embeddings, step)
        assert len(found) == len(evidence.layers) > 0
        for (values, out), attention in zip(found, evidence.layers.values(), strict=True):
            torch.testing.assert_close(attention.sum(-1), torch.ones(len(values)))
            mean = (attention.unsqueeze(1) @ values).squeeze(1)
            torch.testing.assert_close(mean, out[:, -min(3, step.count) :].mean(1), atol=1e-5, rtol=1e-4)
        return logits

    monkeypatch.setattr(fused, recording)
    monkeypatch.setattr(type(model.adapter), "forward", observed)
    with model.stream(memory=300, **SMALL) as stream:
        for picture in pictures(12):
            stream.watch(picture)
        stream.ask("What?", max_new_tokens=2)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl", "qwen3_5", "internvl"])
def some(request: pytest.FixtureRequest) -> Model:
    return build(request.param)


def test_a_probe_is_forgotten(some: Model) -> None:
    """As long as nothing has to leave, a stream that repeats each block holds what one that does not holds."""
    streams = [some.stream(memory=760, policy=policy, **SMALL) for policy in ("uniform", "kvzip")]
    for stream in streams:
        for number, picture in enumerate(pictures(12)):
            stream.watch(picture, 2.0 * number)
    plain, probed = streams
    column = probed._state.memory.groups[0].columns["repeated"][:, : probed._state.memory.held]
    assert (column > 0).any()
    for stream in streams:
        for group in stream._state.memory.groups:
            group.columns.pop("repeated", None)
    assert same(held(plain), held(probed))
    assert plain.ask("What?", max_new_tokens=4) == probed.ask("What?", max_new_tokens=4)


@pytest.mark.parametrize("policy", ["livevlm", "expected-attention", "kvzip", "hermes", "streammem"])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_policies_that_ask_for_attention_get_it_at_each_compression(
    name: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks and turns make tokens leave here."""
    some, made, shown = build(name), policies.make(policy), []
    select = type(made).select

    def recording(self: Any, tokens: Any, budget: int) -> Tensor:
        shown.append({name: tokens.columns[name].clone() for name in self.attention})
        return select(self, tokens, budget)

    monkeypatch.setattr(type(made), "select", recording)
    by_turns = 0
    with some.stream(memory=400, policy=made, **{**SMALL, "reserve": 150}) as stream:
        for number, picture in enumerate(pictures(30)):
            stream.watch(picture, 2.0 * number)
            if number % 7 == 4:
                before = stream.stats().compressions
                stream.ask("What?", max_new_tokens=2, remember=True)
                by_turns += stream.stats().compressions - before
        assert stream.stats().compressions > by_turns > 0
        assert stream.stats().peak_tokens <= 400
    for columns in shown:
        assert all((column >= 0).all() and column.std() > 0 for column in columns.values())


def test_what_is_repeated_of_the_first_block_is_its_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, run_over = build("qwen2_5_vl"), []
    forward = model.adapter.forward
    monkeypatch.setattr(
        model.adapter, "forward", lambda rows, *steps: run_over.append(len(rows)) or forward(rows, *steps)
    )
    with model.stream(memory=760, policy="kvzip", system="Watch closely. " * 9, **SMALL) as stream:
        for picture in pictures(4):
            stream.watch(picture)
        prompt, cells = len(stream._setup.prompt_ids), 2 * 16
        probed = sum(run_over[1:]) - len(run_over[1:]) * len(probe_ids(stream._setup, "Repeat the previous context:"))
    assert run_over[0] == prompt + cells
    assert probed == cells


def test_frames_that_become_larger_make_tokens_leave_by_a_probe_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made, shown = build("qwen2_5_vl"), policies.make("streammem"), []
    select = type(made).select
    monkeypatch.setattr(
        type(made),
        "select",
        lambda self, tokens, budget: shown.append(tokens.columns["template"]) or select(self, tokens, budget),
    )
    with model.stream(memory=360, policy=made, reserve=100, dialogue=0, block=1) as stream:
        for picture in pictures(40):
            room = stream._setup.budget.video(stream._state.memory.state.text) - stream._state.memory.state.video
            if 16 <= room < 32 and not stream._state.pending.starts(stream._setup):
                break
            stream.watch(picture)
        before = len(shown)
        stream.watch(np.repeat(picture, 2, 1))
    assert len(shown) == before + 1
    assert all((column >= 0).all() for column in shown)


def test_a_probe_that_the_reserve_has_no_room_for_is_refused_by_number() -> None:
    model = build("qwen2_5_vl")
    with pytest.raises(
        CapError, match=r"'kvzip' asks the model (\d+) tokens after each block, but reserve=4 is less: .*=\1 or"
    ):
        model.stream(memory=400, policy="kvzip", reserve=4)
