"""The statistics of a stream."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Stats:
    """The state of a stream, and what it cost so far.

    Attributes:
        modality: what the stream is of, "video" or "audio".
        frames: frames watched, or pieces of sound heard, and patches: temporal patches of them that the model was run
            over; those that wait for their block are not among them.
        gated_tokens: tokens of those, and of patches that wait for their block, that a gate did not let through.
        time: of the newest frame, or the end of the newest piece of sound, in seconds.
        tokens: tokens held per layer and KV head now: text_tokens (prompt and dialogue) and video_tokens, or sound's.
        asked_tokens: tokens that the newest question was asked on: those held then, and those of frames that waited for
            their block, which a question sees too; 0 before the first question.
        turns: dialogue turns remembered.
        cap: tokens that may ever be held, and peak_tokens: the most that ever were, questions and answers included.
        full_tokens: tokens that a cache without eviction would hold now: those that the model was given.
        bytes: promised when the stream opened: the memory, all layers and scratch included, and pictures
            that a gate and second looks keep.
        compressions, rebases: how often tokens were evicted, and positions moved back into the trained range.
        seconds: wall-clock time by phase: vision (or hearing), prefill, compress, look_again (second looks:
            see `Stream.ask`), answer. On a GPU, work is queued: a
            phase may pay for the one before it.
    """

    modality: str
    frames: int
    patches: int
    gated_tokens: int
    time: float
    tokens: int
    text_tokens: int
    video_tokens: int
    asked_tokens: int
    turns: int
    cap: int
    peak_tokens: int
    full_tokens: int
    bytes: int
    compressions: int
    rebases: int
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return asdict(self)


@dataclass(slots=True)
class Stopwatch:
    """Seconds by phase."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("vision", "prefill", "compress", "look_again", "answer"), 0.0)
    )

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the time that passes inside on a phase, also where it ends in an error."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Counts time that was spent on a phase."""
        self.seconds[name] += seconds
