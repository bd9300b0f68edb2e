"""Answering a question about all that was given so far, and forgetting both again or remembering them as a turn.

The question stands behind what is held and what waits, on a draft of the memory, and the answer's tokens behind it,
each of which is a step of its own. Work that asks for the model where it needs it, see task.py.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infinipot.engine.decoding import Chooser, Sampling, Speaker
from infinipot.engine.evidence import Answer, Gaze
from infinipot.engine.layout import Part, asked_behind, commit, forward, lay_out, run, text, told, waiting
from infinipot.engine.limits import answer_limit, question_ids, require_positions, stay_in_range
from infinipot.engine.looking import Look, look_again, second_look, tokens_of
from infinipot.engine.requests import Request
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.errors import QuestionError
from infinipot.memory import Draft
from infinipot.memory.observation import Observer
from infinipot.models import Patch
from infinipot.models.chat import ANSWER


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
    """

    text: str
    max_new_tokens: int | None
    remember: bool
    on_text: Callable[[str], None] | None
    sampling: Sampling
    evidence: bool = False
    look: Look | None = None


def answer(
    setup: Setup, state: StreamState, question: Question, answers: list[Answer]
) -> Generator[Request, Tensor, None]:
    """Answers a question; the answer goes into `answers` as soon as it is there, before it is remembered."""
    if not state.memory.held and not state.pending.starts():
        raise QuestionError("there is nothing to ask about yet: watch a frame, or listen, first")
    remember = question.remember
    again = second_look(setup, state, question.look)
    look = tokens_of(setup, again)
    limit = answer_limit(setup, question.text, question.max_new_tokens, remember=remember, look=look)
    require_positions(setup, state, state.pending)
    patches = waiting(state)
    follows_video = bool(patches or again) or state.memory.cursor.open
    prompt = question_ids(setup, question.text, follows_video=follows_video)

    with state.memory.draft() as draft:
        parts = yield from lay_out(setup, state, draft, patches)
        seen = state.memory.held + draft.tokens
        ahead = []
        if again:
            if parts:
                yield forward(setup, state, draft, parts, "answer")
            ahead, parts = parts, []
            yield from look_again(setup, state, draft, again)
        parts += asked_behind(setup, state, draft, prompt, follows_video=follows_video)
        speaker = Speaker(setup.family.detokenize, question.sampling.stop, question.on_text)
        looks = question.evidence and setup.family.modality == "video"
        gaze = Gaze(setup.family.patch_frames / setup.config.fps) if looks else None
        yield from _decode(
            setup, state, draft, (ahead, parts), question, limit, speaker, [] if gaze is None else [gaze]
        )
        if gaze is not None:
            gaze.end()
        answers.append(Answer.of(speaker.end().strip(), gaze))
        if remember and not speaker.cut and not again:
            commit(setup, state, draft, state.pending.emptied(), parts, speaker.tokens, turn=True)
    if remember and (speaker.cut or again):
        said = (_tokens_of(setup, speaker) if speaker.cut else speaker.tokens)[:limit]
        yield from _remember(setup, state, patches, [*prompt, *said], follows_video=follows_video)
    state.asked_tokens = seen
    if remember:
        stay_in_range(setup, state, state.pending)


def _decode(
    setup: Setup,
    state: StreamState,
    draft: Draft,
    parts: tuple[Sequence[Part], Sequence[Part]],
    question: Question,
    limit: int,
    speaker: Speaker,
    observers: Sequence[Observer],
) -> Generator[Request, Tensor, None]:
    """Has the model say one token after the other, `limit` at the most.

    Over the last token of an answer that `limit` ended it runs only where the turn is to be remembered.

    Args:
        parts: what the model has run over, and what it is still to run over.
    """
    before, behind = parts
    logits = yield forward(setup, state, draft, behind, "answer", observers)
    choose = _chooser(setup, state, question.sampling, [*before, *behind], limit, logits.device)
    stop_ids = setup.family.stop_ids
    for remaining in range(limit - 1, -1, -1):
        with state.stopwatch.phase("answer"):
            token = choose(logits)
            if token in stop_ids or not speaker.say(token):
                return
        if remaining or question.remember:
            logits = yield forward(setup, state, draft, [text(setup, state, draft, [token])], "answer", observers)


def _chooser(
    setup: Setup, state: StreamState, sampling: Sampling, parts: Sequence[Part], limit: int, device: torch.device
) -> Chooser:
    """Chooses the tokens of an answer behind what is held and these parts."""
    family = setup.family
    before = [*setup.prompt_ids, *told(state, parts, turn=True).ids(family.cell_id)]
    scores, drawn = family.scores(sampling.said(), before, limit, device)
    return Chooser(scores, before, limit, sampling.seed if drawn else None, device)


def _remember(
    setup: Setup, state: StreamState, patches: Sequence[Patch], turn: Sequence[int], *, follows_video: bool
) -> Generator[Request, Tensor, None]:
    """Makes a turn part of the memory where the draft holds more than that: words that were cut off, a second look."""
    with state.memory.draft() as draft:
        parts = yield from lay_out(setup, state, draft, patches)
        parts += asked_behind(setup, state, draft, turn, follows_video=follows_video)
        yield from run(setup, state, draft, parts, "answer")
        commit(setup, state, draft, state.pending.emptied(), parts, turn=True)


def _tokens_of(setup: Setup, speaker: Speaker) -> list[int]:
    """Those of an answer's tokens that make its text, and what it takes to spell the rest of it."""
    family, tokens, spelt = setup.family, speaker.tokens, speaker.text
    whole = next(
        (count for count in range(len(tokens), 0, -1) if spelt.startswith(family.detokenize(tokens[:count]))), 0
    )
    rest = spelt[len(family.detokenize(tokens[:whole])) :]
    return [*tokens[:whole], *(family.tokenize(rest, plain=True, behind=ANSWER) if rest else ())]
