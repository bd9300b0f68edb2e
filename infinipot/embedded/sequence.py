"""Clips as token sequences: what the chat template renders, with positions, masks and targets.

A sequence is a trunk (system prompt, video, remembered turns) with branches: questions that see the trunk up
to where they leave it and nothing of each other, as a stream is asked without being disturbed.
This file knows tokens and pixels, not the model.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import lru_cache

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from infinipot.embedded.checkpoint import MERGE, PATCH, SYSTEM, TEMPORAL_PATCH, TOKENS_PER_SECOND, token_id
from infinipot.embedded.drawing import SIZE
from infinipot.embedded.world import COLOURS, SHAPES, Clip

CELLS = SIZE // PATCH // MERGE  # tokens along a side of a frame
IGNORE = -100
_CORNERS = 2 * (np.arange(CELLS**2) >= CELLS**2 // 2) + (np.arange(CELLS**2) % CELLS >= CELLS // 2)  # of each cell
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # the processor's own
_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


@dataclass(frozen=True, slots=True)
class Look:
    """What a token should look at before it answers: some of a clip's events, by number.

    `stage` and `head` say which attention is to do it (see `infinipot.embedded.probes`); `part` which of the parts of
    the answer, divided by commas, the token begins.
    """

    stage: int
    head: int
    events: tuple[int, ...]
    part: int = 0


@dataclass(slots=True)
class Sequence:
    """The tokens of one clip and its turns. Methods append to the trunk, or to the branch that is open."""

    tokenizer: PreTrainedTokenizerBase
    ids: list[int] = field(default_factory=list)
    positions: list[tuple[int, int, int]] = field(default_factory=list)  # temporal, row, column
    branches: list[int] = field(default_factory=list)  # 0 is the trunk
    answers: list[int] = field(default_factory=list)  # the answer that a token belongs to, or IGNORE
    kinds: list[str] = field(default_factory=list)  # of each answer
    looks: list[tuple[int, Look]] = field(default_factory=list)  # and the tokens that should look so
    asked: list[tuple[int, ...]] = field(default_factory=list)  # the last token of each question, and what it names
    next_position: int = 0
    base: int = 0  # of the open vision span
    branch_count: int = 0
    open_branch: int = 0

    def open_video(self) -> None:
        """The system prompt and the user turn, up to the first video token."""
        self._text(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n<|vision_start|>")
        self.base = self.next_position

    def patch(self, seconds: float) -> None:
        """One temporal patch, whose first frame is `seconds` after the first frame of its vision span.

        Cell (r, c) stands at (b + floor(tokens_per_second · seconds), b + r, b + c), where b is the position
        behind <|vision_start|>. Text behind it starts one above all positions so far.
        """
        time = self.base + int(TOKENS_PER_SECOND * seconds + 1e-6)
        for row in range(CELLS):
            for column in range(CELLS):
                self._append(_video_token(self.tokenizer), (time, self.base + row, self.base + column))
        self.next_position = max(time, self.base + CELLS - 1) + 1

    def turn(self, kind: str, question: str, answer: str, *, behind_video: bool, looks: Iterable[Look] = ()) -> None:
        """A question and its answer, which is to be learned up to <|im_end|>."""
        opening = "<|vision_end|>" if behind_video else "<|im_start|>user\n"
        self._text(f"{opening}{question}<|im_end|>\n<|im_start|>assistant\n")
        self.asked.append((len(self.ids) - 1, *_named(question)))
        before: list[int] = []  # the token before each part of the answer
        for part in answer.split(","):
            before.append(len(self.ids) - (not before))
            self._text(f"{',' * (len(before) > 1)}{part}", answer=len(self.kinds))
        self._text("<|im_end|>", answer=len(self.kinds))
        self.looks += [(before[look.part], look) for look in looks]
        self._text("\n")
        self.kinds.append(kind)

    def resume_video(self) -> None:
        """A new user turn, up to its first video token."""
        self._text("<|im_start|>user\n<|vision_start|>")
        self.base = self.next_position

    @contextmanager
    def branch(self) -> Iterator[None]:
        """What is appended inside is seen by nothing outside."""
        position = self.next_position
        self.branch_count += 1
        self.open_branch = self.branch_count
        yield
        self.open_branch = 0
        self.next_position = position

    def _text(self, text: str, answer: int = IGNORE) -> None:
        for token in _tokens(self.tokenizer, text):
            self._append(token, (self.next_position,) * 3, answer)
            self.next_position += 1

    def _append(self, token: int, position: tuple[int, int, int], answer: int = IGNORE) -> None:
        self.ids.append(token)
        self.positions.append(position)
        self.branches.append(self.open_branch)
        self.answers.append(answer)


@dataclass(slots=True)
class Pixels:
    """What the vision tower sees of one clip and what it should make of it, T temporal patches.

    Attributes:
        patches: `[T * 64, 384]` float32, as the video processor lays them out.
        colours: `[T * 16]`, the colour (its place in `COLOURS`) that each cell shows; `len(COLOURS)` for
            none, IGNORE where too little is visible.
        shapes: `[T * 16]`, the same for `SHAPES`.
        centres: `[T * 16]`, 1 where the centre of a shape is, 0 elsewhere.
        arrivals: `[T * 16]`, 1 where the centre of a shape is that was not there before, 0 elsewhere.
        corners: `[T * 16]`, the corner (its place in `PLACES`) of the centre of the shape that a cell shows, or else of
            the cell.
        events: `[T * 16]`, the number of the event that is shown, in the order of the clip, else IGNORE.
        lasting: `[T * 16]`, 1 where the second frame still shows a shape, 0 where only the first does, else IGNORE.
    """

    patches: torch.Tensor
    colours: torch.Tensor
    shapes: torch.Tensor
    centres: torch.Tensor
    arrivals: torch.Tensor
    corners: torch.Tensor
    events: torch.Tensor
    lasting: torch.Tensor


@dataclass(slots=True)
class Batch:
    """Sequences padded on the right to one length n.

    Attributes:
        ids: `[B, n]`.
        positions: `[3, B, n]`.
        mask: `[B, 1, n, n]`, true where a query (row) sees a key (column).
        answers: `[B, n]`, the number of the answer in `kinds` that a token belongs to, or IGNORE.
        kinds: the kind of each answer in the batch.
        looks: `[looks, 4]`: sequence, token, stage and head of each (see `Look`).
        looked_at: `[looks, n]`, true for the video tokens to look at.
        asked: `[turns, 6]`: sequence, the last token before the answer, the colours and the shapes that the question
            names, two at the most of each (places in `COLOURS` and `SHAPES`), else IGNORE.
        pixels: of all clips, one behind the other.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    answers: torch.Tensor
    kinds: list[str]
    looks: torch.Tensor
    looked_at: torch.Tensor
    asked: torch.Tensor
    pixels: Pixels


