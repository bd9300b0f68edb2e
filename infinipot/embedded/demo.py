"""Shows what bounded memory does: the packaged model watches minutes of its synthetic world and is asked about them.

Several policies watch the same frames side by side. Uses the public names only, and prints nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from infinipot import picture
from infinipot.audio import Sound
from infinipot.embedded.words import KINDS
from infinipot.embedded.world import Clip, Question
from infinipot.model import Model
from infinipot.picture import History
from infinipot.playing import play
from infinipot.policies import Policy
from infinipot.stats import Stats
from infinipot.video import Frame

FPS = 2.0
EVENTS = 6  # as many as can all differ in colour and in shape


@dataclass(frozen=True, slots=True)
class Reply:
    """One question about the frames up to `time` seconds, and what each policy's memory made the model answer."""

    time: float
    question: Question
    answers: tuple[str, ...]

    @property
    def right(self) -> tuple[bool, ...]:
        """Whether each answer is exactly the right one."""
        return tuple(answer == self.question.answer for answer in self.answers)


@dataclass(frozen=True, slots=True)
class Score:
    """Questions of one kind: how many were asked, the share that guessing gets right, and each policy's right ones."""

    kind: str
    asked: int
    chance: float
    right: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Demo:
    """The result of a run of the demo.

    Attributes:
        policies: their specs; other tuples are in this order.
        replies: in the order asked.
        stats: of each policy's stream, at the end.
        history: after each frame its time, the tokens that each stream holds, and those that a full cache would.
    """

    policies: tuple[str, ...]
    replies: tuple[Reply, ...]
    stats: tuple[Stats, ...]
    history: tuple[tuple[float, tuple[int, ...], int], ...]

    def scores(self) -> list[Score]:
        """The score of every kind that was asked, and that of all kinds together."""
        asked = [(kind, [reply for reply in self.replies if reply.question.kind == kind]) for kind in KINDS]
        return [_score(kind, replies) for kind, replies in [*asked, ("all", list(self.replies))] if replies]


def run(
    model: Model,
    policies: Sequence[Policy],
    *,
    clip: Clip,
    memory: int | str,
    on_frame: Callable[[Stats], None] = lambda stats: None,
    on_replies: Callable[[list[Reply]], None] = lambda replies: None,
) -> Demo:
    """Streams a clip through one memory per policy, and asks questions at several moments.

    Args:
        model: the embedded model.
        policies: one stream each.
        clip: what is watched; its seed draws the questions, too.
        memory: the cap of each stream.
        on_frame: called after each frame with the state of the first stream.
        on_replies: called after the questions of each moment.

    Raises:
        CapError: the cap is too small or too large, or a policy that never evicts is full.
    """
    draw = np.random.default_rng(clip.seed)
    replies: list[Reply] = []
    history = []
    with ExitStack() as opened:
        streams = [opened.enter_context(model.stream(memory, policy, fps=clip.fps)) for policy in policies]

        def note(frame: Frame | Sound) -> None:
            stats = [stream.stats() for stream in streams]
            history.append((frame.time, tuple(each.tokens for each in stats), stats[0].full_tokens))
            on_frame(stats[0])

        for moment in play(clip, streams, moments(clip), note):
            questions = clip.questions(moment.time, draw)
            answers = [model.ask([(stream, question.text) for stream in streams]) for question in questions]
            asked = [Reply(moment.time, *each) for each in zip(questions, map(tuple, answers), strict=True)]
            replies.extend(asked)
            on_replies(asked)
        stats = tuple(stream.stats() for stream in streams)
    return Demo(tuple(policy.spec for policy in policies), tuple(replies), stats, tuple(history))


def moments(clip: Clip) -> set[float]:
    """Frame times at which to ask: in turn while a shape is there and while none is, and at the end."""
    times = {(clip.frame_count - 1) / clip.fps}
    for number, (event, following) in enumerate(pairwise(clip.events)):
        begin, end = (event.end, following.start) if number % 2 else (event.start, event.end)
        times.add(int((begin + end) / 2 * clip.fps) / clip.fps)
    return times


def plot(demo: Demo, path: Path) -> None:
    """Draws the tokens that the first stream holds over video time, against its cap and a full cache.

    Args:
        demo: what happened.
        path: the picture; its suffix names the format (png, svg, pdf).

    Raises:
        InfinipotError: the file cannot be written.
    """
    history = History()
    for time, held, full in demo.history:
        history.add(time, held[0], full)
    asked = sorted({reply.time for reply in demo.replies})
    picture.draw_history(history, demo.stats[0].cap, path, demo.policies[0], asked)


def _score(kind: str, replies: Sequence[Reply]) -> Score:
    right = zip(*(reply.right for reply in replies), strict=True)
    chance = sum(reply.question.chance for reply in replies) / len(replies)
    return Score(kind, len(replies), chance, tuple(map(sum, right)))
