"""Clips of the synthetic world as a benchmark stages them: what its models were not trained on, one thing at a time.

A staging changes when events come, what they look like or how bright it is, and nothing else: the seed still says all.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from infinipot.embedded.facts import Staging
from infinipot.embedded.scenery import Footage
from infinipot.embedded.words import COLOURS, SHAPES
from infinipot.embedded.world import Clip, Event

ALIKE_COLOURS, ALIKE_SHAPES = 2, 3  # of look-alikes: six names, each of which shares colour or shape with three others
FOOTAGE_SECONDS = 600


class StagedClip(Clip):
    """A clip that goes on after its last event, grows dark, or whose events overlap or look alike.

    Args:
        seed, seconds, fps, events, background, cast, crowd, size: see `Clip`.
        quiet: seconds after the clip's own in which nothing comes any more.
        light: the brightness of the frames' second half; 1 leaves them as they are.
        staging: "overlapping" moves events to times of their own, so that several may be there at once; of
            "lookalikes" each has one of two colours and one of three shapes.
    """

    def __init__(
        self,
        seed: int,
        seconds: float,
        *args: Any,
        quiet: float = 0.0,
        light: float = 1.0,
        staging: Staging = "plain",
        **options: Any,
    ) -> None:
        super().__init__(seed, seconds, *args, **options)
        rng = np.random.default_rng((seed, 7))
        if staging == "overlapping":
            self.events = tuple(overlapping(self.events, self.frame_count, self.fps, rng))
        elif staging == "lookalikes":
            self.events = tuple(_alike(self.events, rng))
        self.frame_count += round(quiet * self.fps)
        self.light = light
        self.dusk = self.frame_count // 2 / self.fps if light != 1 else np.inf

    def draw(self, times: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        images, covered = super().draw(times)
        for image, time in zip(images, times, strict=True):
            if time >= self.dusk:
                image[:] = image * self.light
        return images, covered


def overlapping(events: Sequence[Event], frames: int, fps: float, rng: np.random.Generator) -> list[Event]:
    """The events at other times, which may overlap; each begins in a temporal patch of its own, and lasts 4 to 12
    frames."""
    patches = frames // 2
    if len(events) < 2 or patches < len(events):
        return list(events)
    starts = np.sort(rng.choice(patches, len(events), replace=False)) * 2 + rng.integers(0, 2, len(events))
    moved = []
    for start, event in zip(starts.tolist(), events, strict=True):
        length = min(int(rng.integers(4, 13)), frames - start)
        duration, before = length / fps, event.end - event.start
        pace = before / duration
        begin, end = start / fps, (start + length) / fps
        moved.append(replace(event, start=begin, end=end, dx=event.dx * pace, dy=event.dy * pace))
    return moved


def _alike(events: Sequence[Event], rng: np.random.Generator) -> list[Event]:
    """The events with colours and shapes dealt from so few that most are like another one in one of the two."""
    colours, shapes = rng.permutation(list(COLOURS))[:ALIKE_COLOURS], rng.permutation(SHAPES)[:ALIKE_SHAPES]
    names = [(str(colour), str(shape)) for colour in colours for shape in shapes]
    rounds = -(-len(events) // len(names))
    order = [int(number) for _ in range(rounds) for number in rng.permutation(len(names))]
    return [_dressed(event, names[number], rng) for event, number in zip(events, order, strict=False)]


def _dressed(event: Event, name: tuple[str, str], rng: np.random.Generator) -> Event:
    colour, shape = name
    red, green, blue = (np.array(COLOURS[colour]) + rng.integers(-15, 16, 3)).tolist()
    return replace(event, colour=colour, shape=shape, rgb=(red, green, blue))


def behind(seed: int, kind: str, footage: Footage | None) -> Any:
    """The background of a clip: its kind, or the footage from a moment of the clip's own."""
    if kind != "footage":
        return kind
    if footage is None:
        raise ValueError("a scene on footage needs the footage")
    return footage.beginning_at(np.random.default_rng((seed, 3)).uniform(0, FOOTAGE_SECONDS))
