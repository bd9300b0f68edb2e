"""The specification of one stream: the clip, its questions, and the memory that watches. Numbers and names only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from infinipot.embedded.facts import MERGE, PATCH, SIZE, Staging

CELLS = (SIZE // (PATCH * MERGE)) ** 2  # tokens of a temporal patch
GAPS = (0.0, 60.0, 600.0, 3600.0, 14_400.0)  # seconds
Turns = Literal["forgotten", "remembered", "alone", "told"]


@dataclass(frozen=True, slots=True)
class Scene:
    """A clip, and when it is asked about.

    Attributes:
        seed, seconds, fps, events, background, cast, crowd: see `infinipot.embedded.world.Clip`. A background of a
            video file is "footage:" and the digest of the file.
        moments: how many times questions are asked; the last time is the end.
        single: one question at each moment, rather than one of every kind.
        samples: how often the memory held and that of the process are noted along the stream.
        quiet: seconds of stream after the clip in which nothing comes. Such a scene is asked about its events, the
            same questions each time: at once, and after each of `GAPS` that it lasts for.
        light: the brightness of the second half.
        staging: of the events; see `infinipot.embedded.staging`.
    """

    seed: int
    seconds: float
    fps: float
    events: int
    background: str
    cast: str
    crowd: int | None = None
    moments: int = 4
    single: bool = False
    samples: int = 0
    quiet: float = 0.0
    light: float = 1.0
    staging: Staging = "plain"

    @property
    def kind(self) -> str:
        """The kind of background: "still", "moving", "cuts" or "footage"."""
        return self.background.partition(":")[0]

    @property
    def patches(self) -> int:
        """Temporal patches, of two frames."""
        return round((self.seconds + self.quiet) * self.fps) // 2

    @property
    def gaps(self) -> tuple[float, ...]:
        """Seconds after the clip's own at which a quiet stream is asked."""
        return tuple(gap for gap in GAPS if gap <= self.quiet)


@dataclass(frozen=True, slots=True)
class Holder:
    """A memory that watches.

    Attributes:
        policy: its spec.
        kept: |C|, video tokens that a compression leaves; 0 for a memory with room for everything.
        block: temporal patches that go through the model at once.
        slack: tokens that may wait for a compression beside |C| and a block. The cap is what prompt, reserve and
            dialogue take, and these three.
        dialogue: tokens that remembered turns may take.
        positions: see `Model.stream`.
        turns: whether answered questions are "forgotten" or "remembered"; or each asked "alone", of a fresh stream; or
            each of a fresh stream whose policy was "told" it at the beginning.
        gate: see `Model.stream`.
        code: what stands for the code of a policy that another package brings; "" for one of this package. Another code
            makes another memory, so that what a policy answered before it was edited is not taken for its answers now.
    """

    policy: str
    kept: int = 0
    block: int = 8
    slack: int = 0
    dialogue: int = 0
    positions: str = "rebase"
    turns: Turns = "forgotten"
    gate: float | str | None = None
    code: str = ""

    @property
    def room(self) -> int:
        """The most video tokens that are ever held, where `kept` is not 0."""
        return self.kept + self.block * CELLS + self.slack


@dataclass(frozen=True, slots=True)
class Case:
    """One clip watched by one memory. Two cases that are equal give the same answers."""

    scene: Scene
    holder: Holder

    @classmethod
    def from_fields(cls, scene: dict[str, Any], holder: dict[str, Any]) -> Self:
        """The case whose fields JSON held."""
        return cls(Scene(**scene), Holder(**holder))

    def with_code(self, code: Mapping[str, str]) -> Self:
        """The case with the code of its policy, if that is among the policies whose code is given, by spec."""
        of_policy = code.get(self.holder.policy, "")
        return replace(self, holder=replace(self.holder, code=of_policy)) if of_policy else self

    @property
    def work(self) -> float:
        """About how long it takes, in temporal patches watched: an answer takes as long as a few."""
        scene, holder = self.scene, self.holder
        answers = len(scene.gaps) * 4 if scene.quiet else scene.moments * (1 if scene.single else 7)
        streams = {"alone": scene.moments, "told": answers}.get(holder.turns)  # which go on for half of it on average
        repeats = streams / 2 if streams else 1.0
        longer = 1 + scene.patches / 1000 if holder.kept == 0 else 1.0  # attention over all that is held
        return repeats * longer * scene.patches + 3 * answers


def usual_block(kept: int) -> int:
    """Temporal patches that come closest to a quarter of the video's room behind `kept` tokens, 1 to 8."""
    return min(8, max(1, round(kept / 3 / CELLS)))
