"""What questions wait for in the server's worker, in seconds of its own thread: whatever else the machine does.

    python perf/serve_steps.py [--streams 32] [--fps 2] [--askers 8] [--seconds 60]

The load of `serve_load.py` without its network: so many streams whose memories are full are given frames at their times
and asked, each asker a second or so behind its last answer. Time is what the worker's turns take of the CPU; where it
has nothing to do, time goes on to the next frame or question. So this is what the worker would give with a core of its
own. Prints the time from a question to the first of its answer, beside that of one stream alone, what frames wait, and
what share of its time the worker is busy.
"""

import argparse
import heapq
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import count

import infinipot
from infinipot.embedded.world import Clip
from infinipot.serve.lane import AskJob, FrameJob, Lane
from infinipot.serve.metrics import Metrics
from infinipot.serve.worker import Worker
from infinipot.video import Frame

MEMORY, FILL, STEP_TOKENS, PAUSE = 512, 80, 2048, 1.0
QUESTIONS = ("What colour was the circle?", "How many shapes have appeared so far?", "Which shape was red?")


class Replay:
    """A worker, and what happens at its times.

    Args:
        streams: how many.
        fps: frames a second of each.
    """

    def __init__(self, streams: int, fps: float) -> None:
        model = infinipot.load("embedded", device="cpu")
        self.worker, self.fps = Worker(model, Metrics(), STEP_TOKENS), fps
        self.now = self.busy = self._begun = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        opening = [self.worker.open(lambda: model.stream(MEMORY, fps=fps), 64) for _ in range(streams)]
        self.worker.turn()
        self.lanes: list[Lane] = [each.result() for each in opening]
        self._images = [frame.image for frame in Clip(1000, 600.0)]
        self.first: list[float] = []
        self.waits: list[float] = []

    def at(self, time: float, what: Callable[[], None]) -> None:
        """Has something happen at a time."""
        heapq.heappush(self._due, (time, next(self._order), what))

    def run(self, until: float) -> None:
        """Goes on up to a time."""
        while self.now < until:
            while self._due and self._due[0][0] <= self.now:
                heapq.heappop(self._due)[2]()
            self._begun = time.thread_time()
            worked = self.worker.turn()
            taken = time.thread_time() - self._begun
            self.now += taken
            self.busy += taken
            if not worked:
                self.now = max(self.now, self._due[0][0] if self._due else until)

    def _within(self) -> float:
        """The time in the middle of a turn."""
        return self.now + time.thread_time() - self._begun

    def frame(self, lane: Lane, number: int, *, timed: bool) -> None:
        """Has a frame wait."""
        job = FrameJob(Frame(self._images[number % len(self._images)], number / self.fps))
        came = self.now
        if timed:
            job.watched.add_done_callback(lambda _: self.waits.append(self._within() - came))
        self.worker.push(lane, job)

    def ask(self, lane: Lane, question: str, then: Callable[[], None]) -> None:
        """Asks, and notes when the first of the answer comes."""
        came = self.now
        heard: list[bool] = []

        def hear(_: str) -> None:
            if not heard:
                heard.append(True)
                self.first.append(self._within() - came)

        job = AskJob(question, {}, hear)
        job.answered.add_done_callback(lambda _: then())
        self.worker.ask(lane, job)

    def fill(self) -> None:
        """Fills the memories."""
        for number in range(FILL):
            for lane in self.lanes:
                self.frame(lane, number, timed=False)
            while self.worker.turn():
                pass

    def load(self, askers: int, seconds: float) -> None:
        """Frames at their times, those of different streams one behind the other, and askers."""
        begun = self.now
        for place, lane in enumerate(self.lanes):
            for number in range(round(seconds * self.fps)):
                due = begun + (number + place / len(self.lanes)) / self.fps
                self.at(due, partial(self.frame, lane, 2 * FILL + number, timed=True))
        for place in range(askers):
            self.at(begun + place * PAUSE / askers, self._asker(random.Random(place)))
        self.run(begun + seconds)

    def _asker(self, drawn: random.Random) -> Callable[[], None]:
        def ask() -> None:
            self.ask(drawn.choice(self.lanes), drawn.choice(QUESTIONS), again)

        def again() -> None:
            self.at(self._within() + PAUSE * drawn.uniform(0.5, 1.5), ask)

        return ask


def share(values: list[float], part: float) -> float:
    return 1e3 * sorted(values)[min(int(part * len(values)), len(values) - 1)]


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--askers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    replay = Replay(given.streams, given.fps)
    replay.fill()
    for number in range(60):
        replay.frame(replay.lanes[0], FILL + number, timed=False)
        replay.run(replay.now + PAUSE)
        replay.ask(replay.lanes[0], QUESTIONS[number % len(QUESTIONS)], lambda: None)
        replay.run(replay.now + PAUSE)
    alone, replay.first = 1e3 * statistics.median(replay.first), []
    before = replay.busy
    replay.load(given.askers, given.seconds)
    p50, p95, p99 = (share(replay.first, part) for part in (0.5, 0.95, 0.99))
    waits, busy = [share(replay.waits, part) for part in (0.5, 0.95)], (replay.busy - before) / given.seconds
    print(f"{given.streams} streams at {given.fps:g} frames a second, {given.askers} askers, {given.seconds:g} s")
    print(
        f"to the first of an answer: alone {alone:.1f} ms at the median; of {len(replay.first)} p50 {p50:.1f}, ", end=""
    )
    print(f"p95 {p95:.1f}, p99 {p99:.1f}; p95 against alone: {p95 / alone:.2f}")
    print(f"{len(replay.waits)} frames waited for p50 {waits[0]:.1f}, p95 {waits[1]:.1f} ms; ", end="")
    print(f"the worker was busy for {busy:.2f} of the time")


if __name__ == "__main__":
    main()
