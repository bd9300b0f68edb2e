"""Which frames of an excerpt are watched, by a stream that is kept while questions are about it. Knows no lmms-eval."""

import math
from dataclasses import dataclass
from typing import Any

from infinipot import Model, VideoError
from infinipot.evaluate.records import FrameSampling
from infinipot.numbers import is_real, is_whole

_DEFAULT_FPS = 2.0


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A video, or a part of one: path or address, and from when to when in seconds; `end=None` is its end."""

    source: str
    start: float = 0.0
    end: float | None = None


class KeptStream:
    """Watches an excerpt when it is first asked about, and keeps the stream until another one is.

    What a stream holds does not depend on the questions, and asking changes nothing: each answer is the one that a
    stream opened for this question alone would give.

    Args:
        model: what watches.
        sampling: which frames.
        streaming: arguments of `Model.stream`, but for the system message.

    Attributes:
        watched: excerpts watched so far, from beginning to end.

    Raises:
        CapError, PolicyError, InfinipotError: no stream can be opened so.
    """

    def __init__(self, model: Model, sampling: FrameSampling, **streaming: Any) -> None:
        self.watched = 0
        self._model, self._sampling, self._streaming = model, sampling, streaming
        self._seen: tuple[Excerpt | None, str | None] = (None, None)
        self._stream = model.stream(system=None, **streaming)

    def check(self, question: str, limit: int, system: str | None) -> None:
        """Raises what asking would raise for a question that cannot be asked at any moment, before any work."""
        if system != self._seen[1]:
            self._reopen(system)
        self._stream.check(question, max_new_tokens=limit)

    def watch(self, excerpt: Excerpt, system: str | None) -> None:
        """Watches an excerpt, unless it is the one watched last under the same system message.

        Raises:
            VideoError, FrameError: it cannot be read, or holds pictures that the model cannot take.
            CapError: the memory is too small for its frames, or full and the policy never evicts.
        """
        if (excerpt, system) == self._seen:
            return
        self._reopen(system)
        with self._sampling.open(excerpt.source, excerpt.start, excerpt.end) as video:
            for frame in video:
                self._stream.watch(frame)
        self._seen = (excerpt, system)
        self.watched += 1

    def ask(self, question: str, limit: int) -> str:
        """The answer to a question about the excerpt watched last, `limit` tokens at the most."""
        return self._stream.ask(question, max_new_tokens=limit, temperature=0)

    def close(self) -> None:
        """Lets go of the memory."""
        self._stream.close()

    def _reopen(self, system: str | None) -> None:
        """A stream that watched nothing; the last one's memory is free before."""
        self._stream.close()
        self._seen = (None, system)
        self._stream = self._model.stream(system=system, **self._streaming)


def frames_of(fps: float | None = None, max_num_frames: int | None = None) -> FrameSampling:
    """Which frames of a video are watched; with neither setting, 2 frames per second, however long it is.

    Args:
        fps: frames per second of video.
        max_num_frames: the most frames of a video. Where it has more (or where `fps` would give more, if that is set
            too), so many are spread evenly from its first picture to its last.

    Raises:
        VideoError: a rate or a number that cannot be.
    """
    if fps is not None and not (is_real(fps) and 0 < fps < math.inf):
        raise VideoError(f"fps={fps!r}: give a number of frames per second above 0")
    if max_num_frames is not None and not (is_whole(max_num_frames) and max_num_frames > 0):
        raise VideoError(f"max_num_frames={max_num_frames!r}: give a whole number of frames, 1 or more")
    if max_num_frames is None:
        return FrameSampling("fps", fps=_DEFAULT_FPS if fps is None else fps)
    return FrameSampling("uniform", max_num_frames, fps)
