"""What the witness is taught: clips, questions and lists put into sequences, each from one seed."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from infinipot.embedded.checkpoint import TOKENS_PER_SECOND
from infinipot.embedded.facts import BACKGROUNDS
from infinipot.embedded.words import COLOURS, KINDS, SHAPES
from infinipot.witness.checkpoint import CELLS, MAX_POSITION, SIZE, SYSTEM
from training.embedded.lessons import FASTEST, SLOWEST, TEXT_ROOM, Moment, stops, watch, without_stillness
from training.embedded.sequence import Sequence
from training.witness.world import GrownClip

IGNORE = -100  # the label that losses skip
SHOWN, TRACE = 30, 4  # pixels of a cell from which on it shows a shape, and up to which it shows none
TOGETHER_SHARE = 0.3  # of clips have events that overlap
ODD_SHARE = 0.35  # of clips with events enough have an odd one out for sure
ASKED_AT_ONCE, LISTED_AT_ONCE = 16, 3  # turns at one moment, and how many of them list


@dataclass(slots=True)
class Seen:
    """What is to be seen in T temporal patches.

    Attributes:
        images: `[T, 2, SIZE, SIZE, 3]` uint8.
        colours, shapes: `[T * CELLS ** 2]` int64: the place in `COLOURS` and `SHAPES` of what each cell shows; one
            behind the last for nothing, IGNORE where too little is visible.
        events: the number of the event that each cell shows, or IGNORE.
        arrivals: true where an event shows that did not in the patch before.
    """

    images: np.ndarray
    colours: np.ndarray
    shapes: np.ndarray
    events: np.ndarray
    arrivals: np.ndarray


def see(clip: GrownClip, moments: list[Moment]) -> Seen:
    """What temporal patches show, given by the times of their two frames."""
    cell = SIZE // CELLS
    images = np.empty((len(moments), 2, SIZE, SIZE, 3), np.uint8)
    events = np.full((len(moments), CELLS**2), IGNORE)
    arrivals = np.zeros((len(moments), CELLS**2), bool)
    empty = np.ones((len(moments), CELLS**2), bool)
    before: set[int] = set()
    for t, pair in enumerate(moments):
        most = np.full(CELLS**2, TRACE, np.float32)
        shown: set[int] = set()
        for frame, time in enumerate(pair):
            images[t, frame], covered = clip.draw_events(time)
            areas = covered.reshape(-1, CELLS, cell, CELLS, cell).sum((2, 4)).reshape(-1, CELLS**2)
            for event, area in zip(clip.showing(time), areas, strict=True):
                number = clip.events.index(event)
                shown.add(number)
                empty[t] &= area <= TRACE
                wins = area > most
                most = np.where(wins, area, most)
                events[t] = np.where(wins, number, events[t])
        events[t] = np.where(most >= SHOWN, events[t], IGNORE)
        arrivals[t] = np.isin(events[t], list(shown - before))
        before = shown
    labels = [
        np.where(
            events != IGNORE,
            _of_events(clip, names, attribute)[events.clip(min=-1)],
            np.where(empty, len(names), IGNORE),
        )
        for names, attribute in ((tuple(COLOURS), "colour"), (SHAPES, "shape"))
    ]
    return Seen(images, *(label.reshape(-1) for label in (*labels, events, arrivals)))


def _of_events(clip: GrownClip, names: tuple[str, ...], attribute: str) -> np.ndarray:
    """The place of each event's colour or shape, and one more entry, for cells without an event."""
    return np.array([names.index(getattr(event, attribute)) for event in clip.events] + [0])


def glimpses(seed: int, patches: int, *, calm: bool) -> Seen:
    """Every other of `2 * patches` temporal patches of a clip with as many events as it has room for.

    A `calm` clip has a still background and no crowd.
    """
    rng = np.random.default_rng((seed, 1))
    clip = GrownClip(
        seed,
        4 * patches / FASTEST,
        FASTEST,
        4 * patches // 5,
        "still" if calm else str(rng.choice(BACKGROUNDS)),
        crowd=0 if calm else None,
        together=bool(rng.random() < TOGETHER_SHARE),
        size=SIZE,
    )
    return see(clip, [(4 * k / FASTEST, (4 * k + 1) / FASTEST) for k in range(patches)])


