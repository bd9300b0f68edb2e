"""What a task asks of the model: frames to be prepared, patches to be encoded, or tokens to be run over.

Each kind says which requests the model can take together, and how it does; only the runner has them run. Knows no
stream and no policy.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infinipot.memory import Step
from infinipot.models import Adapter, Clip, Patch
from infinipot.stats import Stopwatch


class Request(ABC):
    """What a task waits for.

    Attributes:
        adapter: of the model that it is asked of.
        stopwatch, phase: the stopwatch that its time is added to, and under which name.
    """

    __slots__ = ()
    adapter: Adapter
    stopwatch: Stopwatch
    phase: str

    @property
    @abstractmethod
    def tokens(self) -> int:
        """How much work it is, beside others of its kind."""

    @property
    @abstractmethod
    def group(self) -> Hashable:
        """Equal for requests of this kind that the model can take together."""

    @property
    def once(self) -> Hashable:
        """Equal for requests of one group that the model runs once for all of them."""
        return id(self)

    @staticmethod
    @abstractmethod
    def run(requests: Sequence[Any]) -> Sequence[Any]:
        """What the model makes of each of the requests, all of this kind and of one group."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepare(Request):
    """Frames of one size, whose patches are wanted: a list of `Patch`.

    Attributes:
        clips: the frames of each patch.
        pixels: least and most pixels of a resized frame; None for those of the family.
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

    @property
    def group(self) -> Hashable:
        """Frames of one size, to be resized alike."""
        return id(self.adapter), self.clips[0][0].size, tuple(self.pixels or ())

    @staticmethod
    def run(requests: Sequence["Prepare"]) -> Sequence[list[Patch]]:
        """The patches of each. Frames that several streams were given are prepared once, and make one patch."""
        first = requests[0]
        clips = {tuple(map(id, clip)): clip for request in requests for clip in request.clips}
        made = dict(zip(clips, first.adapter.prepare(list(clips.values()), first.pixels), strict=True))
        return [[made[tuple(map(id, clip))] for clip in request.clips] for request in requests]


@dataclass(frozen=True, slots=True, eq=False)
class Encode(Request):
    """Patches of one grid, whose embeddings `[tokens, width]` are wanted, one patch after the other."""

    adapter: Adapter
    patches: Sequence[Patch]
    stopwatch: Stopwatch
    phase: str = "vision"

    @property
    def tokens(self) -> int:
        """How many embeddings are wanted."""
        return sum(patch.tokens for patch in self.patches)

    @property
    def group(self) -> Hashable:
        """Patches of one grid and size."""
        patch = self.patches[0]
        return id(self.adapter), patch.rows, patch.columns, patch.steps, patch.pixels.shape

    @property
    def once(self) -> Hashable:
        """The same patches."""
        return tuple(id(patch.pixels) for patch in self.patches)

    @staticmethod
    def run(requests: Sequence["Encode"]) -> Sequence[Tensor]:
        """The embeddings of each. What several streams see is encoded once."""
        patches = [patch for request in requests for patch in request.patches]
        seen = {id(patch.pixels): patch for patch in patches}
        encoded = requests[0].adapter.encode(list(seen.values()))
        if len(seen) < len(patches):
            parts = dict(zip(seen, encoded.split([patch.tokens for patch in seen.values()]), strict=True))
            encoded = torch.cat([parts[id(patch.pixels)] for patch in patches])
        return encoded.split([request.tokens for request in requests])


@dataclass(frozen=True, slots=True, eq=False)
class Forward(Request):
    """Tokens of one stream, after which logits `[vocab]` are wanted.

    Attributes:
        content: embeddings `[n, width]`, or ids of tokens of text, which are embedded together with other streams'.
        step: where their keys and values go, and what they attend to.
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

    @property
    def group(self) -> Hashable:
        """All tokens of one model; those of a stream alone where layers have a recurrent state."""
        return id(self.adapter), 0 if self.adapter.packs else id(self)

    @property
    def once(self) -> Hashable:
        """The same tokens after the same ones: see memory/prefix.py."""
        return self.step.prefixes

    @staticmethod
    def run(requests: Sequence["Forward"]) -> Sequence[Tensor]:
        """The logits after each. What is the same for several streams, up to what they hold, is run over once."""
        adapter, alike = requests[0].adapter, dict[object, list[Forward]]()
        for request in requests:
            alike.setdefault(request.once, []).append(request)
        for group in alike.values():  # one that keeps its turned keys goes first: it need not turn them again
            group.sort(key=lambda request: request.step.memory.turned is None)
        rows = _rows(adapter, [first.content for first, *_ in alike.values()])
        embeddings = rows[0] if len(rows) == 1 else adapter.join(rows)
        try:
            for first, *others in alike.values():
                first.step.followers[:] = [other.step for other in others]
            made = adapter.forward(embeddings, *(first.step for first, *_ in alike.values()))
        finally:
            for first, *_ in alike.values():
                first.step.followers.clear()  # a step may be kept for longer than other streams are open
        logits = dict(zip(alike, made.unbind(), strict=True))
        return [logits[request.once] for request in requests]


def _rows(adapter: Adapter, contents: Sequence[Tensor | Sequence[int]]) -> Sequence[Tensor]:
    """Embeddings of what is run over, those of ids made at once: in one piece where there is nothing else."""
    texts = [content for content in contents if not isinstance(content, Tensor)]
    embedded = adapter.embed([token for text in texts for token in text]) if texts else None
    if embedded is not None and len(texts) == len(contents):
        return [embedded]
    parts = iter(() if embedded is None else embedded.split([len(text) for text in texts]))
    return [content if isinstance(content, Tensor) else next(parts) for content in contents]
