"""What the model is taught and asked: clips, questions and turns put into sequences, each from one seed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from transformers import PreTrainedTokenizerBase

from infinipot.embedded.checkpoint import MAX_POSITION, SYSTEM, TOKENS_PER_SECOND
from infinipot.embedded.facts import BACKGROUNDS
from infinipot.embedded.words import KINDS, LISTINGS, LONGEST_LIST, NUMBERS
from infinipot.embedded.world import Clip, Event, Question
from training.embedded.pixels import CELL, IGNORE, Pixels, see
from training.embedded.sequence import LATEST, NAMED, TOLD, Look, Sequence

MOST_COUNTED = len(NUMBERS) - 1  # from the sixth event on the answer stays "many"
TEXT_ROOM = 150  # positions left for text behind the longest video
SLOWEST, FASTEST = 0.25, 2.0  # frames a second
ODD_SHARE = 0.4  # of clips with events enough have an odd one out for sure: the rarest question, and slow to learn
FORGETFUL_SHARE = 0.6  # of clips lose visual tokens on the way
ASKED_AT_ONCE, LISTED_AT_ONCE = 13, 2  # turns at one moment of a training clip, and how many of them list
C = TypeVar("C", bound=Clip)
Moment = tuple[float, float]  # times of the two frames of a temporal patch, in seconds


def glimpses(seed: int, patches: int, *, calm: bool) -> Pixels:
    """Every other of `2 * patches` temporal patches of a clip with as many events as it has room for.

    A `calm` clip has a still background and no crowd.
    """
    rng = np.random.default_rng((seed, 1))
    background, crowd = ("still", 0) if calm else (str(rng.choice(BACKGROUNDS)), None)
    clip = Clip(seed, 4 * patches / FASTEST, FASTEST, 4 * patches // 5, background, crowd=crowd)
    return see(clip, [(4 * k / FASTEST, (4 * k + 1) / FASTEST) for k in range(patches)])


def lesson(tokenizer: PreTrainedTokenizerBase, seed: int, patches: int) -> tuple[Sequence, Pixels]:
    """A training sequence: about `patches` temporal patches of a clip, many questions at their end and before.

    Frame rates vary, and in half of the cases stretches in which nothing happens are left out, as a camera with motion
    detection does, so that positions up to MAX_POSITION occur. Sometimes a turn stays in the dialogue and the video
    goes on behind it; sometimes the last patch is an odd frame, twice.
    """
    rng = np.random.default_rng((seed, 1))
    most_seconds = (MAX_POSITION - TEXT_ROOM) / TOKENS_PER_SECOND
    whole = patches * int(rng.choice([1, 1, 2, 4]))
    slowest = max(SLOWEST, 2 * whole / most_seconds)
    fps = float(np.exp(rng.uniform(np.log(slowest), np.log(max(slowest, FASTEST)))))
    # It goes on two patches longer than it is watched, so that watching may end within an event.
    most_events = 2 * (patches + 2) // 5
    few = min(most_events, 8)
    events = int(rng.integers(0, few + 1) if rng.random() < 0.85 else rng.integers(few, most_events + 1))
    cast = "odd" if events > 2 and rng.random() < ODD_SHARE else None
    clip = Clip(seed, 2 * (whole + 2) / fps, fps, events, str(rng.choice(BACKGROUNDS)), cast)
    moments = without_stillness(clip, [(2 * k / fps, (2 * k + 1) / fps) for k in range(whole)], patches, rng)
    if rng.random() < 0.15:
        moments[-1] = (moments[-1][0], moments[-1][0])
    asked = {len(moments) - 1, *stops(clip, moments, rng)}
    sequence = Sequence(tokenizer)
    watch(sequence, clip, moments, asked, _ask, rng)
    seen = see(clip, moments)
    if rng.random() < FORGETFUL_SHARE:
        _forget(sequence, seen, rng)
    return sequence, seen


def watch(
    sequence: Sequence,
    clip: C,
    moments: list[Moment],
    asked: set[int],
    ask: Callable[[Sequence, C, float, np.random.Generator], None],
    rng: np.random.Generator,
) -> None:
    """Puts a clip into a sequence, with questions behind the patches `asked`; some turns stay in the dialogue."""
    sequence.open_video()
    span = 0
    for k, (start, at) in enumerate(moments):
        sequence.patch(start - moments[span][0])
        if k not in asked:
            continue
        ask(sequence, clip, at, rng)
        if k < len(moments) - 1 and rng.random() < 0.4:
            remembered = clip.questions(at, rng)
            question = remembered[rng.integers(len(remembered))]
            sequence.turn(question.kind, question.text, question.answer, behind_video=True)
            sequence.resume_video()
            span = k + 1


def exam(
    tokenizer: PreTrainedTokenizerBase, clip: Clip, patches: int, rng: np.random.Generator, system: str = SYSTEM
) -> tuple[Sequence, Pixels, list[Question]]:
    """The first `patches` temporal patches of a clip, then a question of every kind, each as if asked alone.

    `system` is the message that the chat template puts first.
    """
    moments = [(2 * k / clip.fps, (2 * k + 1) / clip.fps) for k in range(patches)]
    sequence = Sequence(tokenizer, side=clip.size // CELL, system=system)
    sequence.open_video()
    for start, _ in moments:
        sequence.patch(start)
    questions = clip.questions(moments[-1][1], rng, plain=True)
    for question in questions:
        with sequence.branch():
            sequence.turn(question.kind, question.text, question.answer, behind_video=True)
    return sequence, see(clip, moments), questions


def without_stillness(clip: Clip, moments: list[Moment], patches: int, rng: np.random.Generator) -> list[Moment]:
    """Leaves out runs of patches without an event until `patches` are left; the first and the last patch stay."""
    free = [k for k, pair in enumerate(moments) if not any(map(clip.visible, pair)) and 0 < k < len(moments) - 1]
    run = int(rng.choice([1, 4, 16]))
    order = rng.random(len(moments) // run + 1).repeat(run)
    left_out = sorted(free, key=lambda k: (order[k], k))[: max(0, len(moments) - patches)]
    return [moment for k, moment in enumerate(moments) if k not in set(left_out)]


def stops(clip: Clip, moments: list[Moment], rng: np.random.Generator) -> list[int]:
    """Patches after which to ask, one in 24; half of them while a shape is there or has just gone."""
    count = max(1, len(moments) // 24)
    busy = [k for k, pair in enumerate(moments) if any(map(clip.visible, pair))] or [0]
    return [int(rng.choice(busy) if rng.random() < 0.5 else rng.integers(len(moments))) for _ in range(count)]


def _forget(sequence: Sequence, pixels: Pixels, rng: np.random.Generator) -> None:
    """Hides visual tokens from what comes some patches later, at random, more of them at some times than at others.

    So how much there is to see of a time or of an event says nothing about how much there was. Of each event a cell in
    which it arrives stays, and the last cell of that patch.
    """
    cells = np.array(sequence.cells())
    events, arrivals = (labels.view(cells.shape).numpy() for labels in (pixels.events, pixels.arrivals))
    knots = 1 - rng.random(rng.integers(2, 6)) ** 3  # mostly all but a few
    share = np.interp(np.linspace(0, 1, len(cells)), np.linspace(0, 1, len(knots)), knots)[:, None]
    of_event = rng.random(events.max(initial=0) + 1)
    gone = rng.random(cells.shape) < np.where(events == IGNORE, share, of_event[events.clip(min=0)])
    gone &= arrivals == 0
    gone[:, -1] &= ~arrivals.any(1)
    delay = int(rng.choice([1, 2, 4, 8]))
    for patch, goes, last in zip(cells, gone, cells[delay:, -1], strict=False):
        sequence.forgotten |= dict.fromkeys(patch[goes].tolist(), int(last))


def _ask(sequence: Sequence, clip: Clip, at: float, rng: np.random.Generator) -> None:
    """Branches with questions of all kinds and the listings, now and then one as a follow-up of another."""
    of_kind: dict[str, list[_Turn]] = {kind: [] for kind in KINDS}
    for question in clip.every_question(at, rng):
        looks = _looks(clip, question, at)
        of_kind[question.kind].append(_Turn(question.kind, question.text, question.answer, looks))
    named = tuple(Look(TOLD, 0, (number,), number) for number in range(len(clip.seen(at))))
    turns = [_Turn("list", request, answer, named) for request, answer in _listings(clip, at)]
    turns = [turns[i] for i in rng.permutation(len(turns))[:LISTED_AT_ONCE]]
    waiting = [[turns[i] for i in rng.permutation(len(turns))] for turns in of_kind.values() if turns]
    while waiting and len(turns) < ASKED_AT_ONCE:
        turns.extend(asked.pop() for asked in waiting)  # one of each kind a round
        waiting = [asked for asked in waiting if asked]
    turns = [turns[i] for i in rng.permutation(len(turns))]
    while turns:
        with sequence.branch():
            turns.pop().put(sequence, behind_video=True)
            while turns and rng.random() < 0.25:
                turns.pop().put(sequence, behind_video=False)


@dataclass(frozen=True, slots=True)
class _Turn:
    kind: str
    question: str
    answer: str
    looks: tuple[Look, ...]

    def put(self, sequence: Sequence, *, behind_video: bool) -> None:
        sequence.turn(self.kind, self.question, self.answer, behind_video=behind_video, looks=self.looks)


def _looks(clip: Clip, question: Question, at: float) -> tuple[Look, ...]:
    """Two heads look at the events that a question names, one of the last layer at the latest one to count.

    For the odd one out the first looks at what comes again and again, and one of the next layer at what is not that.
    """

    def numbers(*events: Event) -> tuple[int, ...]:
        return tuple(clip.events.index(event) for event in events)

    if question.kind == "count":
        return (Look(LATEST, 0, numbers(*clip.seen(at)[MOST_COUNTED - 1 :] or clip.seen(at)[-1:])),)
    if question.kind == "odd":
        regulars = [event for event in clip.seen(at) if event not in question.about]
        return (Look(NAMED, 0, numbers(*regulars)), Look(TOLD, 2, numbers(*question.about)))
    if not question.about:
        return ()
    places = question.kind == "where"  # two words, of which neither tells the other
    named = question.about[0], question.about[-1]
    return tuple(Look(NAMED, head, numbers(event), throughout=places) for head, event in enumerate(named))


def _listings(clip: Clip, at: float) -> list[tuple[str, str]]:
    """Requests for all events up to `at`, and their answers: "red circle, ..." and "circle red, ...".

    Each way round once more with the corner or the third, where that is clear: "circle red top left, ...".
    """
    seen = clip.seen(at)
    if len(seen) > LONGEST_LIST:
        return []
    answers = (
        [event.name for event in seen],
        [f"{event.shape} {event.colour}" for event in seen],
        [f"{event.shape} {event.colour} {event.place or ''}".strip() for event in seen],
        [f"{event.name} {event.third(at) or ''}".strip() for event in seen],
    )
    return [(request, ", ".join(answer) or "none") for request, answer in zip(LISTINGS, answers, strict=True)]
