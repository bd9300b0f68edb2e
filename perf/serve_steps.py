"""What a question waits for in the server's worker, in seconds of its own thread: whatever else the machine does.

    python perf/serve_steps.py [STREAMS [QUESTIONS]]

So many streams are kept behind, with three frames each that wait at any time, and are asked by turns. Prints the time
from a question to the first of its answer and to its end, the same where nothing else goes on, and how many frames a
second of that time were watched beside.
"""

import statistics
import sys
import threading
import time

import infinipot
from infinipot.embedded.world import Clip
from infinipot.serve.lane import AskJob, FrameJob, Lane
from infinipot.serve.metrics import Metrics
from infinipot.serve.worker import Worker
from infinipot.video import Frame

MEMORY, WAITING, FILL, STEP_TOKENS = 512, 3, 60, 2048
QUESTION = "How many shapes have appeared so far?"


class Load:
    """Streams of one worker that are fed without end.

    Args:
        streams: how many.
    """

    def __init__(self, streams: int) -> None:
        model = infinipot.load("embedded", device="cpu")
        self.worker = Worker(model, Metrics(), STEP_TOKENS)
        self.worker.start()
        self.lanes = [self.worker.open(lambda: model.stream(MEMORY), 64).result() for _ in range(streams)]
        self._frames = list(Clip(1000, 600.0))
        self._given = dict.fromkeys(self.lanes, 0)
        self.stopping = threading.Event()

    def feed(self, waiting: int) -> None:
        """Has each stream wait for so many frames."""
        for lane in self.lanes:
            while lane.waiting()[0] < waiting:
                number = self._given[lane]
                self._given[lane] += 1
                image = self._frames[number % len(self._frames)].image
                self.worker.push(lane, FrameJob(Frame(image, number / 2)))

    def fill(self) -> None:
        """Fills the memories, and waits until nothing is under way."""
        self.feed(FILL)
        while any(lane.busy for lane in self.lanes):
            time.sleep(0.01)

    def go_on(self) -> None:
        """Feeds until it is to stop."""
        while not self.stopping.is_set():
            self.feed(WAITING)
            time.sleep(0.002)

    def ask(self, lane: Lane) -> tuple[float, float]:
        """The worker's milliseconds from a question to the first of its answer, and to its end."""
        first: list[float] = []
        job = AskJob(QUESTION, {}, lambda _: first or first.append(time.thread_time()))
        begun = self.worker.call(time.thread_time).result()
        self.worker.ask(lane, job)
        job.answered.result()
        return 1e3 * (first[0] - begun), 1e3 * (self.worker.call(time.thread_time).result() - begun)


def share(values: list[float], part: float) -> float:
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]


def main() -> None:
    """Prints what was measured."""
    streams = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    questions = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    load = Load(streams)
    load.fill()
    first, whole = zip(*(load.ask(load.lanes[0]) for _ in range(20)), strict=True)
    print(
        f"alone: {statistics.median(first):.0f} ms to the first of an answer, {statistics.median(whole):.0f} to its end"
    )
    feeder = threading.Thread(target=load.go_on)
    feeder.start()
    time.sleep(0.5)
    before, begun = sum(lane.stats.frames for lane in load.lanes), load.worker.call(time.thread_time).result()
    first, whole = zip(*(load.ask(load.lanes[(7 * number) % streams]) for number in range(questions)), strict=True)
    watched = sum(lane.stats.frames for lane in load.lanes) - before
    rate = watched / (load.worker.call(time.thread_time).result() - begun)
    load.stopping.set()
    feeder.join()
    print(
        f"{streams} streams behind: to the first p50 {share(first, 0.5):.0f} ms, p95 {share(first, 0.95):.0f}; "
        f"to the end p50 {share(whole, 0.5):.0f}; {rate:.0f} frames a second watched beside"
    )
    for lane in load.lanes:
        load.worker.close(lane)
    load.worker.stop(10)


if __name__ == "__main__":
    main()
