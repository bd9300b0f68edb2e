"""Half precision through all that is beside watching: a gate, what waits, a second look, evidence, packed answers."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch

from infinipot import Frame, Model
from infinipot.embedded.world import Clip
from infinipot.engine import runner
from support.models import build, logits, pictures

SMALL: dict[str, Any] = {"memory": 480, "reserve": 120, "dialogue": 70, "block": 4, "gate": "otsu", "look_again": 2}
QUESTION = "What colour was the circle?"


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float16], ids=str)
def half(request: pytest.FixtureRequest) -> Model:
    adapter = build("qwen2_5_vl").adapter
    return Model("", type(adapter)(adapter.model.to(request.param), adapter.processor))


@pytest.fixture
def _default_of_a_load_beside() -> Iterator[None]:
    """What torch's default is while another thread loads a model in half precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(before)


def test_what_a_question_runs_over_once_is_as_good_again(half: Model) -> None:
    with half.stream(**SMALL) as stream:
        for image in pictures(45):
            stream.watch(image)
        assert stream.stats().compressions
        with stream.fork() as fork:
            expected = logits(half, fork)
        stream.ask("Which shape was red?", max_new_tokens=2)
        assert stream._state.prefilled
        torch.testing.assert_close(logits(half, stream), expected, atol=3e-2, rtol=3e-2)


def test_packed_answers_look_again_and_have_evidence_as_alone(half: Model) -> None:
    how: dict[str, Any] = {"max_new_tokens": 4, "look_again": 2, "evidence": True}
    with ExitStack() as opened:
        streams = [opened.enter_context(half.stream(**SMALL)) for _ in range(2)]
        for number, image in enumerate(pictures(45)):
            runner.finish(*(stream.begin_watch(Frame(image, number / 2)) for stream in streams))
        with streams[0].fork() as fork:
            alone = fork.ask(QUESTION, **how).evidence
        asked = [stream.begin_ask(QUESTION, **how) for stream in streams]
        runner.finish(*asked)
        for task in asked:
            evidence = task.result().evidence
            assert evidence[0].time == alone[0].time
            assert evidence[0].weight == pytest.approx(alone[0].weight, rel=0.1)
            assert all(span.cells.sum() == pytest.approx(1, abs=1e-3) for span in evidence)


@pytest.mark.usefixtures("_default_of_a_load_beside")
def test_evidence_is_float32_whatever_is_the_default(qwen: Model) -> None:
    with qwen.stream(memory=480) as stream:
        for frame in Clip(10_001, 20, 2.0, 2):
            stream.watch(frame)
        assert stream.ask(QUESTION, max_new_tokens=2, evidence=True).evidence


@pytest.mark.parametrize("policy", ["snapkv", "streammem", "kvzip", "expected-attention"])
def test_attention_of_keys_whose_products_float16_does_not_hold_is_observed_as_it_is_computed(policy: str) -> None:
    """Some checkpoints add much to each key and query: the kernel scales them ahead of the product."""
    adapter = build("qwen2_5_vl").adapter
    network = adapter.model.to(torch.float16)
    with torch.no_grad():
        for layer in adapter.language_model.layers:
            for added in (layer.self_attn.q_proj.bias, layer.self_attn.k_proj.bias):
                added.copy_(added + torch.linspace(-150, 150, len(added)))
    with Model("", type(adapter)(network, adapter.processor)).stream(300, policy, block=2) as stream:
        for image in pictures(44):
            stream.watch(image)
        assert stream.stats().compressions
        (group,) = stream._state.memory.groups
        keys = group.keys[:, : stream.stats().tokens].float()
        assert keys.square().sum(-1).max() > torch.finfo(torch.float16).max
        for name in stream.policy.attention:
            assert group.columns[name][:, : stream.stats().tokens].isfinite().all()
