"""One stream at a time, kept while questions are about what it watched. Knows clips and questions, not lmms-eval."""

from typing import Any

from infinipot import Model, Stream
from infinipot.lmms_eval.clip import Clip, FrameCount


class Viewer:
    """Watches a clip when it is first asked about, and keeps the stream until another clip is.

    What a stream holds does not depend on the questions, and asking changes nothing: each answer is the one that a
    stream opened for this question alone would give.

    Args:
        model: what watches.
        frames: how many of a clip.
        streaming: arguments of `Model.stream`, but for the system message.

    Attributes:
        watched: clips watched so far, from beginning to end.

    Raises:
        CapError, PolicyError, InfinipotError: no stream can be opened so.
    """

    def __init__(self, model: Model, frames: FrameCount, **streaming: Any) -> None:
        self.watched = 0
        self._model = model
        self._frames = frames
        self._streaming = streaming
        self._system: str | None = None
        self._clip: Clip | None = None
        self._stream = self._open()

    def check(self, question: str, limit: int, system: str | None) -> None:
        """Raises what asking would raise for a question that cannot be asked at any moment, before any work."""
        if system != self._system:
            self._reopen(system)
        self._stream.check(question, max_new_tokens=limit)

    def watch(self, clip: Clip, system: str | None) -> None:
        """Watches a clip, unless it is the one watched last under the same system message.

        Raises:
            VideoError, FrameError: it cannot be read, or holds pictures that the model cannot take.
            CapError: the memory is too small for its frames, or full and the policy never evicts.
        """
        if (clip, system) == (self._clip, self._system):
            return
        self._reopen(system)
        with self._frames.open(clip) as video:
            for frame in video:
                self._stream.watch(frame)
        self._clip = clip
        self.watched += 1

    def ask(self, question: str, limit: int) -> str:
        """The answer to a question about the clip watched last, `limit` tokens at the most."""
        return self._stream.ask(question, max_new_tokens=limit, temperature=0)

    def close(self) -> None:
        """Lets go of the memory."""
        self._stream.close()

    def _open(self) -> Stream:
        return self._model.stream(system=self._system, **self._streaming)

    def _reopen(self, system: str | None) -> None:
        """A stream that watched nothing; the last one's memory is free before."""
        self._stream.close()
        self._clip, self._system = None, system
        self._stream = self._open()
