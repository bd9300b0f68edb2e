"""A line on stderr that says how far something is. Knows nothing of what it is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn

from infinipot.cli.output import STDERR, note


class ProgressLine:
    """Shows progress: in a terminal a line that is redrawn, elsewhere a new one now and then.

    Args:
        every: seconds between two lines where there is no terminal to redraw.
        shown: False for nothing at all.
    """

    def __init__(self, every: float, shown: bool = True) -> None:
        self._every, self._shown = every, shown
        self._live = shown and STDERR.is_terminal
        self._begun = self._told = time.monotonic()
        self._line = ""
        self._bar = Progress(
            BarColumn(bar_width=16),
            TextColumn("{task.description}", markup=False),
            console=STDERR,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        if self._live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bar.stop()
        if self._shown and self._line:
            note(self._line, "dim")

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begun

    def tell(self, line: str, completed: float, total: float | None) -> None:
        """Shows a line, and how much is completed of a total that may not be known."""
        if not self._shown:
            return
        self._line = line
        if self._live:
            self._bar.update(self._task, total=total, completed=completed, description=line)
        elif time.monotonic() > self._told + self._every:
            self._told = time.monotonic()
            note(line)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Hides the progress line while something else is printed."""
        if self._live:
            self._bar.stop()
        try:
            yield
        finally:
            if self._live:
                self._bar.start()
