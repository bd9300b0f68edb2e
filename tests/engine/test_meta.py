"""The hot path on the device "meta", whose tensors have no numbers: whatever looked at one would raise.

So it would wait for a GPU. What waits there and is put in here: the first block of a stream, whose logits are looked
at; the choice of each token of an answer; and, with captions, how many cells of which patches a policy wants, and how
many positions all rows can give.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infinipot import Frame, Model
from infinipot.engine import asking, layout
from infinipot.memory import eviction, rebase
from perf.shapes import SHAPES
from support.waiting import NoWaiting


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
    with nowhere.stream(cap, policy, pixels=(16 * side * side,) * 2, block=2, dialogue=0) as stream, NoWaiting():
        for frame in frames:
            stream.watch(frame)
        assert captions or stream.stats().compressions
        stream.ask("What happened?", max_new_tokens=3)
        assert stream.stats().patches == 12


def test_rebasing_looks_at_no_number(nowhere: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressions and re-basings of a stream that pauses; with captions all but the two looks that are known."""
    captions, looks = bool(nowhere.adapter.caption_limit), {"votes": 0, "room": 0}
    admitted, allowed = eviction._admitted, list[int]()

    def admitting(*given: Any) -> list[int]:
        allowed[:] = admitted(*given)
        return allowed

    def votes(numbers: list[Tensor], chosen: object, patches: int, tp_group: object) -> tuple[Tensor, Tensor]:
        looks["votes"] += 1
        rows, cells = sum(map(len, numbers)), numbers[0].shape[1] // patches
        wanted = torch.ones(patches, dtype=torch.int64)
        if looks["votes"] % 2 == 0:  # what the second choice, among the patches admitted, is of
            wanted = torch.zeros_like(wanted).index_fill(0, torch.tensor(allowed), 1)
        return wanted, torch.full((rows, patches), cells)

    def room(*given: object) -> tuple[int, int]:
        looks["room"] += 1
        return 300, 0

    if captions:
        monkeypatch.setattr(eviction, "_votes", votes)
        monkeypatch.setattr(eviction, "_admitted", admitting)
        monkeypatch.setattr(rebase, "least_room", room)
    memory, positions, frames = (640, 900, 110) if captions else (288, 388, 116)
    monkeypatch.setattr(type(nowhere.adapter), "position_range", positions)
    side = int(nowhere.adapter.cell_pixels**0.5)
    picture = np.zeros((4 * side, 4 * side, 3), np.uint8)
    with nowhere.stream(memory, pixels=(16 * side * side,) * 2, block=2, dialogue=0) as stream, NoWaiting():
        for number in range(frames):
            stream.watch(Frame(picture, 20.0 * number))
        stats = stream.stats()
        assert stats.compressions
        assert stats.rebases
        assert (looks["votes"], looks["room"]) == ((2 * stats.compressions, stats.rebases) if captions else (0, 0))
