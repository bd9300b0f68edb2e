"""Runs cases: a clip is drawn once, and every memory watches its frames side by side and is asked the same questions.

Streams share nothing but the model, so a memory answers as it does alone, though all run in packed steps. Knows nothing
of files or tables.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from infinipot import CapError, Frame, Model, Policy, PolicyError, SettingError, Stream, Task, policies
from infinipot.embedded.facts import SIZE
from infinipot.embedded.scenery import Footage
from infinipot.embedded.staging import StagedClip, behind
from infinipot.embedded.world import Clip, Question
from infinipot.evaluate.core.machine import resident
from infinipot.evaluate.needle.case import CELLS, Case, Holder, Scene

RESERVE = 64  # tokens for a question and its answer
LONGEST_ANSWER = 8  # tokens
FAILED = "failed: "
EARLIEST = 0.25  # share of the stream ahead of the first question


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """One question, and what a memory made the model answer.

    Attributes:
        kind: of the question.
        at: seconds of video watched when it was asked.
        delay: seconds since what it asks about began; None where it asks about the stream as a whole.
        chance: share of guesses that are right.
        right, given: the right answer, and the model's.
    """

    kind: str
    at: float
    delay: float | None
    chance: float
    right: str
    given: str

    @property
    def correct(self) -> bool:
        return self.given == self.right


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a case: a line of the journal.

    Attributes:
        case: the case.
        answers: in the order asked.
        cap: |M|, tokens; stats: of the stream at the end, see `infinipot.Stats`.
        history: along a scene with samples: seconds of video, tokens held, tokens that a full cache would hold, and
            bytes of process memory, those of the streams beside included.
        error: why the case cannot be run at all; then there is nothing else. One that begins with `FAILED` should
            not have come up, and the case is run again when the run goes on.
        cells: tokens of a temporal patch.
    """

    type: ClassVar[str] = "case"

    case: Case
    answers: tuple[GivenAnswer, ...] = ()
    cap: int = 0
    stats: dict[str, Any] = field(default_factory=dict)
    history: tuple[tuple[float, int, int, int], ...] = ()
    error: str = ""
    cells: int = CELLS

    @classmethod
    def from_fields(cls, case: dict[str, Any], answers: Any, history: Any, **others: Any) -> Self:
        """The outcome whose fields JSON held."""
        replies = tuple(GivenAnswer(**answer) for answer in answers)
        return cls(Case.from_fields(**case), replies, history=tuple(map(tuple, history)), **others)


