"""The plain records that pass between benchmarks, protocols and runs. Knows no file format, prompt or model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import infinipot
from infinipot.errors import SettingError
from infinipot.numbers import is_finite, is_whole

if TYPE_CHECKING:
    from infinipot.video import Video

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def counted(number: int, noun: str) -> str:
    """So many of something, in words: "1 question", "2 questions"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@dataclass(frozen=True, slots=True)
class Subtitle:
    """A line that is spoken from `start` until `end`, in seconds on the clock of the video's file."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Unit:
    """A question's place among those that have one score together.

    Attributes:
        id: the same for all of them, and for no others.
        place: of this question, from 0 on.
        size: how many there are. A unit has a score only if each of its questions has one.
        kind: by which of the benchmark's rules one score is made of theirs, where it has several.
    """

    id: str
    place: int
    size: int
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One question about a video.

    Attributes:
        id: unique within the benchmark and stable between runs.
        text: the question alone, without its options.
        options: texts of the choices, without letters; () where the answer is free.
        answer: a letter from "A" on where there are options, else the right or the reference text; None where the
            label is withheld.
        task: the task type that is reported apart.
        at: seconds on the clock of the video's file. The question is asked at this moment, on what was seen until
            then. None: after the whole video.
        group: a second partition that is reported, such as short, medium and long videos.
        given: the options as the annotations write them, where a prompt repeats that.
        subtitled: whether it is asked with the subtitles of its video, if there are some.
        judged: whether only a judge can tell if a free answer is right; False where it is compared by rule.
        also: answers that are right beside `answer`.
        parts: further partitions that are reported, each by the name of the part that the question is in.
        unit: the questions that it has one score with; None: it has a score of its own.
    """

    id: str
    text: str
    options: tuple[str, ...]
    answer: str | None
    task: str
    at: float | None = None
    group: str | None = None
    given: str = ""
    subtitled: bool = False
    judged: bool = False
    also: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    unit: Unit | None = None

    @property
    def reference(self) -> str | None:
        """The right answer, or all of them: "A or C"; None where the label is withheld."""
        return None if self.answer is None else " or ".join((self.answer, *self.also))

    @property
    def letters(self) -> str:
        """The letters of the options, in order: "ABCD" where there are four."""
        return LETTERS[: len(self.options)]


@dataclass(frozen=True, slots=True)
class Item:
    """A video with all questions about it: it is watched once.

    Attributes:
        id: the video's path in the data folder.
        video: the file.
        questions: in the order of the annotations.
        subtitles: by time; only where the variant has them.
    """

    id: str
    video: Path
    questions: tuple[Question, ...]
    subtitles: tuple[Subtitle, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """An annotation or video that cannot be used: a line of a run's file.

    Attributes:
        where: an annotation's place, or a video's id.
        what: what is wrong, for a person.
        questions: ids of the questions that are not asked because of it.
        reserve: the `reserve` that they need, where a smaller one is the reason.
    """

    type: ClassVar[str] = "problem"

    where: str
    what: str
    questions: Sequence[str] = ()
    reserve: int | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Scored:
    """A question's score, or a unit's. `correct` lies in 0..1; None: not judged, or the label is withheld."""

    question_id: str
    task: str
    group: str | None
    correct: float | None
    parts: tuple[str, ...] = ()
    unit: Unit | None = None


UnitScore = Callable[[Sequence[Scored]], float]
"""One score in 0..1 of all the questions of a unit, which are given in their order, each with a score."""


def mean(questions: Sequence[Scored]) -> float:
    """The mean of the questions' scores."""
    return sum(one.correct or 0.0 for one in questions) / len(questions)


@dataclass(frozen=True, slots=True)
class FrameSampling:
    """Which frames of a video are watched, and how large.

    Attributes:
        kind: "uniform": `frames` at even distances over the video, fewer where that were more than `fps` a second.
            "fps": `fps` a second, however many.
        frames: see "uniform".
        fps: see both; None with "uniform": no limit.
        pixels: least and most pixels of a resized frame, for `Model.stream`; None: as the model's processor has it.

    Raises:
        SettingError: a rate or a number of frames that cannot be.
    """

    kind: Literal["uniform", "fps"]
    frames: int | None = None
    fps: float | None = None
    pixels: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and not (is_finite(self.fps) and self.fps > 0):
            raise SettingError(f"fps={self.fps!r}: give a number of frames per second above 0")
        if self.frames is not None and not (is_whole(self.frames) and self.frames > 0):
            raise SettingError(f"{self.frames!r} frames of a video: give a whole number, 1 or more")

    @classmethod
    def of(
        cls, frames: int | None = None, fps: float | None = None, pixels: tuple[int, int] | None = None
    ) -> "FrameSampling":
        """`frames` at even distances, or `fps` a second; of both, whichever are fewer."""
        return cls("fps" if frames is None else "uniform", frames, fps, pixels)

    def open(self, video: str | Path, start: float = 0.0, end: float | None = None) -> "Video":
        """These frames of a video, or of a part of it, read as they are asked for.

        Raises:
            VideoError: it cannot be read; at the first frame, where it does not say how long it is, as `frames` needs.
        """
        return infinipot.open_video(video, fps=self.fps, frames=self.frames, start=start, end=end)


def score(question: Question, answer: str | None) -> float | None:
    """1 for a right answer, 0 for a wrong or unparsed one; None without a label, or where a judge is needed.

    Args:
        answer: as the protocol read it.
    """
    if question.answer is None or question.judged:
        return None
    return float(answer in (question.answer, *question.also))
