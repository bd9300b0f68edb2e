"""A small synthetic world: coloured shapes that come and go before a still background.

A case is a number: `Clip(seed, ...)` always shows the same frames and events. Frames are rendered when they
are asked for, so a clip of an hour needs no more memory than one of a second. Which seeds serve what:

    0 ..      9_999    development: learning curves, choosing settings
    10_000 .. 99_999   held out: reported accuracies and tests
    1_000_000 ..       training

This file knows no model and no tokens.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from infinipot.video.frame import Frame

SIZE = 64  # pixels, both sides of a frame
HELD_OUT_SEEDS = range(10_000, 100_000)
FIRST_TRAINING_SEED = 1_000_000

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 45, 45),
    "green": (45, 175, 65),
    "blue": (55, 85, 225),
    "yellow": (235, 210, 50),
    "purple": (165, 60, 200),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "cross", "diamond", "ring")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
KINDS = ("colour", "shape", "first", "count", "now")

# The first wording of a kind is the plain one.
WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": (
        "What colour was the {shape}?",
        "What color was the {shape}?",
        "Which colour was the {shape}?",
    ),
    "shape": ("Which shape was {colour}?", "What shape was {colour}?", "What was the {colour} shape?"),
    "first": ("Which came first, the {one} or the {other}?", "Which was first, the {one} or the {other}?"),
    "count": ("How many shapes have appeared so far?", "How many shapes have there been?"),
    "now": ("Is there a shape now?", "Is a shape there now?"),
}
LIST_COLOUR_FIRST = "List all shapes, colour first."
LIST_SHAPE_FIRST = "List all shapes, shape first."


@dataclass(frozen=True, slots=True)
class Event:
    """One shape of one colour, visible while `start <= time < end` (seconds).

    `x`, `y` is its centre in pixels at `start`; `dx`, `dy` its speed in pixels a second; `radius` about half
    its width; `rgb` its exact tint, near that of `COLOURS`.
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


@dataclass(frozen=True, slots=True)
class Question:
    """A question with exactly one right answer, among `choices`; a guess is right by `chance`."""

    kind: str
    text: str
    answer: str
    choices: tuple[str, ...]

    @property
    def chance(self) -> float:
        return 1 / len(self.choices)


