"""How a cap is shared out, to the last slot: arithmetic, without a network."""

from typing import Any

import numpy as np

from infinipot import Model
from infinipot.engine.limits import question_ids
from infinipot.models.chat import ChatFormat
from support.stub import Stub

RESERVE, RESUME = 24, 5
SHARES: dict[str, Any] = {
    "reserve": RESERVE,
    "dialogue": 2 * (RESERVE + RESUME),
    "block": 2,
}  # two turns of the whole reserve
CAPS = (103, 104, 105)


class Pairs(Stub):
    """A whole block may wait, the last patch of it half filled, and every question is as long as any."""

    patch_frames = 2

    def chat(self, system=None):
        return ChatFormat("open", "more", "!", "again", "more")


def unused(cap: int) -> int:
    """Slots that a stream never used, whose turns and waiting frames take all that they may."""
    image = np.zeros((2, 2, 3), np.uint8)
    with Model("pairs", Pairs()).stream(cap, "random", **SHARES) as stream:
        assert len(stream._setup.resume_ids) == RESUME
        longest = RESERVE - len(question_ids(stream._setup, "what?", follows_video=True))
        for number in range(8):
            for frames in (1 + number % 4, 3):  # behind a turn, a block may wait but for one frame
                for _ in range(frames):
                    stream.watch(image)
                stream.ask("what?", max_new_tokens=longest, remember=True)
        assert stream.stats().compressions > 2
        return cap - stream.stats().peak_tokens


def test_a_cap_is_used_to_its_last_slot_and_never_passed() -> None:
    """Where video, turns and the reserve are as large as they may be at once, at one cap of a few in a row."""
    assert min(map(unused, CAPS)) == 0
