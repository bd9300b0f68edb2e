"""A small synthetic world: coloured shapes that come and go before a background, and questions about them.

A case is a number: `Clip(seed, ...)` always shows the same frames and events. Frames are rendered when they
are asked for, so a clip of ten hours needs no more memory than one of a second. Which seeds serve what:

    0 ..      9_999    development: learning curves, choosing settings
    10_000 .. 99_999   held out: reported accuracies and tests
    1_000_000 ..       training

This file knows no model and no tokens.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

from infinipot.embedded.casting import likely, names_of
from infinipot.embedded.drawing import OUTLINE, coverage
from infinipot.embedded.facts import SIZE
from infinipot.embedded.scenery import Crowd, Scenery, scenery
from infinipot.embedded.words import (
    CASTS,
    COLOURS,
    KINDS,
    NAMES,
    NUMBERS,
    PLACES,
    SHAPES,
    THIRDS,
    WORDINGS,
)
from infinipot.video.frame import Frame


@dataclass(frozen=True, slots=True)
class Event:
    """One shape of one colour, visible while `start <= time < end` (seconds).

    `x`, `y` is its centre at `start`, in units, of which a frame has SIZE on each side; `dx`, `dy` its speed in units a
    second; `radius` about half its width; `rgb` its exact tint, near that of `COLOURS`.
    """

    colour: str
    shape: str
    start: float
    end: float
    x: float
    y: float
    dx: float
    dy: float
    radius: float
    rgb: tuple[int, int, int]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    def centre(self, time: float) -> tuple[float, float]:
        """The position at `time`: x, y in units."""
        return self.x + self.dx * (time - self.start), self.y + self.dy * (time - self.start)

    @property
    def place(self) -> str | None:
        """The corner of the frame that it kept to, one of PLACES; None where that is not clear."""
        corners = {(y > SIZE / 2, x > SIZE / 2) for x, y in (self.centre(self.start), self.centre(self.end))}
        near = min(abs(c - SIZE / 2) for at in (self.start, self.end) for c in self.centre(at))
        if len(corners) > 1 or near < 3:
            return None
        low, right = corners.pop()
        return PLACES[2 * low + right]

    def third(self, at: float) -> str | None:
        """In which third of the time from 0 to `at` it was, one of THIRDS; None where that is not clear."""
        if at <= 0:
            return None
        margin = 0.03 * at
        for number, name in enumerate(THIRDS):
            begin, end = number * at / 3, (number + 1) * at / 3
            if self.start >= begin + margin * (number > 0) and min(self.end, at) <= end - margin * (number < 2):
                return name
        return None


@dataclass(frozen=True, slots=True)
class Question:
    """A question with exactly one right answer, among `choices`; a guess is right by `chance`.

    `about` are the events that it names or describes, in its order; none where it asks about the stream as a whole.
    """

    kind: str
    text: str
    answer: str
    choices: tuple[str, ...]
    about: tuple[Event, ...] = ()

    @property
    def event(self) -> float | None:
        """When the earliest event that it is about began, in seconds."""
        return min((event.start for event in self.about), default=None)

    @property
    def chance(self) -> float:
        return 1 / len(self.choices)


class Clip:
    """A stream of the synthetic world, `seconds` long, watched at `fps` frames a second.

    Iterating yields `Frame`s at times 0, 1/fps, 2/fps, ... Events begin and end on frame times, last 4 to 8
    frames (fewer where `events` leaves no room), and never overlap.

    Args:
        seed: the case; see the module's docstring for which seeds serve what.
        seconds: length of the stream.
        fps: frames a second.
        events: how many events; drawn from 0 to 8 (or as many as fit) when left out.
        background: "still", "moving", "cuts" (see `infinipot.embedded.scenery`), or what `footage` made of a video.
        cast: who appears; drawn from what suits `events` when left out.
            "varied": colours and shapes are each dealt from a shuffled deck of six, so among the first six events
            every colour and every shape is unique.
            "regulars": one or two come again and again; a few guests, of other colours and shapes, come once.
            "odd": one comes again and again, another one once.
        crowd: grey shapes that move about all the time and are not asked for; drawn from 0 to 3 when left out.
        size: pixels on each side of a frame; the same seed shows the same events at every size.
    """

    wordings: ClassVar[Mapping[str, tuple[str, ...]]] = WORDINGS

    def __init__(
        self,
        seed: int,
        seconds: float,
        fps: float = 2.0,
        events: int | None = None,
        background: str | Scenery = "still",
        cast: str | None = None,
        crowd: int | None = None,
        size: int = SIZE,
    ) -> None:
        self.seed, self.fps, self.size = seed, fps, size
        self.frame_count = round(seconds * fps)
        rng = np.random.default_rng(seed)
        room = self.frame_count // 5
        if events is None:
            events = int(rng.integers(0, min(8, room) + 1))
        if events > room:
            raise ValueError(
                f"{events} events do not fit {self.frame_count} frames; at most {room} do, or pass seconds="
                f"{events * 5 / fps:g} or more"
            )
        roles = [cast] if cast else [each for each, likely in zip(CASTS, likely(events), strict=True) if likely]
        self.cast = cast or str(rng.choice(roles, p=[p for p in likely(events) if p]))
        names = names_of(rng, self.cast, events)
        self.events: tuple[Event, ...] = tuple(self._schedule(rng, names))
        self._crowd = Crowd(rng, int(rng.integers(0, 4)) if crowd is None else crowd)
        self._scenery = scenery(background, rng, size) if isinstance(background, str) else background
        self._noise = rng.normal(0, rng.uniform(1, 7), (2 * size, 2 * size, 3)).astype(np.float32)

    def __len__(self) -> int:
        """The number of frames."""
        return self.frame_count

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.frame_count):
            time = index / self.fps
            yield Frame(self.draw([time])[0][0], time)

    def visible(self, time: float) -> Event | None:
        """The event that a frame at `time` shows, the earliest where several are."""
        return next(iter(self.showing(time)), None)

    def showing(self, time: float) -> list[Event]:
        """The events that a frame at `time` shows, the earliest first."""
        return [event for event in self.events if event.start <= time < event.end]

    def seen(self, at: float) -> list[Event]:
        """The events that have begun by `at`, oldest first."""
        return [event for event in self.events if event.start <= at]

    def draw(self, times: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Render the frames at `times`.

        Returns:
            images `[n, size, size, 3]` uint8, and the share of each pixel that a shape covers
            `[n, size, size]` float32.
        """
        images = np.empty((len(times), self.size, self.size, 3), np.uint8)
        covered = np.zeros((len(times), self.size, self.size), np.float32)
        for i, time in enumerate(times):
            image = self._scenery.at(time)
            self._crowd.draw(image, time)
            for event in self.showing(time):
                x, y = event.centre(time)
                shape = coverage(event.shape, x, y, event.radius, self.size)
                rim = coverage(event.shape, x, y, event.radius + OUTLINE, self.size)[..., None]
                image *= 1 - 0.9 * rim
                image += shape[..., None] * (np.array(event.rgb, np.float32) - image)
                np.maximum(covered[i], shape, out=covered[i])
            tick = round(time * 1000)
            top, left = (tick * 7919 + self.seed) % self.size, (tick * 104_729 + self.seed) % self.size
            image += self._noise[top : top + self.size, left : left + self.size]
            images[i] = image.clip(0, 255)
        return images, covered

    def questions(self, at: float, rng: np.random.Generator, plain: bool = False) -> list[Question]:
        """One question of every kind that has a single right answer once the frames up to time `at` are seen.

        Args:
            at: time of the last frame seen.
            rng: draws what is asked about, and the wording.
            plain: use the first wording of each kind only.
        """
        drawn: dict[str, list[Question]] = {kind: [] for kind in KINDS}
        for question in self.every_question(at, rng, plain):
            drawn[question.kind].append(question)
        return [of_kind[rng.integers(len(of_kind))] for of_kind in drawn.values() if of_kind]

    def every_question(self, at: float, rng: np.random.Generator, plain: bool = False) -> Iterator[Question]:
        """All questions with a single right answer once the frames up to time `at` are seen, each in one wording."""

        def question(kind: str, answer: str, choices: tuple[str, ...], *about: Event, **words: str) -> Question:
            wording = self.wordings[kind][0 if plain else rng.integers(len(self.wordings[kind]))]
            return Question(kind, wording.format(**words), answer, choices, about)

        seen = self.seen(at)
        names = Counter(event.name for event in seen)
        unique = [event for event in seen if names[event.name] == 1]
        for event in _single(seen, "shape"):
            yield question("colour", event.colour, tuple(COLOURS), event, shape=event.shape)
        for event in _single(seen, "colour"):
            yield question("shape", event.shape, SHAPES, event, colour=event.colour)
        for event in unique:
            if place := event.place:
                yield question("where", place, PLACES, event, name=event.name)
            if third := event.third(at):
                yield question("when", third, THIRDS, event, name=event.name)
        for first, second in combinations(unique, 2):
            one, other = (first, second) if rng.random() < 0.5 else (second, first)
            yield question("first", first.name, (one.name, other.name), one, other, one=one.name, other=other.name)
        yield question("count", NUMBERS[min(len(seen), len(NUMBERS) - 1)], NUMBERS)
        yield question("now", "yes" if self.visible(at) else "no", ("yes", "no"))
        if len(names) == 2 and len(unique) == 1 and len(seen) > 2:
            yield question("odd", unique[0].name, NAMES, unique[0])

    def _schedule(self, rng: np.random.Generator, names: Sequence[tuple[str, str]]) -> Iterator[Event]:
        if not names:
            return
        count = len(names)
        longest = min(8, self.frame_count // count - 1)
        lengths = rng.integers(min(4, longest), longest + 1, count)
        # What is left over goes between the events, at least one empty frame after each; now and then they come
        # in bursts.
        spare = self.frame_count - int(lengths.sum()) - count
        shares = rng.dirichlet(np.full(count + 1, rng.choice([0.3, 1.0])))[:count]
        gaps = np.diff(np.floor(np.cumsum(shares) * (spare + 1)).clip(0, spare), prepend=0).astype(int)
        start = 0
        for length, gap, (colour, shape) in zip(lengths.tolist(), gaps.tolist(), names, strict=True):
            start += gap
            duration = length / self.fps
            radius = rng.uniform(9, 13)
            (x, dx), (y, dy) = (_path(rng, radius, duration) for _ in "xy")
            begin, end = start / self.fps, (start + length) / self.fps
            red, green, blue = (np.array(COLOURS[colour]) + rng.integers(-15, 16, 3)).tolist()
            yield Event(colour, shape, begin, end, x, y, dx, dy, radius, (red, green, blue))
            start += length + 1


def _single(events: Iterable[Event], attribute: str) -> list[Event]:
    """The events that share their `attribute` with no other."""
    events = list(events)
    times = Counter(getattr(event, attribute) for event in events)
    return [event for event in events if times[getattr(event, attribute)] == 1]


def _path(rng: np.random.Generator, radius: float, duration: float) -> tuple[float, float]:
    """The start of a shape along one axis, in units, and its speed, in units a second (0 for two in three)."""
    low, high = radius + 1, SIZE - radius - 1
    start = rng.uniform(low, high)
    goal = rng.uniform(low, high) if rng.random() < 1 / 3 else start
    return start, (goal - start) / duration
