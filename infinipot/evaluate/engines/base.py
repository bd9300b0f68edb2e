"""How a run asks, what comes of it, and who does the watching. Imports no tensor library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import infinipot
from infinipot.config import POLICY, LoadConfig, StreamConfig
from infinipot.evaluate.core.plugins import code_of_policy
from infinipot.evaluate.records import FrameSampling, Item, Problem
from infinipot.versions import OF_EVAL, digest_of_code, versions

if TYPE_CHECKING:
    from infinipot import Model, Stream
    from infinipot.policies import Policy


STREAM_SETTINGS = ("memory", "keep", "block", "reserve", "positions", "gate", "look_again")
"""The settings of a stream that a run may choose. No turn is remembered, so nothing is set aside for dialogue."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How questions are asked: all that an answer depends on, beside the model and the question.

    Attributes:
        benchmark, protocol: by name.
        sampling: which frames are watched, and how large.
        policy: what stays when the memory is full.
        config: the settings of each stream, of which those in `STREAM_SETTINGS` count. Each question looks once more at
            all the frames of `look_again`.
    """

    benchmark: str
    protocol: str
    sampling: FrameSampling
    policy: str = POLICY
    config: StreamConfig = field(default_factory=StreamConfig)

    def stream(self, model: Model) -> Stream:
        """Opens a stream; raises what `Model.stream` does."""
        return model.stream(policy=self.policy, **self._chosen(), dialogue=0, pixels=self.sampling.pixels)

    def header(self) -> dict[str, Any]:
        """What a run's header says of it, as JSON: the settings of streams stand beside the others."""
        others = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "config"}
        return {**others, "sampling": asdict(self.sampling), **self._chosen()}

    def _chosen(self) -> dict[str, Any]:
        return {name: getattr(self.config, name) for name in STREAM_SETTINGS}


@dataclass(frozen=True, slots=True)
class EvalAnswer:
    """The answer to one question of a benchmark, and what it took.

    Attributes:
        item, question: ids of the video and of the question.
        prompt, text: the whole text of the user's turn, and the model's.
        seen_until: time of the last frame that was watched when it was asked, in seconds.
        frames, patches: how many were watched until then; patches are the temporal ones that the model reads.
        tokens, full_tokens: what the memory held when it was asked, per layer and KV head, and what a cache that never
            evicts would have held; both count frames that waited for their block.
        seconds: wall-clock time of the answer.
    """

    item: str
    question: str
    prompt: str
    text: str
    seen_until: float
    frames: int
    patches: int
    tokens: int
    full_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WatchTime:
    """The time and memory of watching a video: a line of a run's file of times.

    Attributes:
        device: on which it was done.
        item: the video's id.
        seconds: wall-clock time by phase.
        peak_bytes: the most memory that was allocated on the device; on a CPU, that the process ever had resident.
        incomplete: whether the video is cut short or damaged.
        beside: how many other runs watched side by side with it; seconds and peak are then those of all together.
    """

    type: ClassVar[str] = "watched"

    device: str
    item: str
    seconds: dict[str, float]
    peak_bytes: int
    incomplete: bool = False
    beside: int = 0


Event = EvalAnswer | Problem | WatchTime
"""What comes of a video: an answer, questions that could not be asked, and what watching took once it is over."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which model answers, and with what memory: the part of a run's header that only a loaded model knows.

    Attributes:
        settings: what answers depend on, as JSON.
        device: what it computes on, in words.
    """

    settings: dict[str, Any]
    device: str


def origin_settings(loading: LoadConfig, setup: RunConfig) -> dict[str, Any]:
    """The part of `Engine.origin` that is known before the model is loaded."""
    known = {"model": loading.name, **policy_settings(infinipot.policies.make(setup.policy))}
    return known if loading.dtype == "auto" else {**known, "dtype": loading.dtype}


def policy_settings(policy: Policy) -> dict[str, Any]:
    """The part of `Engine.origin` that describes the policy, with a digest of its code if another package brings it."""
    settings = {"policy": policy.spec, "policy_options": asdict(policy)}
    code = code_of_policy(policy)
    return {**settings, "policy_code": code} if code else settings


def made_by() -> dict[str, str]:
    """What else answers depend on: the versions, and what stands for the code, which a checkout may change between
    two of them."""
    return versions() | {"code": digest_of_code(*OF_EVAL)}


class Engine(ABC):
    """Watches videos and asks about them, in this process or in workers."""

    @abstractmethod
    def origin(self) -> Provenance:
        """Which model answers, with what memory. Its settings are the same on whatever device the engine computes."""

    @abstractmethod
    def run(self, items: Sequence[Item]) -> Iterator[Event]:
        """Yields what comes of the videos as it comes, each with those of its questions that are to be asked.

        A video is over when `WatchTime` or its last `Problem` came.
        """

    def run_with(self, others: Sequence[Engine], items: Sequence[Sequence[Item]]) -> Iterator[tuple[int, Event]]:
        """Yields what `run` does of this engine and of others, each with the number of its engine, from 0.

        Args:
            others: engines that are asked about the same benchmark, of the same frames.
            items: for each engine its videos.
        """
        for number, (engine, its) in enumerate(zip((self, *others), items, strict=True)):
            for event in engine.run(its):
                yield number, event

    def report(self) -> str | None:
        """The cost of spreading the work, in a line, once the run is over; None if nothing was spread."""
        return None

    def close(self) -> None:  # noqa: B027
        """Releases all that it holds, except a model that it was given."""