class Clip:
    """A stream of the synthetic world, `seconds` long, watched at `fps` frames a second.

    Iterating yields `Frame`s at times 0, 1/fps, 2/fps, ... Events begin and end on frame times, last 4 to 8
    frames (fewer where `events` leaves no room), and never overlap. Colours and shapes are each dealt from a
    shuffled deck of six, so among the first six events every colour and every shape is unique.

    Args:
        seed: the case; see the module's docstring for which seeds serve what.
        seconds: length of the stream.
        fps: frames a second.
        events: how many events; drawn from 0 to 8 (or as many as fit) when left out.
    """

    def __init__(self, seed: int, seconds: float, fps: float = 2.0, events: int | None = None) -> None:
        self.seed, self.fps = seed, fps
        self.frame_count = round(seconds * fps)
        rng = np.random.default_rng(seed)
        room = self.frame_count // 5
        if events is None:
            events = int(rng.integers(0, min(len(NUMBERS) - 1, room) + 1))
        if events > room:
            raise ValueError(
                f"{events} events do not fit {self.frame_count} frames; at most {room} do, or pass seconds="
                f"{events * 5 / fps:g} or more"
            )
        self._background = _background(rng)
        self._noise = rng.normal(0, rng.uniform(2, 7), (2 * SIZE, 2 * SIZE, 3)).astype(np.float32)
        self._flicker = float(rng.uniform(0, 0.06))
        self.events: tuple[Event, ...] = tuple(self._schedule(rng, events))

    def __len__(self) -> int:
        """The number of frames."""
        return self.frame_count

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.frame_count):
            time = index / self.fps
            yield Frame(self.draw([time])[0][0], time)

    def visible(self, time: float) -> Event | None:
        """The event that a frame at `time` shows."""
        return next((event for event in self.events if event.start <= time < event.end), None)

    def seen(self, at: float) -> list[Event]:
        """The events that have begun by `at`, oldest first."""
        return [event for event in self.events if event.start <= at]

    def draw(self, times: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Render the frames at `times`.

        Returns:
            images `[n, SIZE, SIZE, 3]` uint8, and the share of each pixel that a shape covers
            `[n, SIZE, SIZE]` float32.
        """
        images = np.empty((len(times), SIZE, SIZE, 3), np.uint8)
        covered = np.zeros((len(times), SIZE, SIZE), np.float32)
        for i, time in enumerate(times):
            tick = round(time * 1000)
            top, left = (tick * 7919 + self.seed) % SIZE, (tick * 104_729 + self.seed) % SIZE
            light = 1 + self._flicker * np.sin(0.7 * time)
            image = self._background * np.float32(light)
            if event := self.visible(time):
                covered[i] = _coverage(event, time)
                image += covered[i, ..., None] * (np.array(event.rgb, np.float32) - image)
            image += self._noise[top : top + SIZE, left : left + SIZE]
            images[i] = image.clip(0, 255)
        return images, covered

    def questions(self, at: float, rng: np.random.Generator, plain: bool = False) -> list[Question]:
        """One question of every kind that has a single right answer once the frames up to time `at` are seen.

        Args:
            at: time of the last frame seen.
            rng: draws what is asked about, and the wording.
            plain: use the first wording of each kind only.
        """
        seen = self.seen(at)
        colours, shapes, names = (Counter(getattr(e, key) for e in seen) for key in ("colour", "shape", "name"))
        drawn: list[tuple[str, dict[str, str], str, tuple[str, ...]]] = []
        if by_shape := [event for event in seen if shapes[event.shape] == 1]:
            event = by_shape[rng.integers(len(by_shape))]
            drawn.append(("colour", {"shape": event.shape}, event.colour, tuple(COLOURS)))
        if by_colour := [event for event in seen if colours[event.colour] == 1]:
            event = by_colour[rng.integers(len(by_colour))]
            drawn.append(("shape", {"colour": event.colour}, event.shape, SHAPES))
        if len(pair := [event for event in seen if names[event.name] == 1]) >= 2:
            one, other = (pair[i] for i in rng.choice(len(pair), 2, replace=False))
            first = min(one, other, key=lambda event: event.start).name
            drawn.append(("first", {"one": one.name, "other": other.name}, first, (one.name, other.name)))
        if len(seen) < len(NUMBERS):
            drawn.append(("count", {}, NUMBERS[len(seen)], NUMBERS))
        drawn.append(("now", {}, "yes" if self.visible(at) else "no", ("yes", "no")))
        return [
            Question(
                kind,
                WORDINGS[kind][0 if plain else rng.integers(len(WORDINGS[kind]))].format(**about),
                answer,
                choices,
            )
            for kind, about, answer, choices in drawn
        ]

    def listings(self, at: float) -> list[tuple[str, str]]:
        """Requests for all events up to `at`, and their answers: "red circle, ..." and "circle red, ..."."""
        seen = self.seen(at)
        return [
            (LIST_COLOUR_FIRST, ", ".join(event.name for event in seen) or "none"),
            (LIST_SHAPE_FIRST, ", ".join(f"{event.shape} {event.colour}" for event in seen) or "none"),
        ]

    def _schedule(self, rng: np.random.Generator, count: int) -> Iterator[Event]:
        if not count:
            return
        longest = min(8, self.frame_count // count - 1)
        lengths = rng.integers(min(4, longest), longest + 1, count)
        # what is left over goes between the events, at least one empty frame behind each
        spare = self.frame_count - int(lengths.sum()) - count
        gaps = np.diff(np.sort(rng.integers(0, spare + 1, count)), prepend=0)
        colours, shapes = _deal(rng, list(COLOURS), count), _deal(rng, list(SHAPES), count)
        start = 0
        for length, gap, colour, shape in zip(lengths.tolist(), gaps.tolist(), colours, shapes, strict=True):
            start += gap
            duration = length / self.fps
            radius = rng.uniform(9, 13)
            (x, dx), (y, dy) = (_path(rng, radius, duration) for _ in "xy")
            begin, end = start / self.fps, (start + length) / self.fps
            red, green, blue = (np.array(COLOURS[colour]) + rng.integers(-15, 16, 3)).tolist()
            yield Event(colour, shape, begin, end, x, y, dx, dy, radius, (red, green, blue))
            start += length + 1


def _deal(rng: np.random.Generator, deck: list[str], count: int) -> list[str]:
    """`count` cards from decks shuffled one after the other."""
    return [card for _ in range(-(-count // len(deck))) for card in rng.permutation(deck).tolist()][:count]


def _path(rng: np.random.Generator, radius: float, duration: float) -> tuple[float, float]:
    """Where a shape starts along one axis, in pixels, and its speed, in pixels a second (two in three: 0)."""
    low, high = radius + 1, SIZE - radius - 1
    start = rng.uniform(low, high)
    goal = rng.uniform(low, high) if rng.random() < 1 / 3 else start
    return start, (goal - start) / duration


def _background(rng: np.random.Generator) -> np.ndarray:
    """A dim, greyish, blotchy surface: `[SIZE, SIZE, 3]` float32."""
    base = rng.uniform(40, 110) + rng.uniform(-12, 12, 3)
    surface = np.zeros((SIZE, SIZE), np.float32)
    for cells, strength in ((4, 12), (16, 7), (64, 4)):
        surface += np.kron(rng.normal(0, strength, (cells, cells)), np.ones((SIZE // cells, SIZE // cells)))
    return (base + surface[..., None]).clip(10, 150).astype(np.float32)


_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


def _coverage(event: Event, time: float) -> np.ndarray:
    """How much of each pixel the shape covers at `time`: `[SIZE, SIZE]` float32 in 0..1."""
    elapsed = time - event.start
    x, y = _X - np.float32(event.x + event.dx * elapsed), _Y - np.float32(event.y + event.dy * elapsed)
    ax, ay, r = np.abs(x), np.abs(y), np.float32(event.radius)
    match event.shape:  # signed distance to the outline, in pixels; negative inside
        case "circle":
            distance = np.hypot(x, y) - r
        case "square":
            distance = np.maximum(ax, ay) - 0.88 * r
        case "triangle":
            distance = np.maximum(0.894 * ax - 0.447 * (y + r), y - 0.8 * r)
        case "cross":
            distance = np.minimum(np.maximum(ax - r, ay - 0.3 * r), np.maximum(ay - r, ax - 0.3 * r))
        case "diamond":
            distance = (ax + ay - 1.1 * r) * 0.707
        case "ring":
            distance = np.abs(np.hypot(x, y) - 0.78 * r) - 0.22 * r
        case _:
            raise ValueError(f"no such shape: {event.shape!r}; there are {', '.join(SHAPES)}")
    return (0.5 - distance).clip(0, 1)
