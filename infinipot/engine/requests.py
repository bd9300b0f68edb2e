"""What a task asks of the model: frames to be prepared, patches to be encoded, or tokens to be run over.

Knows no stream and no policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from infinipot.memory import Step
from infinipot.models import Adapter, Clip, Patch
from infinipot.stats import Stopwatch


@dataclass(frozen=True, slots=True, eq=False)
class Prepare:
    """Frames of one size, whose patches are wanted: a list of `Patch`.

    Attributes:
        adapter: of the model that takes them.
        clips: the frames of each patch.
        pixels: least and most pixels of a resized frame; None for those of the family.
        stopwatch, phase: the stopwatch that its time is added to, and under which name.
    """

    adapter: Adapter
    clips: Sequence[Clip]
    pixels: tuple[int, int] | None
    stopwatch: Stopwatch
    phase: str = "vision"

    @property
    def tokens(self) -> int:
        """How many patches are wanted: no tokens yet."""
        return len(self.clips)


@dataclass(frozen=True, slots=True, eq=False)
class Encode:
    """Patches of one grid, whose embeddings `[tokens, width]` are wanted.

    Attributes:
        adapter: of the model that encodes them.
        patches: one after the other.
        stopwatch, phase: the stopwatch that its time is added to, and under which name.
    """

    adapter: Adapter
    patches: Sequence[Patch]
    stopwatch: Stopwatch
    phase: str = "vision"

    @property
    def tokens(self) -> int:
        """How many embeddings are wanted."""
        return sum(patch.tokens for patch in self.patches)


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """Tokens of one stream, after which logits `[vocab]` are wanted.

    Attributes:
        adapter: of the model that runs over them.
        content: embeddings `[n, width]`, or ids of tokens of text, which are embedded together with other streams'.
        step: where their keys and values go, and what they attend to.
        stopwatch, phase: the stopwatch that its time is added to, and under which name.
    """

    adapter: Adapter
    content: Tensor | Sequence[int]
    step: Step
    stopwatch: Stopwatch
    phase: str

    @property
    def tokens(self) -> int:
        """How many the model runs over."""
        return self.step.count


Request = Prepare | Encode | Forward
