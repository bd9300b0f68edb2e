"""Output for people and programs: notes and progress on stderr, answers on stdout."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

import infinipot
from infinipot import extras
from infinipot.evaluate.core.tables import widen
from infinipot.text import to_json

if TYPE_CHECKING:
    from infinipot import Model, Stats, Stream

STDERR = Console(stderr=True, emoji=False)  # a name such as "a:camera:b" stays as it is
_PICTURES = (".png", ".svg", ".pdf")


def first_process() -> bool:
    """Whether this is the process that prints, where torchrun started several."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def printing_once() -> Iterator[None]:
    """Silences all processes but the first. Python itself still prints unexpected errors."""
    if first_process():
        yield
        return
    STDERR.quiet = True
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def note(text: str, style: str | None = None) -> None:
    """Prints a line on stderr, above the progress line if there is one."""
    STDERR.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class WarningNotes(logging.Handler):
    """Shows the package's warnings as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"{record.levelname.lower()}: {record.getMessage()}", "yellow")


def print_json(record: Any) -> None:
    """Prints a JSON value in one line of stdout."""
    click.echo(to_json(record, encoding=getattr(sys.stdout, "encoding", None) or "utf-8"))


def print_table(table: Table) -> None:
    """A table on stdout: as wide as the terminal, and wider where its columns would not all be seen.

    Where stdout is no terminal, lines may be long.
    """
    console = Console(width=None if sys.stdout.isatty() else 160, emoji=False, markup=False)
    widen(console, table)
    console.print(table)


def clock(seconds: float) -> str:
    """Video time: 75.5 as "1:15.5", 3600 as "1:00:00"."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    shown = f"{rest / 100:05.2f}".rstrip("0").rstrip(".") if rest % 100 else f"{rest // 100:02}"
    return f"{hours}:{minutes:02}:{shown}" if hours else f"{minutes}:{shown}"


def load_quietly(model: str, *, verbose: bool = False, **options: Any) -> Model:
    """Loads a model without the messages of the libraries below, unless they are asked for."""
    with _no_collector():
        if not verbose:
            quiet_libraries()
        return infinipot.load(model, **options)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Pauses garbage collection: the objects that importing torch and transformers creates live to the end anyway."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def quiet_libraries() -> None:
    """Silences the libraries below from now on: what matters is in the error that follows."""
    import transformers
    from huggingface_hub.utils import logging as hub_logging
    from huggingface_hub.utils.tqdm import enable_progress_bars

    transformers.utils.logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    if STDERR.is_terminal:  # downloads may take long: those bars stay
        enable_progress_bars()


def check_picture(option: str, path: Path) -> None:
    """Raises an error for a picture that could not be drawn or written in the end."""
    if path.suffix.lower() not in _PICTURES:
        raise click.UsageError(f"{option} {path}: give a file that ends in {', '.join(_PICTURES)}")
    if not path.parent.is_dir():
        raise click.UsageError(f"{option} {path}: there is no folder {path.parent}; give a file in an existing folder")
    if not os.access(path.parent, os.W_OK):
        raise click.UsageError(f"{option} {path}: nothing can be written into {path.parent}; give another folder")
    extras.require("plots", option)


def status(stats: Stats, duration: float | None = None) -> str:
    """The state of a stream in a line."""
    length = "" if duration is None else f" of {clock(duration)}"
    taken = f"heard in {stats.frames} pieces" if stats.modality == "audio" else f"watched in {stats.frames} frames"
    return (
        f"{clock(stats.time)}{length} {taken}, {stats.tokens} tokens held of {stats.cap}, "
        f"{stats.compressions} compressions"
    )


@dataclass(slots=True)
class Asker:
    """Asks a stream and prints its answers.

    Attributes:
        stream: the stream that is asked.
        max_new_tokens, remember, sampling, look_again, look_pixels, window: see `Stream.ask`.
        as_json: one JSON object per answer, rather than text as it comes.
        repeat_question: whether the text repeats the question, which nobody typed.
        on_frame: called with what the stream has just taken in.
    """

    stream: Stream
    max_new_tokens: int | None = None
    remember: bool = False
    as_json: bool = False
    repeat_question: bool = True
    sampling: Mapping[str, Any] = field(default_factory=dict)
    look_again: int = 0
    look_pixels: tuple[int, int] | None = None
    window: float | None = None
    on_frame: Callable[[Any], None] = lambda _: None

    def ask(self, question: str) -> None:
        """Asks now, and prints the answer to stdout."""
        if not self.as_json:
            self._ask_in_text(question)
            return
        start = time.perf_counter()
        answer = self._answer(question)
        stats = self.stream.stats()
        print_json(
            {
                "type": "answer",
                "time": stats.time,
                "question": question,
                "answer": answer,
                "seconds": round(time.perf_counter() - start, 4),
                "tokens": stats.asked_tokens,
                **({"look_again": self.look_again} if self.look_again else {}),
                **({"window": self.window} if self.window else {}),
            }
        )

    def check(self, question: str) -> None:
        """Raises what asking this question would raise, before anything is watched."""
        self.stream.answer_limit(question, **self._how)

    @property
    def _how(self) -> dict[str, Any]:
        """The arguments with which a question is checked, and asked."""
        size = {"look_pixels": self.look_pixels} if self.look_again else {}
        return {name: getattr(self, name) for name in ("max_new_tokens", "remember", "look_again")} | size

    def _ask_in_text(self, question: str) -> None:
        at = clock(self.stream.stats().time)
        ahead = f"[{at}] {question}\n" if self.repeat_question else f"[{at}] "

        def show(piece: str) -> None:
            nonlocal ahead
            if piece := piece.lstrip() if ahead else piece:
                click.echo(ahead + piece, nl=False)
                ahead = ""

        self._answer(question, show)
        click.echo(ahead)

    def _answer(self, question: str, on_text: Callable[[str], None] | None = None) -> str:
        return self.stream.ask(question, on_text=on_text, window=self.window, **self._how, **self.sampling)
