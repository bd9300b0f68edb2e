"""Answering a question about all that was given so far, and forgetting both again or remembering them as a turn.

The question stands after what is held and what waits, on a transaction of the memory, and the answer's tokens after it,
each of which is a step of its own. Work that asks for the model where it needs it, see task.py.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from infinipot.config import Sampling
from infinipot.engine.decoding import Chooser, Speaker
from infinipot.engine.evidence import Answer, FinishReason, Gaze
from infinipot.engine.layout import Layout
from infinipot.engine.limits import answer_limit, question_ids, require_positions, stay_in_range
from infinipot.engine.looking import grids_of, look_again, second_look, tokens_of
from infinipot.engine.patches import waiting
from infinipot.engine.prefilled import Prefilled, lay_out_rest, retain, reusable
from infinipot.engine.probing import probe
from infinipot.engine.question import Question
from infinipot.engine.requests import Encode, Forward, Prepare
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.engine.task import Work
from infinipot.errors import QuestionError
from infinipot.memory import Window
from infinipot.memory.observation import NOTHING, Observer
from infinipot.models import Patch
from infinipot.models.chat import ANSWER

_TIME_ROUNDING = 1e-6  # seconds: times are sums of frame periods


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A question that can be asked, and what the model has to run over for it.

    Attributes:
        question: as it was asked.
        limit: tokens of its answer at the most.
        known: the patches that wait for their block and that an earlier question had the model run over.
        patches: those that wait after them.
        again: those of a second look.
        follows_video: whether the question stands after the video, and not after another turn.
        prompt: its token ids, with those of the chat template's text around it.
    """

    question: Question
    limit: int
    known: tuple[Prefilled, ...]
    patches: tuple[Patch, ...]
    again: tuple[Patch, ...]
    follows_video: bool
    prompt: list[int]


class _Before(NamedTuple):
    """What stands ahead of a question.

    Attributes:
        prefilled: the patches that wait for their block, for the next question to begin after.
        seen: tokens of all that was given, without a second look.
    """

    prefilled: list[Prefilled]
    seen: int


def answer(setup: Setup, state: StreamState, question: Question, answers: list[Answer]) -> Work[None]:
    """Answers a question, and remembers the turn where that is asked for.

    Args:
        setup, state: of the stream.
        question: what is asked.
        answers: takes the answer, before it is remembered. It is not returned, because an interruption that comes once
            the turn is part of the memory is deferred, see alone.py: the call succeeds, but this work ended early.
    """
    asked = yield from _prepare(setup, state, question)
    with Layout.begin(setup, state, asked.known[-1].end if asked.known else None) as layout:
        before = yield from _lay_out(layout, asked)
        reply, speaker = yield from _reply(layout, asked, before.prefilled)
        answers.append(reply)
        if question.remember:
            yield from _remember(layout, asked, speaker)
    state.asked_tokens = before.seen
    if question.remember:
        stay_in_range(setup, state, state.pending)


def _prepare(setup: Setup, state: StreamState, question: Question) -> Generator[Prepare, list[Patch], _Asked]:
    """Makes sure that a question can be asked now, and has the frames prepared that the model has to run over for it.

    Raises:
        QuestionError, CapError: it cannot be.
    """
    if not state.memory.held and not state.pending.starts(setup):
        raise QuestionError("there is nothing to ask about yet: watch a frame, or listen, first")
    again = yield from second_look(setup, state, question.look)
    look = tokens_of(setup, again)
    limit = answer_limit(setup, question.text, question.max_new_tokens, remember=question.remember, look=look)
    require_positions(setup, state, state.pending)
    known = () if question.remember else reusable(state)
    patches = yield from waiting(setup, state, len(known))
    follows_video = bool(known or patches or again) or state.memory.cursor.open
    prompt = question_ids(setup, question.text, follows_video=follows_video)
    return _Asked(question, limit, known, patches, again, follows_video, prompt)


def _lay_out(layout: Layout, asked: _Asked) -> Generator[Encode | Forward, Tensor, _Before]:
    """Lays out what waits, a second look and the question, in this order.

    Has the model run over what waits where that is a forward of its own: ahead of a second look, which does not see it,
    and ahead of probes, for which there is no room once the question is there.
    """
    question, probed = asked.question, asked.question.remember and bool(layout.setup.probes)
    prefilled = yield from lay_out_rest(layout, asked.patches, asked.known)
    seen, newest = layout.state.memory.held + layout.transaction.tokens, layout.transaction.cursor.patch
    if asked.again:
        yield from layout.run("answer", stays=question.remember)
        yield from look_again(layout, asked.again)
    elif probed:
        yield from _probe_ahead(layout, asked)
    _add_question(layout, asked, asked.prompt, newest)
    return _Before(prefilled, seen)


def _probe_ahead(layout: Layout, asked: _Asked) -> Generator[Forward, Tensor, None]:
    """Has the model run over what waits, and over the policy's probes where the turn may make tokens leave."""
    yield from layout.run("answer")
    yield from probe(layout, layout.state.pending.emptied(), turn=len(asked.prompt) + asked.limit)


