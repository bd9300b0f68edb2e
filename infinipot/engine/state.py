"""A stream's state: plain data, which tasks change, snapshots store and forks copy. Does nothing by itself."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infinipot.engine.pending import Pending
from infinipot.memory import Memory
from infinipot.stats import Stats, Stopwatch

if TYPE_CHECKING:
    from infinipot.engine.prefilled import Prefilled


@dataclass(slots=True, eq=False)
class StreamState:
    """All that a stream knows of what it was given.

    Attributes:
        memory: what it holds.
        pending: what waits for its block; replaced as a whole.
        prefilled: those of the patches that wait which a question had the model run over; see prefilled.py. Replaced
            as a whole, in no snapshot.
        asked_tokens: tokens that the newest question was asked on.
        dense_after: after how many compressions positions were last re-assigned without gaps.
        stopwatch: what it cost so far.
    """

    memory: Memory
    pending: Pending
    prefilled: "tuple[Prefilled, ...]" = ()
    asked_tokens: int = 0
    dense_after: int = 0
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def fork(self) -> "StreamState":
        """The same state once more, in a memory of its own."""
        return StreamState(
            self.memory.fork(),
            self.pending,
            self.prefilled,
            self.asked_tokens,
            self.dense_after,
            Stopwatch(dict(self.stopwatch.seconds)),
        )

    def stats(self, modality: str, size: int) -> Stats:
        """What is held, and what it cost so far, of a stream that was promised `size` bytes."""
        memory, pending = self.memory, self.pending
        return Stats(
            modality=modality,
            frames=pending.frames,
            patches=memory.cursor.patch,
            gated_tokens=pending.gated,
            time=max(pending.time, 0.0),
            tokens=memory.held,
            text_tokens=memory.state.text,
            video_tokens=memory.state.video,
            asked_tokens=self.asked_tokens,
            turns=len(memory.state.turns),
            cap=memory.cap,
            peak_tokens=memory.peak,
            full_tokens=memory.state.seen,
            bytes=size,
            compressions=memory.state.compressions,
            rebases=memory.state.rebases,
            seconds=dict(self.stopwatch.seconds),
        )