def collate(sequences: list[Sequence], pixels: list[Pixels]) -> Batch:
    """Pad sequences into a batch. Padding stands last, so that nothing sees it."""
    n = max(len(sequence.ids) for sequence in sequences)
    ids, answers = torch.zeros(len(sequences), n, dtype=torch.long), torch.full((len(sequences), n), IGNORE)
    positions, branches = torch.zeros(3, len(sequences), n, dtype=torch.long), torch.zeros(len(sequences), n)
    kinds: list[str] = []
    looks: list[tuple[int, int, int, int]] = []
    looked_at: list[torch.Tensor] = []
    for i, sequence in enumerate(sequences):
        length = len(sequence.ids)
        ids[i, :length] = torch.tensor(sequence.ids)
        positions[:, i, :length] = torch.tensor(sequence.positions).T
        branches[i, :length] = torch.tensor(sequence.branches)
        own = torch.tensor(sequence.answers)
        answers[i, :length] = torch.where(own == IGNORE, own, own + len(kinds))
        kinds += sequence.kinds
        shown = torch.full((n,), IGNORE)
        shown[ids[i] == _video_token(sequence.tokenizer)] = pixels[i].events
        for token, look in sequence.looks:
            target = torch.isin(shown, torch.tensor(look.events))
            target[token:] = False
            if target.any():
                looks.append((i, token, look.stage, look.head))
                looked_at.append(target)
    seen = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    mask = seen & torch.ones(n, n, dtype=torch.bool).tril()
    asked = torch.tensor([(i, *about) for i, sequence in enumerate(sequences) for about in sequence.asked]).view(-1, 6)
    targets = torch.stack(looked_at) if looked_at else torch.zeros(0, n, dtype=torch.bool)
    return Batch(
        ids,
        positions,
        mask[:, None],
        answers,
        kinds,
        torch.tensor(looks, dtype=torch.long).view(-1, 4),
        targets,
        asked,
        join(pixels),
    )


