"""Shows the progress of a stream or of a benchmark's run on stderr."""

from __future__ import annotations

import math
import sys
from contextlib import AbstractContextManager, redirect_stdout
from typing import TYPE_CHECKING

from infinipot.cli.output import STDERR, clock, note, status
from infinipot.cli.progress import ProgressLine

if TYPE_CHECKING:
    from infinipot import Stats
    from infinipot.evaluate.run import Progress


def quiet_stdout() -> AbstractContextManager[object]:
    """Redirects what libraries print, as Ray does, to stderr: stdout is for the tables."""
    return redirect_stdout(sys.stderr)


class StreamMeter(ProgressLine):
    """Shows how far a stream has watched.

    Args:
        duration: length of the video in seconds, if known.
        shown: None for only where stderr is a terminal.
        start, end: times on the video's clock between which it is watched; no end: to the end of the video.
    """

    def __init__(
        self, duration: float | None, shown: bool | None = None, start: float = 0.0, end: float | None = None
    ) -> None:
        super().__init__(every=10.0, shown=STDERR.is_terminal if shown is None else shown)
        ends = [each for each in (duration, end) if each is not None and math.isfinite(each)]
        self._start, self._end = start, min(ends, default=None)

    def update(self, stats: Stats) -> None:
        """Call after each frame."""
        rate = stats.frames / max(self.spent, 1e-9)
        length = None if self._end is None else self._end - self._start
        self.tell(f"{status(stats, self._end)}, {rate:.1f} frames/s", stats.time - self._start, length)


class RunMeter(ProgressLine):
    """Shows how far a run of a benchmark is."""

    def __init__(self) -> None:
        super().__init__(every=30.0)

    def update(self, progress: Progress) -> None:
        """Call after each event."""
        if progress.trouble:
            note(f"problem: {progress.trouble}", "yellow")
        self.tell(_line(progress, self.spent), progress.questions, progress.of_questions)


def _line(progress: Progress, spent: float) -> str:
    from infinipot.evaluate.records import counted

    left = progress.of_videos - progress.videos
    waiting = f", {clock(round(spent / progress.now * left))} left" if progress.now and left else ""
    problems = f", {counted(progress.problems, 'problem')}" if progress.problems else ""
    return (
        f"{progress.videos} of {progress.of_videos} videos, {progress.questions} of {progress.of_questions} questions"
        f"{problems}{waiting}"
    )
