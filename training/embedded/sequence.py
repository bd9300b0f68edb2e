"""Clips as token sequences: what the chat template renders, with positions, masks and targets.

A sequence is a trunk (system prompt, video, remembered turns) with branches: questions that see the trunk up
to where they leave it and nothing of each other, as a stream is asked without being disturbed.
This file knows tokens, not pixels and not the model.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from infinipot.embedded.checkpoint import CELLS, SYSTEM, TOKENS_PER_SECOND, token_id
from infinipot.embedded.words import COLOURS, SHAPES
from training.embedded.pixels import IGNORE

# The decoder layers that look: for the same event before; at the patch before; for what a question names; for what is
# told next, or is the odd one out; for the latest event.
AGAIN, BEFORE, NAMED, TOLD, LATEST = range(5)
HERE = ((AGAIN, 2), (BEFORE, 2))  # layers and heads of a patch's last cell that look at what the patch shows,
CHANGE = (NAMED, 2)  # and at its first cell, which has looked at the patch before
TALLY = (TOLD, 3)  # and at all arrivals so far, alike


@dataclass(frozen=True, slots=True)
class Look:
    """What tokens should look at before they answer: some of a clip's events, by number.

    `layer` and `head` say which attention of the decoder is to do it (see `training.embedded.probes`); `part` which of
    the parts of the answer, divided by commas, they say; `throughout` that all tokens of this part should look, not the
    first alone.
    """

    layer: int
    head: int
    events: tuple[int, ...]
    part: int = 0
    throughout: bool = False


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
    forgotten: dict[int, int] = field(default_factory=dict)  # tokens, and the last one that sees each
    next_position: int = 0
    base: int = 0  # of the open vision span
    branch_count: int = 0
    open_branch: int = 0
    side: int = CELLS  # cells along a side of a frame
    system: str = SYSTEM

    def open_video(self) -> None:
        """The system prompt and the user turn, up to the first video token."""
        self._text(f"<|im_start|>system\n{self.system}<|im_end|>\n<|im_start|>user\n<|vision_start|>")
        self.base = self.next_position

    def patch(self, seconds: float) -> None:
        """One temporal patch, whose first frame is `seconds` after the first frame of its vision span.

        Cell (r, c) stands at (b + floor(tokens_per_second · seconds), b + r, b + c), where b is the position
        behind <|vision_start|>. Text behind it starts one above all positions so far.
        """
        time = self.base + int(TOKENS_PER_SECOND * seconds + 1e-6)
        for row in range(self.side):
            for column in range(self.side):
                self._append(video_token(self.tokenizer), (time, self.base + row, self.base + column))
        self.next_position = max(time, self.base + self.side - 1) + 1

    def cells(self) -> list[list[int]]:
        """The visual tokens of each temporal patch."""
        video = video_token(self.tokenizer)
        visual = [place for place, token in enumerate(self.ids) if token == video]
        return [visual[start : start + self.side**2] for start in range(0, len(visual), self.side**2)]

    def turn(self, kind: str, question: str, answer: str, *, behind_video: bool, looks: Iterable[Look] = ()) -> None:
        """A question and its answer, which is to be learned up to <|im_end|>."""
        opening = "<|vision_end|>" if behind_video else "<|im_start|>user\n"
        self._text(f"{opening}{question}<|im_end|>\n<|im_start|>assistant\n")
        self.asked.append((len(self.ids) - 1, *_named(question)))
        before: list[range] = []  # the tokens before each token of a part of the answer
        for part in answer.split(","):
            start = len(self.ids) - (not before)
            self._text(f"{',' * bool(before)}{part}", answer=len(self.kinds))
            before.append(range(start, len(self.ids) - 1))
        self._text("<|im_end|>", answer=len(self.kinds))
        for look in looks:
            tokens = before[look.part]
            self.looks += [(token, look) for token in (tokens if look.throughout else tokens[:1])]
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
def video_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of a visual token's slot."""
    return token_id(tokenizer, "<|video_pad|>")
