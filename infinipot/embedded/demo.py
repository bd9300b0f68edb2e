"""Shows what bounded memory does: the packaged model watches minutes of its synthetic world and is asked about them.

Several policies watch the same frames side by side. Uses the public names only, and prints nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from infinipot.audio import Sound
from infinipot.embedded.world import KINDS, Clip, Question
from infinipot.errors import InfinipotError
from infinipot.model import Model
from infinipot.playing import play
from infinipot.policies import Policy
from infinipot.stats import Stats
from infinipot.video import Frame

FPS = 2.0
EVENTS = 6  # as many as can all differ in colour and in shape
_FULL, _HELD, _CAP = "0.35", "tab:blue", "tab:red"  # colours


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
    """What happened.

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
    minutes = np.array([time for time, _, _ in demo.history]) / 60
    held = np.array([tokens[0] for _, tokens, _ in demo.history])
    full = np.array([tokens for _, _, tokens in demo.history])
    cap = demo.stats[0].cap
    figure = Figure(figsize=(9, 6), dpi=150, layout="constrained")
    figure.suptitle(f"{demo.policies[0]}: {minutes[-1]:.0f} minutes of video in {cap} tokens of memory")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))

    above.plot(minutes, full, color=_FULL, linewidth=2)
    above.plot(minutes, held, color=_HELD, linewidth=2)
    _label(above, minutes[-1], full[-1], f"full cache\n{full[-1]:,}", _FULL)
    _label(above, minutes[-1], held[-1], f"held\n{held[-1]:,}", _HELD)

    below.plot(minutes, held, color=_HELD, linewidth=1)
    below.axhline(cap, color=_CAP, linestyle="--")
    _label(below, minutes[-1], cap, f"cap\n{cap:,}", _CAP)
    _label(below, minutes[-1], held[-1], f"held\n{held[-1]:,}", _HELD)
    asked = sorted({reply.time / 60 for reply in demo.replies})
    below.plot(asked, [0] * len(asked), "^", color=_FULL, clip_on=False, label="questions asked")
    below.legend(loc="lower left", bbox_to_anchor=(0, 0.05), frameon=False)

    room = "room for the next block, a question and its answer"
    below.text(minutes[-1] / 2, (cap + held[-1]) / 2, room, ha="center", va="center", color=_FULL)

    below.set(
        xlabel="video time (minutes)",
        xlim=(0, minutes[-1] + minutes[1]),
        ylim=(0, 1.15 * cap),
        ylabel="tokens, enlarged",
    )
    above.set(ylim=(0, None), ylabel="tokens per layer and KV head")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="y", color="0.9")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise InfinipotError(f"{path}: the picture cannot be written: {error}") from error


def _label(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """Writes beside the end of a line."""
    axes.annotate(text, (x, y), (8, 0), textcoords="offset points", va="center", color=colour, annotation_clip=False)


def _score(kind: str, replies: Sequence[Reply]) -> Score:
    right = zip(*(reply.right for reply in replies), strict=True)
    chance = sum(reply.question.chance for reply in replies) / len(replies)
    return Score(kind, len(replies), chance, tuple(map(sum, right)))
