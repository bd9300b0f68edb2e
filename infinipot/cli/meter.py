"""How far a run of a benchmark is, on stderr."""

import sys
import time
from contextlib import AbstractContextManager, redirect_stdout

from rich.progress import BarColumn, Progress, TextColumn

from infinipot.cli.output import STDERR, clock, note
from infinipot.evaluate.records import counted
from infinipot.evaluate.run import Progress as RunProgress

_PLAIN_SECONDS = 30.0  # between two lines of progress where there is no terminal to redraw


def quiet_stdout() -> AbstractContextManager[object]:
    """Inside, what libraries print (Ray does) goes to stderr: stdout is for the tables."""
    return redirect_stdout(sys.stderr)


class Meter(AbstractContextManager["Meter"]):
    """Progress of a run on stderr: a line that is redrawn in a terminal, else a new one now and then."""

    def __init__(self) -> None:
        self._begun = self._told = time.monotonic()
        columns = BarColumn(bar_width=16), TextColumn("{task.description}", markup=False)
        self._bar = Progress(*columns, console=STDERR, transient=True, disable=not STDERR.is_terminal)
        self._task = self._bar.add_task("starting", total=None)
        self._line = ""

    def __enter__(self) -> "Meter":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
        if self._line:
            note(self._line, "dim")

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun

    def tell(self, line: str, done: float, total: float) -> None:
        """Shows how far it is."""
        self._line = line
        self._bar.update(self._task, total=total, completed=done, description=line)
        if not STDERR.is_terminal and time.monotonic() > self._told + _PLAIN_SECONDS:
            self._told = time.monotonic()
            note(line, "dim")

    def update(self, progress: RunProgress) -> None:
        """Call after each event of a run."""
        if progress.trouble:
            note(f"problem: {progress.trouble}", "yellow")
        self.tell(_line(progress, self.spent), progress.questions, progress.of_questions)


def _line(progress: RunProgress, spent: float) -> str:
    left = progress.of_videos - progress.videos
    waiting = f", {clock(round(spent / progress.now * left))} left" if progress.now and left else ""
    problems = f", {counted(progress.problems, 'problem')}" if progress.problems else ""
    return (
        f"{progress.videos} of {progress.of_videos} videos, {progress.questions} of {progress.of_questions} questions"
        f"{problems}{waiting}"
    )
