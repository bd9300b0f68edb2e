"""The synthetic world grown: small and large shapes, several at once, many wordings, and more kinds of question.

Everything of `infinipot.embedded.world` stays as it is, so a model that learned here can sit its exams.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from infinipot.embedded.drawing import OUTLINE, coverage
from infinipot.embedded.facts import SIZE
from infinipot.embedded.staging import overlapping
from infinipot.embedded.words import COLOURS, NUMBERS, SHAPES, WORDINGS
from infinipot.embedded.world import Clip, Event

SMALLEST, LARGEST = 5.0, 17.0  # radius of a shape, units
SMALL, LARGE = 8.0, 12.0  # up to and from which radius a shape is called so
MORE_WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": (
        "Tell me the colour of the {shape}.",
        "The {shape}: what colour did it have?",
        "Can you say what color the {shape} had?",
    ),
    "shape": (
        "Something was {colour}. Which shape did it have?",
        "What kind of shape was the {colour} one?",
        "Name the shape that was {colour}.",
    ),
    "where": (
        "Where did you see the {name}?",
        "Which corner of the picture was the {name} in?",
        "Tell me where the {name} was.",
    ),
    "first": (
        "The {one} or the {other}: which of them came first?",
        "What did you see earlier, the {one} or the {other}?",
        "Of the {one} and the {other}, which appeared first?",
    ),
    "count": (
        "How many shapes did you see?",
        "Count the shapes that have appeared.",
        "What is the number of shapes so far?",
    ),
    "when": (
        "Was the {name} in the beginning, the middle or the end?",
        "At what time was the {name} there?",
        "In which part of the video was the {name}?",
    ),
    "now": (
        "Can you see a shape right now?",
        "Is any shape visible at this moment?",
        "Does the last picture show a shape?",
    ),
    "odd": (
        "One was not like the others. Which?",
        "All but one were the same. Which one was different?",
        "Name the odd one out.",
    ),
    "seen": ("Was there a {name}?", "Did you see a {name}?", "Has a {name} appeared?"),
    "showing": ("What do you see now?", "Which shape is there now?", "What is in the picture at the moment?"),
    "last": ("Which shape came last?", "What was the latest shape?", "What appeared last?"),
    "earliest": ("Which shape came first of all?", "What was the very first shape?"),
    "after": ("What came right after the {name}?", "Which shape followed the {name}?"),
    "before": ("What came right before the {name}?", "Which shape was followed by the {name}?"),
    "how many": ("How many {plural} were there?", "How many {plural} did you see?", "Count the {plural}."),
    "size": ("Was the {name} small or large?", "How big was the {name}?"),
    "moved": ("Did the {name} move?", "Was the {name} moving?"),
}
_LISTINGS: dict[str, tuple[str, ...]] = {
    "names": ("List all shapes, colour first.", "What have you seen so far?", "Describe the video."),
    "turned": ("List all shapes, shape first.", "List every shape and then its colour."),
    "corners": ("List all shapes and their corners.", "Which shapes were there, and where?"),
    "thirds": ("List all shapes and their thirds.", "Which shapes were there, and when?"),
    "backwards": ("List all shapes, latest first.", "Tell me what you saw, from the end to the beginning."),
    "numbered": ("Number all shapes.", "Count all shapes one by one, with their names."),
    "counted": ("Count the shapes one by one.", "Count up to the number of shapes."),
    "colours": ("List the colours.", "Which colours did you see, one after the other?"),
    "forms": ("List the shapes without their colours.", "Which forms did you see, one after the other?"),
}
LONGEST_LIST = 8
_CARDINALS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


class GrownClip(Clip):
    """A clip whose shapes are small and large and, if `together`, overlap in time."""

    wordings: ClassVar[Mapping[str, tuple[str, ...]]] = {
        kind: WORDINGS.get(kind, ()) + more for kind, more in MORE_WORDINGS.items()
    }

    def __init__(self, seed: int, *args: Any, together: bool = False, **options: Any) -> None:
        super().__init__(seed, *args, **options)
        rng = np.random.default_rng((seed, 5))
        events = [self._resized(event, rng) for event in self.events]
        if together:
            events = overlapping(events, self.frame_count, self.fps, rng)
        self.events = tuple(events)

    def _resized(self, event: Event, rng: np.random.Generator) -> Event:
        """The event with another size, moved no more than it takes to stay within the frame."""
        radius = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
        low, high = radius + 1, SIZE - radius - 1
        x, y = (float(np.clip(at, low, high)) for at in (event.x, event.y))
        end_x, end_y = (float(np.clip(at, low, high)) for at in event.centre(event.end))
        duration = event.end - event.start
        return replace(event, radius=radius, x=x, y=y, dx=(end_x - x) / duration, dy=(end_y - y) / duration)

    def draw_events(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """The frame at `time`, `[size, size, 3]` uint8, and how much of each pixel each event covers.

        Coverage is `[events, size, size]` float32 of the events that are shown; what a later one hides counts as its.
        """
        image = self._scenery.at(time)
        self._crowd.draw(image, time)
        shown = self.showing(time)
        covered = np.zeros((len(shown), self.size, self.size), np.float32)
        for i, event in enumerate(shown):
            x, y = event.centre(time)
            covered[i] = coverage(event.shape, x, y, event.radius, self.size)
            rim = coverage(event.shape, x, y, event.radius + OUTLINE, self.size)
            covered[:i] *= 1 - rim
            image *= 1 - 0.9 * rim[..., None]
            image += covered[i, ..., None] * (np.array(event.rgb, np.float32) - image)
        tick = round(time * 1000)
        top, left = (tick * 7919 + self.seed) % self.size, (tick * 104_729 + self.seed) % self.size
        image += self._noise[top : top + self.size, left : left + self.size]
        return image.clip(0, 255).astype(np.uint8), covered

    def more_questions(self, at: float, rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
        """Questions that the needle benchmark does not ask: kind, question and answer."""

        def ask(kind: str, answer: str, **words: str) -> tuple[str, str, str]:
            wording = self.wordings[kind]
            return kind, wording[rng.integers(len(wording))].format(**words), answer

        seen = self.seen(at)
        names = Counter(event.name for event in seen)
        there = [event.name for event in self.showing(at)]
        yield ask("showing", ", ".join(there) or "nothing")
        absent = f"{rng.choice(list(COLOURS))} {rng.choice(SHAPES)}"
        yield ask("seen", "yes" if absent in names else "no", name=absent)
        for word, attribute in ((str(rng.choice(SHAPES)), "shape"), (str(rng.choice(list(COLOURS))), "colour")):
            plural = f"{word} shapes" if attribute == "colour" else _plural(word)
            count = sum(getattr(event, attribute) == word for event in seen)
            yield ask("how many", NUMBERS[min(count, len(NUMBERS) - 1)], plural=plural)
        if not seen:
            return
        yield ask("seen", "yes", name=seen[rng.integers(len(seen))].name)
        yield ask("last", seen[-1].name)
        yield ask("earliest", seen[0].name)
        for one, other in pairwise(seen):
            if names[one.name] == 1:
                yield ask("after", other.name, name=one.name)
            if names[other.name] == 1:
                yield ask("before", one.name, name=other.name)
        for event in seen:
            if names[event.name] > 1:
                continue
            if not SMALL < event.radius < LARGE:
                yield ask("size", "small" if event.radius <= SMALL else "large", name=event.name)
            moved = np.hypot(event.dx, event.dy) * (min(event.end, at) - event.start)
            if moved > 12 or event.dx == event.dy == 0:
                yield ask("moved", "yes" if moved else "no", name=event.name)

    def more_listings(self, at: float, rng: np.random.Generator) -> list[tuple[str, str]]:
        """Requests for all events up to `at` in several orders and forms, and their answers."""
        seen = self.seen(at)
        if len(seen) > LONGEST_LIST:
            return []
        answers = {
            "names": [event.name for event in seen],
            "turned": [f"{event.shape} {event.colour}" for event in seen],
            "corners": [f"{event.shape} {event.colour} {event.place or ''}".strip() for event in seen],
            "thirds": [f"{event.name} {event.third(at) or ''}".strip() for event in seen],
            "backwards": [event.name for event in reversed(seen)],
            "numbered": [f"{number} {event.name}" for number, event in zip(_CARDINALS, seen, strict=False)],
            "counted": list(_CARDINALS[: len(seen)]),
            "colours": [event.colour for event in seen],
            "forms": [event.shape for event in seen],
        }
        return [
            (requests[rng.integers(len(requests))], ", ".join(answers[name]) or "none")
            for name, requests in _LISTINGS.items()
        ]


def _plural(shape: str) -> str:
    return f"{shape}es" if shape == "cross" else f"{shape}s"
