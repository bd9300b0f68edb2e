"""Runs cases: a clip is drawn once, and every memory watches its frames side by side and is asked the same questions.

Streams share nothing but the model, so a memory answers as it does alone, though all run in packed steps. Knows nothing
of files or tables.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from infinipot import CapError, Model, PolicyError, Stream
from infinipot.bench.case import CELLS, Case, Holder, Scene
from infinipot.bench.clips import StagedClip, behind
from infinipot.bench.machine import resident
from infinipot.embedded.facts import SIZE
from infinipot.embedded.scenery import Footage
from infinipot.embedded.world import Clip, Question
from infinipot.engine.task import Task

RESERVE = 64  # tokens for a question and its answer
LONGEST_ANSWER = 8  # tokens
FAILED = "failed: "
EARLIEST = 0.25  # share of the stream ahead of the first question


@dataclass(frozen=True, slots=True)
class Answer:
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
class Record:
    """What a case came to.

    Attributes:
        case: the case.
        answers: in the order asked.
        cap: |M|, tokens; stats: of the stream at the end, see `infinipot.Stats`.
        cells: tokens of a temporal patch.
        history: along a scene with samples: seconds of video, tokens held, tokens that a full cache would hold, and
            bytes of process memory, those of the streams beside included.
        error: why the case cannot be run at all; then there is nothing else. One that begins with `FAILED` should
            not have come up, and the case is run again when the run goes on.
    """

    case: Case
    answers: tuple[Answer, ...] = ()
    cap: int = 0
    stats: dict[str, Any] = field(default_factory=dict)
    history: tuple[tuple[float, int, int, int], ...] = ()
    error: str = ""
    cells: int = CELLS

    def as_dict(self) -> dict[str, Any]:
        """For JSON; answers and history as lists, in the order of their attributes."""
        answers = [[getattr(answer, name) for name in Answer.__slots__] for answer in self.answers]
        return asdict(self) | {"answers": answers}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Record":
        """The record of which this is the `as_dict`."""
        return cls(
            Case.from_dict(given["case"]),
            tuple(Answer(*answer) for answer in given["answers"]),
            given["cap"],
            given["stats"],
            tuple(tuple(sample) for sample in given["history"]),
            given["error"],
            given.get("cells", CELLS),
        )


def run(model: Model, cases: Sequence[Case], footage: Footage | None = None) -> list[Record]:
    """Runs cases of one scene side by side.

    Args:
        model: that knows the world.
        footage: the video file of a scene whose background is footage.

    Returns:
        A record of each case; of one that the engine refuses, such as for a cap that is too small, the reason.
    """
    scene = cases[0].scene
    clip = make_clip(scene, footage, frame_size(model))
    asked = questions(clip, scene)
    with ExitStack() as opened:
        seats = [_Seat(model, case.holder, scene, sorted(asked), opened) for case in cases]
        every = max(1, len(clip) // scene.samples) if scene.samples else 0
        for number, frame in enumerate(clip):
            _together(model, seats, _Seat.begin_watch, frame)
            for question in asked.get(frame.time, ()):
                _together(model, seats, _Seat.begin_ask, question, frame.time)
            if every and number % every == every - 1:
                memory = resident()
                for seat in seats:
                    seat.sample(frame.time, memory)
        return [seat.record(case) for seat, case in zip(seats, cases, strict=True)]


def _together(model: Model, seats: Sequence["_Seat"], begin: Callable[..., list[Task[Any]]], *given: Any) -> None:
    """Has all memories do the same, in packed steps."""
    tasks = [task for seat in seats for task in begin(seat, *given)]
    while waiting := [task for task in tasks if not task.done]:
        model.step(waiting)
    for seat in seats:
        seat.end()


def frame_size(model: Model) -> int:
    """Pixels on each side of the frames that the model was trained on: the smallest that its processor leaves alone."""
    return math.isqrt(model.adapter.processor.video_processor.size["shortest_edge"])


def cells_of(model: Model) -> int:
    """Tokens of a temporal patch of such frames."""
    return CELLS * frame_size(model) ** 2 // SIZE**2


def make_clip(scene: Scene, footage: Footage | None = None, size: int = SIZE) -> Clip:
    """The clip of a scene in frames of `size` pixels; on footage each starts at a moment of its own."""
    return StagedClip(
        scene.seed,
        scene.seconds,
        scene.fps,
        scene.events,
        behind(scene.seed, scene.kind, footage),
        scene.cast,
        scene.crowd,
        size,
        quiet=scene.quiet,
        light=scene.light,
        staging=scene.staging,
    )


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


def options(model: Model, holder: Holder, scene: Scene) -> dict[str, Any]:
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
        "policy": holder.policy,
        "fps": scene.fps,
        "block": holder.block,
        "reserve": RESERVE,
        "dialogue": holder.dialogue,
        "positions": _positions(model, holder, scene, overhead),
        "gate": holder.gate,
        **keep,
    }


def _positions(model: Model, holder: Holder, scene: Scene, text: int) -> str:
    """How positions advance: a stream that never leaves the trained ones has nothing to re-base, so that its cap need
    not leave room for that."""
    last = text + scene.patches + model.adapter.position_rule().offset(scene.patches, scene.seconds + scene.quiet)
    return "native" if last < model.adapter.position_range else holder.positions


class _Seat:
    """One memory in front of the clip; where each question is asked alone, a stream for each."""

    def __init__(self, model: Model, holder: Holder, scene: Scene, due: list[float], opened: ExitStack) -> None:
        self._remember = holder.turns == "remembered"
        self._cells = cells_of(model)
        self._answers: list[Answer] = []
        self._history: list[tuple[float, int, int, int]] = []
        self._error = ""
        self._begun: list[tuple[Task[Any], tuple[Stream, Question, float] | None]] = []
        self._ends = due if holder.turns == "alone" else due[-1:]
        self._streams: list[Stream] = []
        try:
            for _ in self._ends:
                self._streams.append(opened.enter_context(model.stream(**options(model, holder, scene))))
        except (CapError, PolicyError) as error:
            self._error = str(error)
        self._stats: dict[str, Any] = {}

    def _watching(self, time: float) -> Iterator[Stream]:
        """The streams that go on at `time`; one that is asked alone ends with its question."""
        if not self._error:
            yield from (stream for stream, end in zip(self._streams, self._ends, strict=True) if time <= end)

    def begin_watch(self, frame: Any) -> list[Task[Any]]:
        """What takes a frame in, for `end` to look at when it is done."""
        self._begun = [(stream.begin_watch(frame), None) for stream in self._watching(frame.time)]
        return [task for task, _ in self._begun]

    def begin_ask(self, question: Question, time: float) -> list[Task[Any]]:
        """What asks a question, for `end` to look at when it is done."""
        asked: Any = {"max_new_tokens": LONGEST_ANSWER, "remember": self._remember}
        streams = list(self._watching(time))[:1]
        self._begun = [(stream.begin_ask(question.text, **asked), (stream, question, time)) for stream in streams]
        return [task for task, _ in self._begun]

    def end(self) -> None:
        """Takes down what came of what was begun."""
        for task, asked in self._begun:
            try:
                given = task.result()
            except (CapError, PolicyError) as error:
                self._error = str(error)
            except Exception as error:  # the memories beside it are worth having all the same
                self._error = f"{FAILED}{type(error).__name__}: {error}"
            else:
                if asked:
                    self._note(*asked, given)
        self._begun = []

    def _note(self, stream: Stream, question: Question, time: float, given: str) -> None:
        delay = None if question.event is None else time - question.event
        self._answers.append(Answer(question.kind, time, delay, question.chance, question.answer, given))
        self._stats = stream.stats().as_dict()

    def sample(self, time: float, memory: int) -> None:
        for stream in self._watching(time):
            stats = stream.stats()
            self._history.append((time, stats.tokens, stats.full_tokens, memory))

    def record(self, case: Case) -> Record:
        if self._error:
            return Record(case, error=self._error)
        history = tuple(self._history)
        return Record(case, tuple(self._answers), self._stats["cap"], self._stats, history, cells=self._cells)
