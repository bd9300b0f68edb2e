"""One play of frames and questions, for a model of any family."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from infinipot import Stream
from infinipot.model import Model
from support.models import give, given

SHARES = {"reserve": 56, "dialogue": 60}


# A cap that is soon full, and a range of positions that is soon left: a chunk of sound is 50 tokens.
SMALL, RANGE = {"video": 320, "audio": 480}, {"video": 440, "audio": 660}


QUESTIONS = ("What colour was the circle?", "Which shape was red?", "How many shapes have appeared so far?")


PAUSE = 3.0  # seconds between frames: far enough apart for positions to run out where they follow the clock


def small(model: Model) -> dict[str, Any]:
    return {"memory": SMALL[model.adapter.modality], **SHARES}


def moment(model: Model, number: int) -> float:
    """When a frame, or a piece of sound, comes: of sound every fifth one after a pause."""
    return 0.7 * number + number // 5 if model.adapter.modality == "audio" else number * PAUSE


def played(model: Model, stream: Stream, seed: int = 0, frames: int = 46, *, scripted: bool = False) -> Iterator[str]:
    """Watches and asks, and gives each answer as it comes: some are remembered. Scripted ones are always the same."""
    for number, content in enumerate(given(model, frames, seed)):
        give(stream, content, moment(model, number))
        if number % 11 == 6:
            with pytest.MonkeyPatch.context() as patch:
                if scripted:
                    patch.setattr("infinipot.engine.asking.Chooser", Reciter)
                answer = stream.ask(QUESTIONS[number % 3], max_new_tokens=4, remember=number % 2 == 1)
            yield answer


class Reciter:
    """In place of the choice of tokens: always the same ones, whatever the model makes of the question."""

    def __init__(self, *args: object) -> None:
        self._tokens = iter((5, 6, 7, 8))

    def __call__(self, logits: torch.Tensor) -> int:
        return next(self._tokens)