def lesson(tokenizer: PreTrainedTokenizerBase, seed: int, patches: int, forgetful: float) -> tuple[Sequence, Seen]:
    """A training sequence: `patches` temporal patches of a clip, many questions at their end and before.

    Frame rates vary, and in half of the cases stretches in which nothing happens are left out, as a camera with motion
    detection does, so that positions up to MAX_POSITION occur. Sometimes a turn stays in the dialogue and the video
    goes on behind it; sometimes the last patch is an odd frame, twice.

    Args:
        forgetful: the share of clips of which visual tokens are hidden on the way.
    """
    rng = np.random.default_rng((seed, 1))
    whole = patches * int(rng.choice([1, 1, 2, 4]))
    slowest = max(SLOWEST, 2 * whole * TOKENS_PER_SECOND / (MAX_POSITION - TEXT_ROOM))
    fps = float(np.exp(rng.uniform(np.log(slowest), np.log(max(slowest, FASTEST)))))
    clip = _clip(seed, 2 * (whole + 2) / fps, fps, patches, rng)
    moments = without_stillness(clip, [(2 * k / fps, (2 * k + 1) / fps) for k in range(whole)], patches, rng)
    if rng.random() < 0.1:
        moments[-1] = (moments[-1][0], moments[-1][0])
    asked = {len(moments) - 1, *stops(clip, moments, rng)}
    sequence = Sequence(tokenizer, side=CELLS, system=SYSTEM)
    watch(sequence, clip, moments, asked, _ask, rng)
    seen = see(clip, moments)
    if rng.random() < forgetful:
        _forget(sequence, seen, rng)
    return sequence, seen


def _clip(seed: int, seconds: float, fps: float, patches: int, rng: np.random.Generator) -> GrownClip:
    """It goes on two patches longer than it is watched, so that watching may end within an event."""
    most = 2 * (patches + 2) // 5
    few = min(most, 8)
    events = int(rng.integers(0, few + 1) if rng.random() < 0.85 else rng.integers(few, most + 1))
    cast = "odd" if events > 2 and rng.random() < ODD_SHARE else None
    together = bool(rng.random() < TOGETHER_SHARE)
    return GrownClip(seed, seconds, fps, events, str(rng.choice(BACKGROUNDS)), cast, size=SIZE, together=together)


def _ask(sequence: Sequence, clip: GrownClip, at: float, rng: np.random.Generator) -> None:
    """Branches with lists and with questions of all kinds, now and then one as a follow-up of another.

    The kinds of the needle benchmark come first, a question of each; the others fill the rest.
    """
    of_kind: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for question in clip.every_question(at, rng):
        of_kind[question.kind].append((question.kind, question.text, question.answer))
    for kind, text, answer in clip.more_questions(at, rng):
        of_kind[kind].append((kind, text, answer))
    waiting = [
        [turns[i] for i in rng.permutation(len(turns))] for _, turns in sorted(of_kind.items(), key=_needle_first)
    ]
    lists = clip.more_listings(at, rng)
    turns = [("list", *lists[i]) for i in rng.permutation(len(lists))[:LISTED_AT_ONCE]]
    while waiting and len(turns) < ASKED_AT_ONCE:
        turns.extend(asked.pop() for asked in waiting)
        waiting = [asked for asked in waiting if asked]
    turns = turns[: 2 * ASKED_AT_ONCE]
    turns = [turns[i] for i in rng.permutation(len(turns))]
    while turns:
        with sequence.branch():
            sequence.turn(*turns.pop(), behind_video=True)
            while turns and rng.random() < 0.2:
                sequence.turn(*turns.pop(), behind_video=False)


def _needle_first(item: tuple[str, object]) -> tuple[bool, str]:
    return item[0] not in KINDS, item[0]


def _forget(sequence: Sequence, seen: Seen, rng: np.random.Generator) -> None:
    """Hides visual tokens from what comes some patches later, at random, more of them at some times than at others.

    So how much there is to see of a time or of an event says nothing about how much there was. Of each event at least
    one cell in which it arrives stays.
    """
    cells = np.array(sequence.cells())
    events, arrivals = seen.events.reshape(cells.shape), seen.arrivals.reshape(cells.shape)
    knots = 1 - rng.random(rng.integers(2, 6)) ** 3  # mostly all but a few
    share = np.interp(np.linspace(0, 1, len(cells)), np.linspace(0, 1, len(knots)), knots)[:, None]
    of_event = rng.random(events.max(initial=0) + 1)
    gone = rng.random(cells.shape) < np.where(events == IGNORE, share, of_event[events.clip(min=0)])
    for t, number in sorted({(int(t), int(events[t, cell])) for t, cell in zip(*arrivals.nonzero(), strict=True)}):
        gone[t, rng.choice((arrivals[t] & (events[t] == number)).nonzero()[0])] = False
    delay = int(rng.choice([1, 2, 4, 8]))
    for patch, goes, last in zip(cells, gone, cells[delay:, -1], strict=False):
        sequence.forgotten |= dict.fromkeys(patch[goes].tolist(), int(last))
