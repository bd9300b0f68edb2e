"""What each step of the training learns from, as arrays: made in worker processes from the step's number and a seed."""

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from infinipot.embedded.facts import FIRST_TRAINING_SEED
from infinipot.embedded.words import KINDS
from training.embedded.sequence import Sequence
from training.witness.lessons import IGNORE, Seen, glimpses, lesson
from training.witness.world import MORE_WORDINGS

ALL_KINDS = (*KINDS, *(kind for kind in MORE_WORDINGS if kind not in KINDS), "list")
LENGTHS = (4, 8, 16, 32, 64)  # temporal patches of a clip
CLIPS_A_STEP = dict(zip(LENGTHS, (56, 44, 32, 20, 10), strict=True))
# Up to which share of the training clips of each of these lengths are how frequent.
CURRICULUM = (
    (0.15, (0.5, 0.4, 0.1, 0.0, 0.0)),
    (0.4, (0.1, 0.4, 0.4, 0.1, 0.0)),
    (0.7, (0.05, 0.15, 0.4, 0.3, 0.1)),
    (1.0, (0.0, 0.1, 0.3, 0.3, 0.3)),
)
VISION_CLIPS, VISION_PATCHES = 24, 8  # a step, while the vision tower learns alone
CALM_SHARE = 0.3  # of that, at first, with shapes before still backgrounds
FORGETFUL_SHARE = 0.6  # of clips in the stage in which visual tokens are hidden
ROUND = 64  # sequences are padded to multiples of this


@dataclass(frozen=True, slots=True)
class Plan:
    """How many steps each stage has: the vision tower alone, everything, and everything with tokens hidden."""

    vision: int
    full: int
    hidden: int = 0

    @property
    def steps(self) -> int:
        return self.vision + self.full + self.hidden

    def stage(self, step: int) -> tuple[str, float]:
        """The stage that a step belongs to, and how much of the stage is done, 0 to 1."""
        if step < self.vision:
            return "vision", step / self.vision
        if step < self.vision + self.full:
            return "full", (step - self.vision) / self.full
        return "hidden", (step - self.vision - self.full) / max(1, self.hidden)


@dataclass(slots=True)
class Clock:
    """The stage that a run is in, and when it began: what a resumed run goes on from.

    Attributes:
        stage: its name; empty before the first.
        began: seconds of the run.
    """

    stage: str = ""
    began: float = 0.0

    def progress(self, stage: str, seconds: float, limit: float) -> float:
        """The share of a stage's time that has passed, 0 to 1, where the stage is to end `limit` seconds into the run.
        A stage that was not the present one begins now."""
        if stage != self.stage:
            self.stage, self.began = stage, seconds
        return (seconds - self.began) / max(1.0, limit - self.began)


@dataclass(slots=True)
class Batch:
    """Sequences padded on the right to one length n, and what their clips show; arrays that become tensors.

    Attributes:
        images, colours, shapes: of all clips, see `Seen`.
        ids: `[B, n]`; no sequences while the vision tower learns alone.
        positions: `[3, B, n]`.
        branches: `[B, n]`, 0 for the trunk; until: `[B, n]`, the last token that sees each.
        answers: `[B, n]`, the number of the answer that a token belongs to, or IGNORE.
        kinds: of each answer, its place in ALL_KINDS.
    """

    images: Any
    colours: Any
    shapes: Any
    ids: Any = None
    positions: Any = None
    branches: Any = None
    until: Any = None
    answers: Any = None
    kinds: Any = field(default_factory=lambda: np.zeros(0, np.int64))


class Words:
    """A tokenizer as `Sequence` asks for it, without what a worker process would have to load for transformers'."""

    def __init__(self, file: str) -> None:
        self._tokenizer = Tokenizer.from_file(file)

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": self._tokenizer.encode(text, add_special_tokens=False).ids}

    def convert_tokens_to_ids(self, token: str) -> int:
        """The id of one token of the vocabulary."""
        number = self._tokenizer.token_to_id(token)
        assert number is not None
        return number


class Lessons:
    """The batches of the steps that are due; a data set for `torch.utils.data.DataLoader`."""

    def __init__(self, tokenizer: str, seed: int, plan: Plan, due: range, scale: float = 1.0) -> None:
        self._tokenizer: Any = Words(tokenizer)
        self._seed, self._plan, self._due, self._scale = seed, plan, due, scale

    def __len__(self) -> int:
        return len(self._due)

    def __getitem__(self, index: int) -> Batch:
        step = self._due[index]
        stage, progress = self._plan.stage(step)
        rng = np.random.default_rng((self._seed, step))
        first = FIRST_TRAINING_SEED + 100 * step
        if stage == "vision":
            clips, calm = self._count(VISION_CLIPS), progress < CALM_SHARE
            return _seen([glimpses(first + i, VISION_PATCHES, calm=calm) for i in range(clips)])
        shares = CURRICULUM[-1][1] if stage == "hidden" else next(s for until, s in CURRICULUM if progress <= until)
        patches = int(rng.choice(LENGTHS, p=shares))
        return self.batch(patches, first, FORGETFUL_SHARE if stage == "hidden" else 0.0)

    def batch(self, patches: int, first: int, forgetful: float) -> Batch:
        """A batch of clips of one length."""
        clips = range(first, first + self._count(CLIPS_A_STEP[patches]))
        cases = [lesson(self._tokenizer, seed, patches, forgetful) for seed in clips]
        return collate([sequence for sequence, _ in cases], [seen for _, seen in cases])

    def _count(self, clips: int) -> int:
        return max(1, round(clips * self._scale))


def _seen(seen: Many[Seen]) -> Batch:
    images, colours, shapes = (
        np.concatenate([getattr(one, name) for one in seen]) for name in ("images", "colours", "shapes")
    )
    return Batch(images, colours.astype(np.int16), shapes.astype(np.int16))


def collate(sequences: Many[Sequence], seen: Many[Seen]) -> Batch:
    """Pads sequences into a batch. Padding stands last, so that nothing sees it."""
    batch = _seen(seen)
    n = -(-max(len(sequence.ids) for sequence in sequences) // ROUND) * ROUND
    shape = len(sequences), n
    ids, answers, branches = np.zeros(shape, np.int32), np.full(shape, IGNORE, np.int32), np.zeros(shape, np.int16)
    until, positions = np.full(shape, n, np.int32), np.zeros((3, *shape), np.int16)
    kinds: list[int] = []
    for i, sequence in enumerate(sequences):
        length = len(sequence.ids)
        ids[i, :length], branches[i, :length] = sequence.ids, sequence.branches
        positions[:, i, :length] = np.array(sequence.positions).T
        own = np.array(sequence.answers)
        answers[i, :length] = np.where(own == IGNORE, own, own + len(kinds))
        until[i, list(sequence.forgotten)] = list(sequence.forgotten.values())
        kinds += [ALL_KINDS.index(kind) for kind in sequence.kinds]
    batch.ids, batch.positions, batch.branches, batch.until, batch.answers = ids, positions, branches, until, answers
    batch.kinds = np.array(kinds)
    return batch
