"""What the model is taught and asked: clips, questions and turns put into sequences, each from one seed."""

import numpy as np
from transformers import PreTrainedTokenizerBase

from infinipot.embedded.checkpoint import MAX_POSITION, TOKENS_PER_SECOND
from infinipot.embedded.sequence import Pixels, Sequence, see
from infinipot.embedded.world import Clip, Question

TEXT_ROOM = 100  # positions left for text behind the longest video
SLOWEST, FASTEST = 0.25, 2.0  # frames a second


def lesson(tokenizer: PreTrainedTokenizerBase, seed: int, patches: int) -> tuple[Sequence, Pixels]:
    """A training sequence: `patches` temporal patches of a clip, many questions at their end and before.

    Frame rates vary, and the stream may pause, so that positions up to MAX_POSITION occur. Sometimes a turn
    stays in the dialogue and the video goes on behind it; sometimes the last patch is an odd frame, twice.
    """
    rng = np.random.default_rng((seed, 1))
    room = MAX_POSITION - TEXT_ROOM
    slowest = max(SLOWEST, 2 * TOKENS_PER_SECOND * patches / room)
    fps = float(np.exp(rng.uniform(np.log(slowest), np.log(FASTEST))))
    clip = _clip(seed, patches, fps)
    times = [index / fps for index in range(2 * patches)]
    if rng.random() < 0.15:
        times[-1] = times[-2]
    starts = np.array(times[::2]) + _pauses(rng, patches, room / TOKENS_PER_SECOND - times[-1])
    stops = {patches - 1, *rng.integers(patches, size=max(1, patches // 16)).tolist()}
    sequence = Sequence(tokenizer)
    sequence.open_video()
    span = 0
    for k in range(patches):
        sequence.patch(starts[k] - starts[span])
        if k not in stops:
            continue
        at = times[2 * k + 1]
        _ask(sequence, clip, at, rng)
        if k < patches - 1 and rng.random() < 0.4:
            remembered = clip.questions(at, rng)
            question = remembered[rng.integers(len(remembered))]
            sequence.turn(question.kind, question.text, question.answer, behind_video=True)
            sequence.resume_video()
            span = k + 1
    return sequence, see(clip, times)


def exam(
    tokenizer: PreTrainedTokenizerBase, seed: int, patches: int, fps: float
) -> tuple[Sequence, Pixels, list[Question]]:
    """`patches` temporal patches at an even rate, then a question of every kind, each as if asked alone."""
    clip = _clip(seed, patches, fps)
    times = [index / fps for index in range(2 * patches)]
    sequence = Sequence(tokenizer)
    sequence.open_video()
    for time in times[::2]:
        sequence.patch(time)
    questions = clip.questions(times[-1], np.random.default_rng((seed, 2)), plain=True)
    for question in questions:
        with sequence.branch():
            sequence.turn(question.kind, question.text, question.answer, behind_video=True)
    return sequence, see(clip, times), questions


def _clip(seed: int, patches: int, fps: float) -> Clip:
    """A clip that goes on two patches longer than it is watched, so that watching may end within an event."""
    return Clip(seed, 2 * (patches + 2) / fps, fps)


def _pauses(rng: np.random.Generator, patches: int, most: float) -> np.ndarray:
    """Seconds that the stream has stood still before each patch: `[patches]`, none in half of the cases."""
    if rng.random() < 0.5:
        return np.zeros(patches)
    count = int(rng.integers(1, 4))
    pauses = np.zeros(patches)
    pauses[rng.integers(patches, size=count)] = rng.dirichlet(np.ones(count)) * rng.uniform(0, most)
    pauses[0] = 0
    return np.cumsum(pauses)


def _ask(sequence: Sequence, clip: Clip, at: float, rng: np.random.Generator) -> None:
    """Branches with two rounds of questions and both listings, now and then one as a follow-up of another."""
    turns = {(q.kind, q.text, q.answer) for _ in range(2) for q in clip.questions(at, rng)}
    turns |= {("list", request, answer) for request, answer in clip.listings(at)}
    order = sorted(turns)
    rng.shuffle(order)
    while order:
        with sequence.branch():
            sequence.turn(*order.pop(), behind_video=True)
            while order and rng.random() < 0.25:
                sequence.turn(*order.pop(), behind_video=False)
