"""What is asked of a stream, and with which options. Knows no stream."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

from infinipot.config import Sampling
from infinipot.engine.looking import Look
from infinipot.errors import QuestionError
from infinipot.numbers import is_finite


class SamplingOptions(TypedDict, total=False):
    """How the tokens of an answer are chosen: the fields of `Sampling`."""

    temperature: float | None
    top_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    seed: int
    stop: str | Sequence[str]


class AskOptions(SamplingOptions, total=False):
    """The options of `Stream.ask`, for calls that pass them on: a type checker then knows their names and types."""

    max_new_tokens: int | None
    remember: bool
    on_text: Callable[[str], None] | None
    evidence: bool
    look_again: int
    look_pixels: tuple[int, int] | None
    window: float | None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and how it is to be answered: see `Stream.ask`.

    Attributes:
        text: in words.
        max_new_tokens: the longest answer; None for as long as there is room.
        remember: whether question and answer become part of the memory.
        on_text: called with each new piece of the answer.
        sampling: how tokens are chosen.
        evidence: whether the answer says what it rests on.
        look: what is looked at again.
        window: the newest seconds of the video that it is about; None for all that is held.

    Raises:
        QuestionError: a window that is no time.
    """

    text: str
    max_new_tokens: int | None
    remember: bool
    on_text: Callable[[str], None] | None
    sampling: Sampling
    evidence: bool = False
    look: Look | None = None
    window: float | None = None

    def __post_init__(self) -> None:
        if self.window is None:
            return
        if not (is_finite(self.window) and self.window > 0):
            raise QuestionError(f"window={self.window!r}: give seconds, a finite number above 0")
        object.__setattr__(self, "window", float(self.window))

    @classmethod
    def of(
        cls,
        text: str,
        *,
        max_new_tokens: int | None = None,
        remember: bool = False,
        on_text: Callable[[str], None] | None = None,
        evidence: bool = False,
        look_again: int = 0,
        look_pixels: tuple[int, int] | None = None,
        window: float | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> "Question":
        """A question with the options of `Stream.ask`.

        Raises:
            QuestionError: a value of `sampling`, see `Sampling`, or the window is out of range.
        """
        look = Look.of(look_again, look_pixels)
        return cls(text, max_new_tokens, remember, on_text, Sampling(**sampling), evidence, look, window)
