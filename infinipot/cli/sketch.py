"""Keeps what a picture of a stream's memory needs while it is watched, and draws it. Knows no terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from infinipot.cli.output import clock
from infinipot.picture import History, draw_contents
from infinipot.video.frame import Frame
from infinipot.video.thumbnails import Thumbnails

if TYPE_CHECKING:
    from infinipot import Stream


class Sketch:
    """The history of a stream, and small pictures of what it watched.

    Args:
        stream: of video.
        path: of the picture.
    """

    def __init__(self, stream: Stream, path: Path) -> None:
        self._stream, self._path = stream, path
        self._history, self._thumbnails = History(), Thumbnails()

    def note(self, given: Any) -> None:
        """Notes what the stream has just taken in."""
        stats = self._stream.stats()
        self._history.add(stats.time, stats.tokens, stats.full_tokens)
        if isinstance(given, Frame):
            if self._thumbnails.crowded:
                self._thumbnails.keep([patch.time for patch in self._stream.contents().patches])
            self._thumbnails.add(given)

    def draw(self) -> None:
        """Draws what is held now."""
        stats, contents = self._stream.stats(), self._stream.contents()
        held = {patch.time: self._thumbnails.image(patch.time) for patch in contents.patches}
        frames = {time: image for time, image in held.items() if image is not None}
        title = f"{self._stream.policy.spec}: {clock(stats.time)} of video in {stats.cap} tokens of memory"
        draw_contents(contents, self._history, stats.cap, self._path, title, frames)
