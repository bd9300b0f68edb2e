"""What was given to a stream of a patch that is not full: plain data, which snapshots store. Does nothing by itself."""

from dataclasses import dataclass, field

import numpy as np

from infinipot.models.patch import Clip

SILENCE = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class WaitingFrames:
    """Frames of one size, fewer than a temporal patch has."""

    frames: Clip = ()


@dataclass(frozen=True, slots=True, eq=False)
class WaitingSound:
    """Sound of a chunk that is not full.

    Attributes:
        samples: `[n]` float32, from the beginning of the chunk on.
        time: of the first sample in seconds, by the clock of the newest piece.
        begun: the same by the clock of the chunk's first piece.
        before: the samples ahead of the chunk, as far as windows reach; none at the beginning of a clip.
        peaks: the loudest log10 of each earlier chunk, oldest first.
    """

    samples: np.ndarray = field(default_factory=lambda: SILENCE)
    time: float = 0.0
    begun: float = 0.0
    before: np.ndarray = field(default_factory=lambda: SILENCE)
    peaks: tuple[float, ...] = ()


Waiting = WaitingFrames | WaitingSound