def _add_question(layout: Layout, asked: _Asked, ids: Sequence[int], newest: int) -> None:
    """Adds the question, or the turn that it has become, which sees what is in its window.

    Args:
        newest: number of the first patch that it sees in any case.
    """
    if asked.question.window is not None:
        layout.transaction.narrow(_window(layout.setup, layout.state, asked.question.window, newest))
    layout.add_question(ids, follows_video=asked.follows_video)


def _reply(
    layout: Layout, asked: _Asked, prefilled: Sequence[Prefilled]
) -> Generator[Forward, Tensor, tuple[Answer, Speaker]]:
    """Has the model answer a question that is laid out."""
    setup, state, question, limit = layout.setup, layout.state, asked.question, asked.limit
    tokens = state.memory.held + layout.transaction.tokens
    speaker = Speaker(setup.adapter.detokenize, question.sampling.stop, question.on_text)
    looks = question.evidence and setup.adapter.modality == "video"
    gaze = Gaze(setup.adapter.patch_frames / setup.config.fps) if looks else None
    observers = [] if gaze is None else [gaze]
    with setup.adapter.scratch.lent(state.memory, min(state.memory.cap, tokens + limit)):
        logits = yield layout.forward("answer", setup.block_attention if question.remember else NOTHING, observers)
        if not question.remember:
            retain(layout, prefilled)
        choose = _chooser(layout, question.sampling, limit, logits.device)
        ended = yield from _decode(layout, asked, logits, choose, speaker, observers)
        if gaze is not None:
            gaze.end(grids_of(state, asked.again))
    text = speaker.end().strip()
    reason = "stop" if speaker.cut else ended  # its last letters, which waited for more, may have been a `stop`
    reply = Answer.of(
        text,
        tokens=len(speaker.tokens),
        prompt_tokens=tokens,
        look_tokens=sum(patch.tokens for patch in asked.again),
        finish_reason=reason,
        gaze=gaze,
    )
    return reply, speaker


def _window(setup: Setup, state: StreamState, seconds: float, looked: int) -> Window:
    """The newest seconds of the video, the newest patch and a second look in any case.

    Args:
        looked: number of the first patch of a second look.
    """
    pending = state.pending
    newest = max(pending.starts(setup), default=state.memory.cursor.latest)
    since, gate = min(newest, pending.time - seconds) - _TIME_ROUNDING, setup.gate
    if gate is None:
        return Window(since, looked)
    return Window(since, looked, pending.grid.numbers, gate.whole)


def _decode(
    layout: Layout, asked: _Asked, logits: Tensor, choose: Chooser, speaker: Speaker, observers: Sequence[Observer]
) -> Generator[Forward, Tensor, FinishReason]:
    """Has the model say one token after the other, the first by `logits`; returns why it ended.

    Over the last token of an answer that was long enough it runs only where the turn is to be remembered.
    """
    stop_ids = layout.setup.adapter.stop_ids
    for remaining in range(asked.limit - 1, -1, -1):
        with layout.state.stopwatch.phase("answer"):
            token = choose(logits)
            if token in stop_ids or not speaker.say(token):
                return "stop"
        if remaining or asked.question.remember:
            logits = yield layout.say(token, observers)
    return "length"


def _chooser(layout: Layout, sampling: Sampling, limit: int, device: torch.device) -> Chooser:
    """Chooses the tokens of an answer after what is held and laid out."""
    adapter = layout.setup.adapter
    before = [*layout.setup.prompt_ids, *layout.transcript(turn=True).ids(adapter.cell_id)]
    scores, drawn = adapter.scores(sampling.said(), before, limit, device)
    return Chooser(scores, before, limit, sampling.seed if drawn else None, device)


def _remember(layout: Layout, asked: _Asked, speaker: Speaker) -> Work[None]:
    """Makes a turn part of the memory: what is laid out, where that is the turn and nothing else.

    Where it is more, which are a second look or words that a `stop` cut off, the model runs over the turn once more.
    """
    setup, state = layout.setup, layout.state
    after = state.pending.emptied()
    if not (asked.again or speaker.cut):
        layout.commit(after, turn=True)
        return
    said = (_tokens_of(setup, speaker) if speaker.cut else speaker.tokens)[: asked.limit]
    with Layout.begin(setup, state) as fresh:  # forgets the other one
        yield from fresh.add_patches(asked.patches)
        newest = fresh.transaction.cursor.patch
        if setup.probes:
            yield from _probe_ahead(fresh, asked)
        _add_question(fresh, asked, [*asked.prompt, *said], newest)
        yield from fresh.run("answer")
        fresh.commit(after, turn=True)


def _tokens_of(setup: Setup, speaker: Speaker) -> list[int]:
    """The tokens that spell an answer's text: its own as far as they do, then the tokenizer's for the rest."""
    adapter, tokens, spelt = setup.adapter, speaker.tokens, speaker.text
    whole = next(
        (count for count in range(len(tokens), 0, -1) if spelt.startswith(adapter.detokenize(tokens[:count]))), 0
    )
    rest = spelt[len(adapter.detokenize(tokens[:whole])) :]
    return [*tokens[:whole], *(adapter.tokenize(rest, plain=True, behind=ANSWER) if rest else ())]