def join(pixels: Iterable[Pixels]) -> Pixels:
    """The pixels of several clips, one behind the other."""
    pixels = list(pixels)
    return Pixels(*(torch.cat([getattr(one, each.name) for one in pixels]) for each in fields(Pixels)))


def see(clip: Clip, moments: list[tuple[float, float]]) -> Pixels:
    """The pixels of temporal patches, given by the times of their two frames."""
    images, covered = clip.draw([time for pair in moments for time in pair])
    cell = SIZE // CELLS
    areas = covered.reshape(-1, TEMPORAL_PATCH, CELLS, cell, CELLS, cell).sum((3, 5))
    first, second = areas.reshape(-1, TEMPORAL_PATCH, CELLS**2).swapaxes(0, 1)  # [T, cells] each, pixels
    area = np.maximum(first, second)
    shown = [clip.visible(one) or clip.visible(other) for one, other in moments]
    labels = []
    for names, attribute in ((list(COLOURS), "colour"), (list(SHAPES), "shape")):
        there = np.array([[names.index(getattr(event, attribute))] if event else [0] for event in shown])
        labels.append(np.where(area >= 30, there, np.where(area > 0, IGNORE, len(names))))
    centres, arrivals = np.zeros_like(area, np.int64), np.zeros_like(area, np.int64)
    corners = np.tile(_CORNERS, (len(area), 1))
    last = None
    for t, (event, pair) in enumerate(zip(shown, moments, strict=True)):
        if event:
            x, y = event.centre(max(pair[0], event.start))
            middle = int(y // cell) * CELLS + int(x // cell)
            centres[t, middle] = 1
            corners[t, area[t] >= 30] = _CORNERS[middle]
            arrivals[t] = centres[t] * (event is not last)
        last = event
    numbers = np.array([[clip.events.index(event)] if event else [0] for event in shown])
    events = np.where(area >= 30, numbers, IGNORE)
    labels += [
        centres,
        arrivals,
        corners,
        events,
        np.where(second >= 30, 1, np.where((second == 0) & (first >= 30), 0, IGNORE)),
    ]
    return Pixels(patchify(images), *(torch.from_numpy(label.reshape(-1)) for label in labels))


def patchify(images: np.ndarray) -> torch.Tensor:
    """Frames `[2T, 64, 64, 3]` uint8 to normalised patches `[T * 64, 384]`, as the video processor does."""
    pixels = (images.astype(np.float32) / 255 - _MEAN) / _STD
    side = (CELLS, MERGE, PATCH)
    split = pixels.reshape(-1, TEMPORAL_PATCH, *side, *side, 3)  # t, f, row, mr, pr, column, mc, pc, channel
    ordered = split.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)  # t, row, column, mr, mc, channel, f, pr, pc
    return torch.from_numpy(np.ascontiguousarray(ordered).reshape(-1, 3 * TEMPORAL_PATCH * PATCH**2))


def _named(question: str) -> Iterator[int]:
    """The places of the first two colours and the first two shapes in a question, else IGNORE."""
    words = re.findall("[a-z]+", question)
    for names in (list(COLOURS), list(SHAPES)):
        places = [names.index(word) for word in words if word in names]
        yield from (places + [IGNORE] * 2)[:2]


@lru_cache(maxsize=20_000)
def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text)["input_ids"])


@lru_cache
def _video_token(tokenizer: PreTrainedTokenizerBase) -> int:
    return token_id(tokenizer, "<|video_pad|>")
