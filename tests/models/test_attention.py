"""The attention that decoders call: its kernels, and what stands on a process's settings or a device's name."""

import pytest
import torch

from infinipot import Model
from infinipot.memory import LayerShape
from support.memories import held, same
from support.models import build, pictures

QUESTION = "What colour was the circle?"


def logits(model: Model, frames: int = 40) -> torch.Tensor:
    """The last logits of a question behind a video that was compressed, re-based and spoken about."""
    found: list[torch.Tensor] = []
    forward = type(model.adapter).forward
    with pytest.MonkeyPatch.context() as patch, model.stream(memory=260, reserve=56, dialogue=40, block=2) as stream:
        patch.setattr(type(model.adapter), "position_range", 320)
        for number, image in enumerate(pictures(frames)):
            stream.watch(image)
            if number == 9:
                stream.ask(QUESTION, max_new_tokens=2, remember=True)
        patch.setattr(type(model.adapter), "forward", lambda *args: found.append(forward(*args)) or found[-1])
        stream.ask(QUESTION, max_new_tokens=1)
        assert stream.stats().compressions > 2
    return found[-1]


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl"])
def test_kernels_agree_and_each_is_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = build(name)
    config = fused.adapter.language_model.config
    assert config._attn_implementation == "infinipot-sdpa"
    expected = logits(fused)
    config._attn_implementation = "eager"
    plain = Model(name, type(fused.adapter)(fused.adapter.model, fused.adapter.processor))
    assert config._attn_implementation == "infinipot-eager"
    monkeypatch.setattr("infinipot.models.attention.scaled_dot_product_attention", None)  # it must not be called
    torch.testing.assert_close(logits(plain), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_process_may_have_another_default_type(qwen: Model, dtype: torch.dtype) -> None:
    """What is stored, chosen, moved and said does not depend on it."""

    def watched() -> tuple[list[torch.Tensor], str]:
        with qwen.stream(memory=230, reserve=56, dialogue=40, block=2) as stream:
            for number, image in enumerate(pictures(40)):
                stream.watch(image, 3.0 * number)
            stream._state.memory.rebase(target=0, limit=stream._state.memory.cursor.next // 2)
            assert stream.stats().compressions > 2
            assert stream.stats().rebases > 0
            return held(stream), stream.ask(QUESTION, max_new_tokens=4)

    expected, answer = watched()
    torch.set_default_dtype(dtype)
    try:
        parts, said = watched()
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(parts, expected)
    assert said == answer


def test_a_device_has_one_name() -> None:
    """Layers on "cuda" and on "cuda:0" lie in one tensor: here with the only device there is for certain."""
    shapes = [LayerShape(2, 8, torch.device(name), torch.float32) for name in ("cpu", "cpu:0")]
    assert shapes[0] == shapes[1]
