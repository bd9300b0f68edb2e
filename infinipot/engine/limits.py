"""What must fit before any work is done: slots, positions, a question and its answer. Changes nothing but positions."""

from infinipot.engine.layout import ahead_of_video
from infinipot.engine.pending import Pending
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.errors import CapError, FrameError, QuestionError
from infinipot.memory import MOST_POSITIONS
from infinipot.models.chat import ANSWER
from infinipot.numbers import is_whole
from infinipot.text import check_text

_LONGEST_ANSWER = 256


def require_slots(setup: Setup, state: StreamState, pending: Pending, more: int = 0) -> None:
    """Makes sure that what waits, and `more` tokens, find room beside the dialogue under a policy that never evicts."""
    budget, policy = setup.budget, setup.policy
    awaited = pending.tokens(setup) + more
    text = len(setup.prompt_ids) + budget.dialogue
    if not policy.evicts and state.memory.state.video + awaited > budget.video(text):
        raise CapError(
            f"the memory of {budget.cap} tokens is full at {max(pending.time, 0.0):g} s, and policy "
            f"{policy.name!r} never evicts: give more memory, or another policy"
        )


def require_positions(setup: Setup, state: StreamState, pending: Pending) -> None:
    """Makes sure that a stream which does not re-base stays below the position up to which its family works."""
    if setup.range is not None:
        return
    after, limit = _position_after(setup, state, pending), setup.adapter.position_limit
    if limit is not None and after > limit:
        raise CapError(
            f"{setup.adapter.title} changes its rotary embedding once a prompt is longer than {limit} positions, which "
            "this stream would reach: open it with positions='rebase' and a policy that evicts"
        )
    if after > MOST_POSITIONS:
        raise FrameError(
            f"at {pending.time:g} s this stream would reach position {after} of {MOST_POSITIONS}: give "
            "the times of one clock, or open it with positions='rebase' and a policy that evicts"
        )


def stay_in_range(setup: Setup, state: StreamState, pending: Pending) -> None:
    """Re-bases the memory if what waits, a question and its answer would leave the trained positions.

    A little at a time, since until the next time the newest patches take more positions than their time's share.
    """
    if setup.range is None:
        return
    for _ in range(2):  # re-based, what waits may count otherwise
        after = _position_after(setup, state, pending)
        if after <= setup.range:
            return
        limit = setup.range - (after - state.memory.cursor.next)
        state.memory.rebase(target=7 * limit // 8, limit=limit, slow=True)


def _position_after(setup: Setup, state: StreamState, pending: Pending) -> int:
    """The next position after what waits, and the reserve for a question and its answer."""
    here, starts = state.memory.cursor, pending.starts(setup)
    if not starts:
        return here.after_text(len(setup.resume_ids) + setup.budget.reserve).next
    cursor = here if here.open else here.after_text(len(ahead_of_video(setup, state, closed=True)))
    for start in starts:
        cursor = cursor.after_caption(setup.adapter.caption_limit)
        cursor = cursor.after_patch(pending.grid, start, setup.rule)
    return cursor.after_text(setup.budget.reserve).next


def question_ids(setup: Setup, question: str, *, follows_video: bool) -> list[int]:
    """A question and the texts around it, as token ids.

    Raises:
        QuestionError: it is no text, empty, or holds what no tokenizer takes.
    """
    if not isinstance(question, str):
        raise QuestionError(f"a question must be a string, not {type(question).__name__}: {question!r}")
    if not question.strip():
        raise QuestionError("the question is empty")
    check_text(question, "the question", QuestionError)
    chat, adapter = setup.chat, setup.adapter
    if follows_video:
        return adapter.prompt(chat.before_question, question, chat.after_question, behind=adapter.placeholder)
    return adapter.prompt(chat.follow_up, question, chat.after_question, behind=ANSWER)


def probe_ids(setup: Setup, probe: str) -> list[int]:
    """A probe as token ids, within the texts around a question; "" for those texts alone."""
    if probe:
        return question_ids(setup, probe, follows_video=True)
    around = setup.chat.before_question + setup.chat.after_question
    return setup.adapter.tokenize(around, behind=setup.adapter.placeholder)


def require_probes(setup: Setup) -> None:
    """Makes sure that the policy's probes fit the reserve, where they stand as a question would.

    Raises:
        CapError: the reserve has no room for one that the policy asks for; the message names what would do.
    """
    for attention in setup.probes.values():
        needed = len(probe_ids(setup, attention.probe or "")) + attention.repeats
        needed += 0 if setup.suffix is None else len(setup.suffix)
        if needed > setup.budget.reserve:
            raise CapError(
                f"policy {setup.policy.name!r} asks the model {needed} tokens after each block, but "
                f"reserve={setup.budget.reserve} is less: open the stream with reserve={needed} or more"
            )


def answer_limit(setup: Setup, question: str, asked: int | None, *, remember: bool, look: int = 0) -> int:
    """Tokens that an answer may take, the same at every moment of the stream; `look` are those of a second look.

    Raises:
        QuestionError: the question is none, or `asked` is no number of tokens.
        CapError: question and answer do not fit what is set aside for them; the message names what would do.
    """
    if asked is not None and not is_whole(asked):
        raise QuestionError(f"max_new_tokens={asked!r}: give a whole number")
    prompt = max(len(question_ids(setup, question, follows_video=follows)) for follows in (True, False))
    prompt += 0 if setup.suffix is None else len(setup.suffix)
    room = setup.budget.reserve - look
    if remember:
        # A turn may come after one text that resumes the video, and another such text after the turn.
        room = min(room, setup.budget.dialogue - 2 * len(setup.resume_ids))
    limit = min(room - prompt, _LONGEST_ANSWER) if asked is None else asked
    if asked is not None and limit < 1:
        raise QuestionError(f"max_new_tokens={asked}: an answer must have at least one token")
    if limit < 1 or prompt + limit > room:
        needed, turns = prompt + max(limit, 1), setup.budget.dialogue - 2 * len(setup.resume_ids)
        seen = f"the second look takes {look} tokens, " if look else ""
        turns_lack = remember and needed > turns
        share = f"dialogue={needed + 2 * len(setup.resume_ids)}" if turns_lack else f"reserve={needed + look}"
        fewer = f"give max_new_tokens={room - prompt} or less, or " if room > prompt else ""
        room, all_of = turns if turns_lack else setup.budget.reserve, "all" if look else "both"
        raise CapError(
            f"{seen}the question takes {prompt} tokens and its answer up to {max(limit, 1)}, but only {room} are set "
            f"aside for {all_of}: {fewer}open the stream with {share} or more, or with more memory",
            reserve=None if turns_lack else needed + look,
        )
    return limit