def run(model: Model, cases: Sequence[Case], footage: Footage | None = None) -> list[Outcome]:
    """Runs cases of one scene side by side.

    Args:
        model: that knows the world.
        footage: the video file of a scene whose background is footage.

    Returns:
        The outcome of each case; of one that the engine refuses, such as for a cap that is too small, the reason.
    """
    scene = cases[0].scene
    clip = make_clip(scene, footage, frame_size(model))
    asked = questions(clip, scene)
    every = max(1, len(clip) // scene.samples) if scene.samples else 0
    with ExitStack() as opened:
        seats = [_Memory(model, case, asked, opened) for case in cases]
        for number, frame in enumerate(clip):
            _finish(model, (begun for seat in seats for begun in seat.begin_watch(frame)))
            for question in asked.get(frame.time, ()):
                begun = (begun for seat in seats for begun in seat.begin_ask(question, frame.time))
                for answering, given in _finish(model, begun):
                    answering.take(question, frame.time, given)
            if every and number % every == every - 1:
                memory = resident()
                for seat in seats:
                    seat.sample(frame.time, memory)
        return [seat.outcome() for seat in seats]


def _finish(model: Model, calls: Iterable[tuple["_Memory", Task[Any]]]) -> Iterable[tuple["_Memory", Any]]:
    """What came of calls on memories, all of them carried on in packed steps; a memory keeps its error to itself."""
    begun = list(calls)
    while waiting := [task for _, task in begun if not task.done]:
        model.step(waiting)
    done = []
    for seat, task in begun:
        try:
            done.append((seat, task.result()))
        except (CapError, PolicyError) as error:
            seat.error = str(error)
        except Exception as error:  # the memories beside it are worth having all the same
            seat.error = f"{FAILED}{type(error).__name__}: {error}"
    return done


class _Memory:
    """One memory in front of the clip; where each question is asked alone, or told in advance, a stream for each.

    Attributes:
        error: why it cannot go on; empty where it can.
    """

    def __init__(self, model: Model, case: Case, asked: Mapping[float, list[Question]], opened: ExitStack) -> None:
        self.error = ""
        self._case, self._cells = case, cells_of(model)
        self._answers: list[GivenAnswer] = []
        self._history: list[tuple[float, int, int, int]] = []
        self._streams: list[tuple[Stream, float, Question | None]] = []  # when each ends, and what it was told
        self._stats: dict[str, Any] = {}
        try:
            for end, told in _ends(case.holder, asked):
                stream = model.stream(**options(model, case.holder, case.scene, told))
                self._streams.append((opened.enter_context(stream), end, told))
        except (CapError, PolicyError, SettingError) as error:
            self.error = str(error)

    def watching(self, time: float) -> list[Stream]:
        """The streams that go on at `time`; one that is asked alone ends with its question."""
        return [] if self.error else [stream for stream, end, _ in self._streams if time <= end]

    def _asked_of(self, question: Question, time: float) -> Stream | None:
        """The stream that a question is asked of."""
        there = (stream for stream, end, told in self._streams if time <= end and told in (None, question))
        return None if self.error else next(there, None)

    def begin_watch(self, frame: Frame) -> Iterator[tuple["_Memory", Task[Any]]]:
        return ((self, stream.begin_watch(frame)) for stream in self.watching(frame.time))

    def begin_ask(self, question: Question, time: float) -> Iterator[tuple["_Memory", Task[Any]]]:
        if stream := self._asked_of(question, time):
            asked: Any = {"max_new_tokens": LONGEST_ANSWER, "remember": self._case.holder.turns == "remembered"}
            yield self, stream.begin_ask(question.text, **asked)

    def take(self, question: Question, time: float, given: str) -> None:
        """Records an answer."""
        delay = None if question.event is None else time - question.event
        self._answers.append(GivenAnswer(question.kind, time, delay, question.chance, question.answer, given))
        if stream := self._asked_of(question, time):
            self._stats = stream.stats().as_dict()

    def sample(self, time: float, memory: int) -> None:
        for stats in (stream.stats() for stream in self.watching(time)):
            self._history.append((time, stats.tokens, stats.full_tokens, memory))

    def outcome(self) -> Outcome:
        if self.error:
            return Outcome(self._case, error=self.error)
        stats, history = self._stats, tuple(self._history)
        return Outcome(self._case, tuple(self._answers), stats["cap"], stats, history, cells=self._cells)


def _ends(holder: Holder, asked: Mapping[float, list[Question]]) -> list[tuple[float, Question | None]]:
    """When each of a memory's streams ends, and which question it is told at its beginning."""
    if holder.turns == "told":
        return [(end, question) for end in sorted(asked) for question in asked[end]]
    ends = sorted(asked) if holder.turns == "alone" else [max(asked)]
    return [(end, None) for end in ends]


def frame_size(model: Model) -> int:
    """Pixels on each side of the frames that the model was trained on: the smallest that its processor leaves alone."""
    return math.isqrt(model.adapter.processor.video_processor.size["shortest_edge"])


def cells_of(model: Model) -> int:
    """Tokens of a temporal patch of such frames."""
    return CELLS * frame_size(model) ** 2 // SIZE**2


def make_clip(scene: Scene, footage: Footage | None = None, size: int = SIZE) -> Clip:
    """The clip of a scene in frames of `size` pixels; on footage each starts at a moment of its own."""
    names = ("seed", "seconds", "fps", "events", "cast", "crowd", "quiet", "light", "staging")
    shown: dict[str, Any] = {name: getattr(scene, name) for name in names}
    return StagedClip(background=behind(scene.seed, scene.kind, footage), size=size, **shown)


def questions(clip: Clip, scene: Scene) -> dict[float, list[Question]]:
    """What is asked, by the time of the frame after which it is. The same for every memory."""
    if scene.quiet:
        return {at: _about_events(clip, at, scene.seed) for at in _after_gaps(clip, scene)}
    rng = np.random.default_rng((scene.seed, 2))
    asked = {}
    for at in moments(clip, scene.moments, rng):
        possible = clip.questions(at, rng, plain=True)
        asked[at] = [possible[rng.integers(len(possible))]] if scene.single else possible
    return asked


def _after_gaps(clip: Clip, scene: Scene) -> list[float]:
    """The last frame of the temporal patch with which each gap ends."""
    whole = len(clip) // 2
    ends = [min(whole, round((scene.seconds + gap) * scene.fps) // 2) for gap in scene.gaps]
    return [(2 * end - 1) / scene.fps for end in ends]


def _about_events(clip: Clip, at: float, seed: int) -> list[Question]:
    """One question of every kind that is about single events and whose answer does not change; always the same ones."""
    possible = clip.questions(at, np.random.default_rng((seed, 2)), plain=True)
    return [question for question in possible if question.about and question.kind != "when"]


def moments(clip: Clip, count: int, rng: np.random.Generator) -> list[float]:
    """Frame times at which to ask: the last one, and before it one in each of equal parts of the last three quarters.

    Each ends a temporal patch. Half of them are drawn from those that show an event, where there are any.
    """
    ends = np.arange(1, len(clip), 2)
    edges = np.linspace(EARLIEST, 1, count) * len(ends)
    chosen = []
    for low, high in pairwise(edges.astype(int)):
        part = (ends[low:high] if high > low else ends[low : low + 1]) / clip.fps
        busy = [time for time in part if clip.visible(time)]
        chosen.append(float(rng.choice(busy if busy and rng.random() < 0.5 else part)))
    return sorted({*chosen, float(ends[-1] / clip.fps)})


def options(model: Model, holder: Holder, scene: Scene, told: Question | None = None) -> dict[str, Any]:
    """The arguments of `Model.stream`: the cap is what prompt, dialogue and reserve take, and |C|, and a block.

    A holder counts in tokens of the embedded model. A model that sees more of them in a frame gets as many times the
    room, so that the share of its full cache is the same.
    """
    chat = model.adapter.chat(None)
    overhead = sum(len(model.adapter.tokenize(text)) for text in (chat.opening, chat.reopening)) + RESERVE
    cells = cells_of(model)
    room = (holder.room if holder.kept else scene.patches * CELLS) * cells // CELLS
    # Whatever rounding does, a compression leaves |C| tokens of the room.
    keep = {"keep": (holder.kept * cells // CELLS + 0.5) / room} if holder.kept else {}
    return {
        "memory": overhead + holder.dialogue + room,
        "policy": _policy(holder.policy, told),
        "fps": scene.fps,
        "block": holder.block,
        "reserve": RESERVE,
        "dialogue": holder.dialogue,
        "positions": _positions(model, holder, scene, overhead),
        "gate": holder.gate,
        **keep,
    }


def _policy(spec: str, told: Question | None) -> str | Policy:
    """A policy, with the question where it is told one.

    Raises:
        PolicyError: it takes none.
    """
    if told is None:
        return spec
    policy = policies.make(spec)
    if not isinstance(policy, policies.KnowsQuestion):
        raise PolicyError(f"{spec} takes no question")
    return replace(policy, question=told.text)


def _positions(model: Model, holder: Holder, scene: Scene, text: int) -> str:
    """How positions advance: a stream that never leaves the trained ones has nothing to re-base, so that its cap need
    not leave room for that."""
    last = text + scene.patches + model.adapter.position_rule().offset(scene.patches, scene.seconds + scene.quiet)
    return "native" if last < model.adapter.position_range else holder.positions
