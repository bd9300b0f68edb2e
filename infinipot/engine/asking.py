"""Answering a question about all that was given so far, and forgetting both again or remembering them as a turn.

The question stands after what is held and what waits, on a transaction of the memory, and the answer's tokens after it,
each of which is a step of its own. Work that asks for the model where it needs it, see task.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infinipot.config import Sampling
from infinipot.engine.decoding import Chooser, Speaker
from infinipot.engine.evidence import Answer, Gaze
from infinipot.engine.layout import Part, asked_behind, commit, forward, lay_out, run, say, told, waiting
from infinipot.engine.limits import answer_limit, question_ids, require_positions, stay_in_range
from infinipot.engine.looking import Look, grids_of, look_again, second_look, tokens_of
from infinipot.engine.prefilled import lay_out_rest, retain, reusable
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.engine.task import Work
from infinipot.errors import QuestionError
from infinipot.memory import Transaction, Window
from infinipot.memory.observation import Observer
from infinipot.models import Patch
from infinipot.models.chat import ANSWER
from infinipot.numbers import is_finite

_ROUNDING = 1e-6  # seconds: times are sums of frame periods


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
        **sampling: Any,
    ) -> "Question":
        """A question with the options of `Stream.ask`.

        Raises:
            QuestionError: a value of `sampling`, see `Sampling`, or the window is out of range.
        """
        look = Look.of(look_again, look_pixels)
        return cls(text, max_new_tokens, remember, on_text, Sampling(**sampling), evidence, look, window)


def answer(setup: Setup, state: StreamState, question: Question, answers: list[Answer]) -> Work[None]:
    """Answers a question; the answer goes into `answers` as soon as it is there, before it is remembered."""
    if not state.memory.held and not state.pending.starts(setup):
        raise QuestionError("there is nothing to ask about yet: watch a frame, or listen, first")
    remember = question.remember
    again = yield from second_look(setup, state, question.look)
    look = tokens_of(setup, again)
    limit = answer_limit(setup, question.text, question.max_new_tokens, remember=remember, look=look)
    require_positions(setup, state, state.pending)
    known = () if remember else reusable(state)
    patches = yield from waiting(setup, state, len(known))
    follows_video = bool(known or patches or again) or state.memory.cursor.open
    prompt = question_ids(setup, question.text, follows_video=follows_video)

    with state.memory.transaction(known[-1].end if known else None) as transaction:
        parts, found = yield from lay_out_rest(setup, state, transaction, patches, known)
        seen = state.memory.held + transaction.tokens
        ahead = [part for each in known for part in each.parts]
        looked, grids = transaction.cursor.patch, grids_of(state, again)
        if again:
            if parts:
                yield forward(setup, state, transaction, parts, "answer", stays=remember)
            ahead, parts = [*ahead, *parts], []
            yield from look_again(setup, state, transaction, again)
        if question.window is not None:
            transaction.narrow(_window(setup, state, question.window, looked))
        parts += asked_behind(setup, state, transaction, prompt, follows_video=follows_video)
        speaker = Speaker(setup.adapter.detokenize, question.sampling.stop, question.on_text)
        looks = question.evidence and setup.adapter.modality == "video"
        gaze = Gaze(setup.adapter.patch_frames / setup.config.fps) if looks else None
        observers = [] if gaze is None else [gaze]
        slots = min(state.memory.cap, state.memory.held + transaction.tokens + limit)
        with setup.adapter.scratch.lent(state.memory, slots):
            logits = yield forward(setup, state, transaction, parts, "answer", observers, stays=remember)
            if not remember:
                retain(setup, state, found)
            choose = _chooser(setup, state, question.sampling, [*ahead, *parts], limit, logits.device)
            yield from _decode(setup, state, transaction, logits, choose, question, limit, speaker, observers)
            if gaze is not None:
                gaze.end(grids)
        answers.append(Answer.of(speaker.end().strip(), gaze))
        if remember and not speaker.cut and not again:
            commit(setup, state, transaction, state.pending.emptied(), parts, speaker.tokens, turn=True)
    if remember and (speaker.cut or again):
        said = (_tokens_of(setup, speaker) if speaker.cut else speaker.tokens)[:limit]
        yield from _remember(setup, state, patches, [*prompt, *said], follows_video=follows_video)
    state.asked_tokens = seen
    if remember:
        stay_in_range(setup, state, state.pending)


def _window(setup: Setup, state: StreamState, seconds: float, looked: int) -> Window:
    """The newest seconds of the video, the newest patch and a second look in any case.

    Args:
        looked: number of the first patch of a second look.
    """
    pending = state.pending
    newest = max(pending.starts(setup), default=state.memory.cursor.latest)
    since, gate = min(newest, pending.time - seconds) - _ROUNDING, setup.gate
    if gate is None:
        return Window(since, looked)
    return Window(since, looked, pending.grid.numbers, gate.whole)


def _decode(
    setup: Setup,
    state: StreamState,
    transaction: Transaction,
    logits: Tensor,
    choose: Chooser,
    question: Question,
    limit: int,
    speaker: Speaker,
    observers: Sequence[Observer],
) -> Work[None]:
    """Has the model say one token after the other, `limit` at the most, the first by `logits`.

    Over the last token of an answer that `limit` ended it runs only where the turn is to be remembered.
    """
    stop_ids = setup.adapter.stop_ids
    for remaining in range(limit - 1, -1, -1):
        with state.stopwatch.phase("answer"):
            token = choose(logits)
            if token in stop_ids or not speaker.say(token):
                return
        if remaining or question.remember:
            logits = yield say(setup, state, transaction, token, observers)


def _chooser(
    setup: Setup, state: StreamState, sampling: Sampling, parts: Sequence[Part], limit: int, device: torch.device
) -> Chooser:
    """Chooses the tokens of an answer after what is held and these parts."""
    adapter = setup.adapter
    before = [*setup.prompt_ids, *told(state, parts, turn=True).ids(adapter.cell_id)]
    scores, drawn = adapter.scores(sampling.said(), before, limit, device)
    return Chooser(scores, before, limit, sampling.seed if drawn else None, device)


def _remember(
    setup: Setup, state: StreamState, patches: Sequence[Patch], turn: Sequence[int], *, follows_video: bool
) -> Work[None]:
    """Makes a turn part of the memory where the transaction holds more: words that were cut off, a second look."""
    with state.memory.transaction() as transaction:
        parts = yield from lay_out(setup, state, transaction, patches)
        parts += asked_behind(setup, state, transaction, turn, follows_video=follows_video)
        yield from run(setup, state, transaction, parts, "answer")
        commit(setup, state, transaction, state.pending.emptied(), parts, turn=True)


def _tokens_of(setup: Setup, speaker: Speaker) -> list[int]:
    """The tokens that spell an answer's text: its own as far as they do, then the tokenizer's for the rest."""
    adapter, tokens, spelt = setup.adapter, speaker.tokens, speaker.text
    whole = next(
        (count for count in range(len(tokens), 0, -1) if spelt.startswith(adapter.detokenize(tokens[:count]))), 0
    )
    rest = spelt[len(adapter.detokenize(tokens[:whole])) :]
    return [*tokens[:whole], *(adapter.tokenize(rest, plain=True, behind=ANSWER) if rest else ())]
