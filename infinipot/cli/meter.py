"""How far a run of a benchmark is, on stderr."""

import sys
import time
from contextlib import AbstractContextManager, redirect_stdout
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn

from infinipot.cli.output import STDERR, clock, note
from infinipot.evaluate.records import counted
from infinipot.evaluate.run import Progress as RunProgress

_PLAIN_SECONDS = 30.0  # between two lines of progress where there is no terminal to redraw


def quiet_stdout() -> AbstractContextManager[object]:
    """Inside, what libraries print (Ray does) goes to stderr: stdout is for the tables."""
    return redirect_stdout(sys.stderr)


class Meter:
    """Progress of a run on stderr: a line that is redrawn in a terminal, else a new one now and then."""

    def __init__(self) -> None:
        self._begun = self._told = time.monotonic()
        self._bar = Progress(
            BarColumn(bar_width=16), TextColumn("{task.description}", markup=False), console=STDERR, transient=True
        )
        self._task = self._bar.add_task("", total=None)
        self._line = ""

    def __enter__(self) -> Self:
        if STDERR.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if STDERR.is_terminal:
            self._bar.stop()
        if self._line:
            note(self._line, "dim")

    def update(self, progress: RunProgress) -> None:
        """Call after each event."""
        if progress.trouble:
            note(f"problem: {progress.trouble}", "yellow")
        self._line = _line(progress, time.monotonic() - self._begun)
        if STDERR.is_terminal:
            self._bar.update(
                self._task, total=progress.of_questions, completed=progress.questions, description=self._line
            )
        elif time.monotonic() > self._told + _PLAIN_SECONDS:
            self._told = time.monotonic()
            note(self._line)


def _line(progress: RunProgress, spent: float) -> str:
    left = progress.of_videos - progress.videos
    waiting = f", {clock(round(spent / progress.now * left))} left" if progress.now and left else ""
    problems = f", {counted(progress.problems, 'problem')}" if progress.problems else ""
    return (
        f"{progress.videos} of {progress.of_videos} videos, {progress.questions} of {progress.of_questions} questions"
        f"{problems}{waiting}"
    )
