"""The hot path on the device "meta", whose tensors have no numbers: whatever looked at one would raise.

So it would wait for a GPU. What waits there and is not run here: the first block of a stream, whose logits are looked
at; the choice of each token of an answer; which captions stay; how far positions are moved back.
"""

import numpy as np
import pytest
import torch

from infinipot import Frame, Model
from infinipot.engine import asking, layout
from perf.shapes import SHAPES


@pytest.fixture(params=["tiny", "tiny-qwen3"])
def nowhere(request: pytest.FixtureRequest, monkeypatch) -> Model:
    """A model without numbers: of Qwen2.5-VL, and of Qwen3-VL with its captions and DeepStack features."""
    model = SHAPES[request.param]("meta", torch.bfloat16)
    adapter = model.adapter
    adapter.shared_rotary = SHAPES[request.param]("cpu", torch.float32).adapter.shared_rotary
    width = adapter._text_config.hidden_size * (3 if adapter.caption_limit else 1)

    def encode(patches):  # transformers' own towers look at the grid on the device
        return torch.empty(sum(patch.tokens for patch in patches), width, device="meta", dtype=torch.bfloat16)

    monkeypatch.setattr(adapter, "encode", encode)
    monkeypatch.setattr(layout, "are_numbers", lambda logits: True)
    monkeypatch.setattr(asking, "_chooser", lambda *given: lambda logits: 7)
    return model


@pytest.mark.parametrize("scratch", [0, 1 << 20])
def test_watching_compressing_and_answering_look_at_no_number(nowhere: Model, scratch: int) -> None:
    side, captions = int(nowhere.adapter.cell_pixels**0.5), bool(nowhere.adapter.caption_limit)
    nowhere.adapter.scratch.limit = scratch
    frames = [Frame(np.zeros((4 * side, 4 * side, 3), np.uint8), second / 2) for second in range(24)]
    policy, cap = ("full", 640) if captions else ("infinipot-v", 288)
    with nowhere.stream(cap, policy, pixels=(16 * side * side,) * 2, block=2, dialogue=0) as stream:
        for frame in frames:
            stream.watch(frame)
        assert captions or stream.stats().compressions
        stream.ask("What happened?", max_new_tokens=3)
        assert stream.stats().patches == 12
