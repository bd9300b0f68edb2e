"""A camera on the synthetic world, whose truth is known. Drawn here: it cannot hang."""

import threading
import time
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from infinipot.camera.address import demo_settings
from infinipot.camera.health import Clock
from infinipot.camera.process import Over, Shot
from infinipot.embedded.facts import BACKGROUNDS, HELD_OUT_SEEDS, SIZE
from infinipot.embedded.world import Clip, Question
from infinipot.errors import VideoError

_DEFAULTS: dict[str, Any] = {
    "seed": HELD_OUT_SEEDS.start,
    "minutes": 5.0,
    "events": 6,
    "speed": 1.0,
    "fps": 2.0,
    "size": SIZE,
    "cast": "",
}


@dataclass(frozen=True, slots=True)
class World:
    """A clip of the synthetic world as a camera sees it. When it is over, its background goes on without shapes.

    Attributes:
        clip: what is seen.
        speed: how many of its seconds pass in one second. Above 1 that is a maximum: the world waits for those who
            watch it.
    """

    clip: Clip
    speed: float

    @property
    def waits(self) -> bool:
        """Whether the next picture comes once the last one was taken, however long that takes."""
        return self.speed > 1

    @classmethod
    def of(cls, location: str) -> "World":
        """Returns the world of an address such as `demo://still?seed=10001&minutes=5&events=6&speed=60`.

        Raises:
            VideoError: there is no such background or setting, or so many events do not fit.
        """
        background, settings = demo_settings(location, _DEFAULTS)
        if background not in BACKGROUNDS:
            raise VideoError(f"{location}: no demo camera shows {background!r}; there are {', '.join(BACKGROUNDS)}")
        if not (0 < settings["minutes"] < 1e4 and 0 < settings["speed"] <= 1e4 and 0 < settings["fps"] <= 60):
            raise VideoError(f"{location}: minutes, speed and fps must be above 0")
        if not (settings["seed"] >= 0 and 16 <= settings["size"] <= 2048 and settings["events"] >= 0):
            raise VideoError(f"{location}: seed and events must be at least 0, and size from 16 to 2048")
        try:
            clip = Clip(
                settings["seed"],
                60 * settings["minutes"],
                settings["fps"],
                settings["events"],
                background,
                settings["cast"] or None,
                size=settings["size"],
            )
        except (ValueError, IndexError) as error:
            raise VideoError(f"{location}: {error}") from None
        return cls(clip, settings["speed"])

    def questions(self, at: float) -> list[Question]:
        """A question of every kind that has one right answer at a time, which it holds."""
        last = self._last(at)
        return self.clip.questions(last, np.random.default_rng([self.clip.seed, int(last)]), plain=True)

    def answer(self, question: str, at: float) -> str | None:
        """The right answer to a question at a time, or None where the world does not know it."""
        text = question.strip().casefold()
        for wording, order in product(range(3), (0.0, 0.9)):
            for known in self.clip.every_question(self._last(at), _Fixed(wording, order)):  # type: ignore[arg-type]
                if known.text.casefold() == text:
                    return known.answer
        return None

    def _last(self, at: float) -> float:
        """When the picture came that is on show at a time."""
        return int(at * self.clip.fps + 1e-6) / self.clip.fps


class _Fixed(NamedTuple):
    """Stands in for a random generator: always makes the same draw."""

    wording: int
    order: float

    def integers(self, many: int) -> int:
        return min(self.wording, many - 1)

    def random(self) -> float:
        return self.order


class DemoSource:
    """The pictures of a world, each when it is due, as `DecoderProcess` gives a camera's.

    Args:
        world: what is seen.
        clock: the camera's. It is held back where drawing takes too long, so that pictures never lag behind it.
    """

    opened = True

    def __init__(self, world: World, clock: Clock) -> None:
        self._world, self._clock = world, clock
        self._stopped = threading.Event()
        self._index = int(clock.now() * world.clip.fps)

    def next(self) -> Shot:
        """Waits for the next picture; raises `Over` when it is stopped."""
        clip, clock = self._world.clip, self._clock
        at = self._index / clip.fps
        if self._world.waits:
            clock.limit = at
        due = clock.begun + at / clock.speed
        if self._stopped.wait(max(0.0, due - time.monotonic())):
            raise Over
        self._index += 1
        image, _ = clip.draw([at])
        if self._world.waits and (late := time.monotonic() - due) > 0:
            clock.hold(late)
        return Shot(clock.begun + at / clock.speed, image[0])

    def use_fps(self, fps: float | None) -> None:
        """Nothing to do: its rate is the world's."""

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._stopped.set()
