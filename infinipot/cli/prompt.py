"""The prompt of `infinipot watch`: questions are typed while the video runs on in the background."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

import infinipot
from infinipot import InfinipotError
from infinipot.cli.output import Asker, clock, note, status
from infinipot.cli.pace import at_own_pace

if TYPE_CHECKING:
    from infinipot import Camera, Frame, Sound, Stream
    from infinipot.audio import Audio
    from infinipot.video import Video

try:
    import readline
except ImportError:  # there is none on Windows: lines cannot be edited, the rest works
    readline = None  # type: ignore[assignment]

_PROMPT = "> "
_PATIENCE = 5.0  # seconds for the watching to end where there was no first frame yet: its source may hang
_HELP = "/stats, /look N, /quit; Ctrl-C cancels an answer"


class Watcher:
    """Watches a video in a thread of its own, which takes turns at the stream with what asks it.

    Args:
        stream: what watches, or listens.
        video: what is watched, or heard.
        paced: at the video's own pace, rather than as fast as it can.
        on_end: called with a line of text when the video is over, or watching failed.
        on_frame: called with what the stream has just taken in.

    Attributes:
        failure: what ended the watching before the video was over.
    """

    def __init__(
        self,
        stream: Stream,
        video: Video | Audio | Camera,
        paced: bool,
        on_end: Callable[[str], None],
        on_frame: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self.failure: Exception | None = None
        self._stream, self._video, self._on_end = stream, video, on_end
        self._on_frame = on_frame
        self._stop, self._begun = threading.Event(), threading.Event()
        paced = paced and not isinstance(video, infinipot.Camera)  # which comes when it comes
        self._frames: Iterable[Frame | Sound] = at_own_pace(video, self._stop.wait) if paced else video
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        """Returns when the first frame was watched, so that there is something to ask about."""
        self._thread.start()
        try:
            self._begun.wait()
        except BaseException:  # Ctrl-C
            self._end(_PATIENCE)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self, patience: float | None = None) -> None:
        """Stops the thread, and waits until it has stopped, for so many seconds at most."""
        self._stop.set()
        if isinstance(self._video, infinipot.Camera):
            self._video.close()  # one that is gone would be waited for
        self._thread.join(patience)

    def _run(self) -> None:
        try:
            for frame in self._frames:
                if self._stop.is_set():
                    return
                with self._stream.lock():
                    self._stream.feed(frame)
                    self._on_frame(frame)
                self._begun.set()
            if self._stop.is_set():  # a camera that was closed here
                return
            with self._stream.lock():
                stats = self._stream.stats()
                self._on_end(f"the {stats.modality} is over at {clock(stats.time)}; ask on, or /quit")
        except Exception as error:
            self.failure = error
            if self._begun.is_set():
                with self._stream.lock():
                    self._on_end(f"watching ended: {error}")
        finally:
            self._begun.set()


def converse(video: Video | Audio | Camera, asker: Asker, paced: bool) -> None:
    """Answers what is typed, or piped in, until the input ends.

    Raises:
        InfinipotError: watching failed; raised when the conversation is over.
        KeyboardInterrupt: Ctrl-C outside of an answer.
    """
    interactive = _interactive()
    with Watcher(asker.stream, video, paced, _announce if interactive else note, asker.on_frame) as watcher:
        if watcher.failure is None:
            if interactive:
                note(f"watching {video.name}; type a question, or {_HELP}", "dim")
            while (line := _read(interactive)) is not None and line != "/quit":
                _respond(line, asker, interactive)
    if watcher.failure is not None:
        raise watcher.failure


def _interactive() -> bool:
    return sys.stdin.isatty()


def _respond(line: str, asker: Asker, interactive: bool) -> None:
    """Does what a line says; at a terminal, what goes wrong with one question does not end the conversation."""
    if not line:
        return
    try:
        with asker.stream.lock():
            if line == "/help":
                note(f"a question, or {_HELP}")
            elif line == "/stats":
                note(status(asker.stream.stats()))
            elif line.split()[0] == "/look":
                _look(asker, line.removeprefix("/look").strip())
            elif line.startswith("/"):
                note(f"no such command: {line}; possible: {_HELP}")
            else:
                asker.ask(line)
    except InfinipotError as error:
        if not interactive:
            raise
        note(f"error: {error}", "red")
    except KeyboardInterrupt:
        if not interactive:
            raise
        click.echo()
        note("cancelled", "dim")


def _look(asker: Asker, frames: str) -> None:
    """Has the questions from now on look again at so many of the last frames."""
    most = asker.stream.config.look_again
    if not frames.isdecimal() or int(frames) > most:
        note(f"give /look 0 to {most}: the stream keeps {most} frames for second looks (--look-again)")
        return
    asker.look_again = int(frames)
    note(f"questions look again at the last {frames} frames")


def _read(interactive: bool) -> str | None:
    """The next line, or None at the end of the input."""
    if not interactive:
        return line.strip() if (line := sys.stdin.readline()) else None
    try:
        if sys.stdout.isatty():
            return input(_PROMPT).strip()
        click.echo(_PROMPT, nl=False, err=True)  # stdout is for answers
        return input().strip()
    except (EOFError, KeyboardInterrupt) as end:
        click.echo(err=True)
        if isinstance(end, KeyboardInterrupt):
            raise
        return None


def _announce(text: str) -> None:
    """A note while a line is being typed: shows the line again below, where both are on the same screen."""
    if not sys.stderr.isatty():
        note(text)
        return
    click.echo("\r\x1b[K", nl=False, err=True)
    note(text, "dim")
    typed = readline.get_line_buffer() if readline else ""
    click.echo(_PROMPT + typed, nl=False, err=True)
