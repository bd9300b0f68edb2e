"""One video being watched, or one sound being heard, by one model: a lock, a state, and the calls on it.

What a call does is work of the engine; here it is driven to its end, or handed out as a task for a runner of many.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, Unpack

import torch

from infinipot import snapshot
from infinipot.audio import SamplesLike, Sound
from infinipot.config import StreamConfig
from infinipot.engine import asking, runner, watching
from infinipot.engine.alone import Alone, Call
from infinipot.engine.evidence import Answer
from infinipot.engine.limits import answer_limit
from infinipot.engine.looking import Look, look_tokens
from infinipot.engine.question import AskOptions, Question
from infinipot.engine.setup import Setup, reserving
from infinipot.engine.state import StreamState
from infinipot.engine.task import Task, Work
from infinipot.errors import InfinipotError
from infinipot.memory import Contents
from infinipot.policies.base import Policy
from infinipot.stats import Stats
from infinipot.video import Frame, ImageLike

P = ParamSpec("P")


class Stream:
    """A video in bounded memory: `watch` it frame by frame and `ask` at any moment. `Model.stream` opens one.

    A stream of sound has `listen`, piece by piece, in place of `watch`; `feed` takes whichever of the two a source
    yields.

    A call that raises, or that Ctrl-C ends, leaves the stream as it was before the call: at the most, frames that
    waited for their block have gone into the memory, or positions have been re-based. What interrupts a call when its
    frame, or its turn, is already part of the memory does not end that call: the next one raises it, or `close` does.
    Asking changes nothing, unless the turn is to be remembered. One call at a time: threads that share a stream use
    `lock`.

    Args:
        setup: the model, the policy and the settings.
        state: what the stream goes on from, and has for itself from now on.
    """

    def __init__(self, setup: Setup, state: StreamState) -> None:
        self._setup, self._state = setup, state
        self._closed = False
        self._calls = Alone()

    @property
    def policy(self) -> Policy:
        """What stays when the memory is full."""
        return self._setup.policy

    @property
    def config(self) -> StreamConfig:
        """The settings, as they were given."""
        return self._setup.config

    def watch(self, frame: Frame | ImageLike, time: float | None = None) -> None:
        """Takes in one frame; runs the model whenever a block is full, and compresses when the memory is.

        Args:
            frame: a `Frame`, or a picture: NumPy `[height, width, 3]`, torch `[3, height, width]` or PIL.
            time: of the frame in seconds, above that of the last one. Left out: the frame's own time, or one period
                of `fps` after the last one.

        Raises:
            FrameError: it is not a picture, or not later than the last frame.
            CapError: the memory is too small for frames of this size, or full and the policy never evicts.
            InfinipotError: the stream is of sound.
        """
        self._drive(Call.FEED, watching.watch, frame, time)

    def begin_watch(self, frame: Frame | ImageLike, time: float | None = None) -> Task[None]:
        """The call of `watch` as a task, for `Model.step` to carry on beside those of other streams."""
        return Task(self._guarded(Call.FEED, watching.watch, frame, time))

    def listen(self, sound: Sound | SamplesLike, time: float | None = None) -> None:
        """Takes in a piece of sound; runs the model and compresses as `watch` does.

        Args:
            sound: a `Sound`, or samples of one channel, NumPy or torch `[n]`, 16,000 a second; 2 s at the most.
            time: of the first sample in seconds, not before the end of the last piece, give or take 0.04 s. Left out:
                the sound's own time, or right after the last piece. Sound that comes later than that has paused: it
                begins a chunk.

        Raises:
            FrameError: it is no sound, too long, or not after the last piece.
            CapError: the memory is too small, or full and the policy never evicts.
            InfinipotError: the stream is of video.
        """
        self._drive(Call.FEED, watching.listen, sound, time)

    def begin_listen(self, sound: Sound | SamplesLike, time: float | None = None) -> Task[None]:
        """The call of `listen` as a task, for `Model.step` to carry on beside those of other streams."""
        return Task(self._guarded(Call.FEED, watching.listen, sound, time))

    def feed(self, given: Frame | Sound) -> None:
        """Takes in what a source of either kind yields: a frame as `watch` does, a piece of sound as `listen` does.

        Raises:
            What that call raises.
        """
        self._drive(Call.FEED, watching.feed, given)

    def begin_feed(self, given: Frame | Sound) -> Task[None]:
        """The call of `feed` as a task, for `Model.step` to carry on beside those of other streams."""
        return Task(self._guarded(Call.FEED, watching.feed, given))

    def ask(
        self,
        question: str,
        *,
        max_new_tokens: int | None = None,
        remember: bool = False,
        on_text: Callable[[str], None] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        repetition_penalty: float | None = None,
        seed: int = 0,
        stop: str | Sequence[str] = (),
        evidence: bool = False,
        look_again: int = 0,
        look_pixels: tuple[int, int] | None = None,
        window: float | None = None,
    ) -> Answer:
        """Answers a question about all frames given so far.

        Each token is chosen as `generate` of transformers would by the checkpoint's generation config and what is said
        here: the likeliest one, where neither says anything else.

        Args:
            question: in words.
            max_new_tokens: the longest answer; left out, what the reserve has room for, 256 at the most.
            remember: whether question and answer become part of the memory, for later questions to refer to.
            on_text: called with each new piece of the answer, never with the beginning of a `stop`.
            temperature: 0 for the likeliest tokens; above it tokens are drawn, the more freely the higher it is.
            top_p, top_k: draws among the likeliest tokens only: those that have this probability together, or this
                many.
            repetition_penalty: above 1, makes tokens that came before less likely; 1 changes nothing.
            seed: of what is drawn: the same question at the same moment has the same answer, another seed another.
            stop: a text, or texts, at which the answer ends; the answer is what stands before the first of them.
            evidence: whether the answer's `evidence` says which moments of the video it rests on, the heaviest first.
            look_again: the last frames to look at once more, as many as the stream keeps, in the reserve's room.
            look_pixels: least and most pixels of those frames; by default those of the stream.
            window: the newest seconds of the video that the question is about: attention passes over what is held from
                before, which makes answers about the present surer. Left out, all that is held.

        Returns:
            The answer, a string, which knows how long it is and why it ended: see `Answer`.

        Raises:
            QuestionError: it is empty, no frame was watched yet, or a value is out of range.
            CapError: question and answer do not fit the share of the memory that is reserved for them.
            NumericalError: what the model computes overflows.
        """
        asked = Question.of(
            question,
            max_new_tokens=max_new_tokens,
            remember=remember,
            on_text=on_text,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=stop,
            evidence=evidence,
            look_again=look_again,
            look_pixels=look_pixels,
            window=window,
        )
        answers: list[Answer] = []
        self._drive(Call.ASK, asking.answer, asked, answers)
        return answers[0]

    def begin_ask(self, question: str, **options: Unpack[AskOptions]) -> Task[Answer]:
        """The call of `ask`, with its options, as a task, for `Model.step` to carry on beside those of other streams.

        Raises:
            QuestionError: how tokens are chosen, or the window, is out of range. The task tells everything else.
        """
        return Task(self._answering(Question.of(question, **options)))

    def _answering(self, asked: Question) -> Work[Answer]:
        self._current()
        answers: list[Answer] = []
        yield from self._guarded(Call.ASK, asking.answer, asked, answers)
        return answers[0]

    def answer_limit(
        self,
        question: str,
        *,
        max_new_tokens: int | None = None,
        remember: bool = False,
        look_again: int = 0,
        look_pixels: tuple[int, int] | None = None,
    ) -> int:
        """Returns the most tokens that the answer to a question may have, without asking it.

        It is the same at any moment, but for a second look, which counts with the frames that are kept now.

        Raises:
            What `ask` raises for a question that cannot be asked.
        """
        again = look_tokens(self._setup, self._current(), Look.of(look_again, look_pixels))
        limit = answer_limit(self._setup, question, max_new_tokens, remember=remember, look=again)
        self._setup.adapter.scores({}, self._setup.prompt_ids, 1, torch.device("cpu"))
        return limit

    def stats(self) -> Stats:
        """What is held, and what it cost so far."""
        return self._current().stats(self._setup.adapter.modality, self._setup.bytes)

    @torch.inference_mode()
    def contents(self) -> Contents:
        """Which patches and cells of the video are held: see `Contents`. Frames that wait for their block are not."""
        with self._alone(Call.READ) as state:
            return Contents.of(state.memory)

    @torch.inference_mode()
    def fork(self) -> Self:
        """Opens another stream with the same past on the same model: ask it while this one watches on.

        What is held is copied once, into a memory of the same cap; neither stream changes the other from then on.

        Raises:
            CapError: the device has no room for a second memory.
        """
        with self._alone(Call.READ):
            return self._copy()

    @torch.inference_mode()
    def fork_amid(self) -> Self:
        """A fork as this stream was before the question whose task is under way, on the thread that takes its steps.

        It begins after what that has had the model run over: so several questions see the same frames at once.

        Raises:
            InfinipotError: no question is under way.
            CapError: the device has no room for a second memory.
        """
        self._current()
        if self._calls.under_way is not Call.ASK:
            raise InfinipotError("no question is being answered on the stream: fork it with fork()")
        return self._copy()

    def _copy(self) -> Self:
        with reserving(self._setup.budget.cap, self._setup.bytes):
            return type(self)(self._setup, self._state.fork())

    @torch.inference_mode()
    def save(self, path: str | Path) -> None:
        """Saves the stream to one file, from which `Model.restore` makes it again, in another process too.

        A file that is there is replaced when the new one is whole and on the disk, never before.

        Raises:
            SnapshotError: the file cannot be written, or infinipot knows no policy by the policy's name.
        """
        with self._alone(Call.READ) as state:
            snapshot.save(Path(path), self._setup, state)

    def lock(self) -> AbstractContextManager[None]:
        """Gives this thread the stream alone, with `with stream.lock():`; calls of other threads wait until it ends.

        Threads that share a stream, such as one that watches and one that asks, make their calls inside; it is enough
        if all but one do. They are let in in the order in which they come, so that a thread that watches without a
        pause holds up no question. A thread may enter it again. It belongs to the thread, not to a coroutine: give
        `asyncio.to_thread` a function that enters it. Tasks that are begun inside have to be done before it ends.

        Raises:
            InfinipotError: the stream is closed.
        """
        self._current()
        return self._calls.lock.held()

    def close(self) -> None:
        """Lets go of the memory and of waiting frames. Closing twice is fine; any other use afterwards is an error."""
        if not self._closed:
            self._closed = True
            del self._state
        self._calls.raise_deferred()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._calls.forget()
        self.close()

    @torch.inference_mode()
    def _drive(
        self,
        kind: Call,
        work: Callable[Concatenate[Setup, StreamState, P], Work[None]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Makes a call: carries its work to the end.

        The stream is taken around the runner, and not inside the task as `_guarded` does it. The runner may be
        interrupted, such as by Ctrl-C, between the end of the work and the return to the caller. Here the interruption
        is seen, and waits for the next call since the frame is taken. Inside the task it would pass unseen: the caller
        would get an error and give the frame once more.
        """
        with self._alone(kind) as state:
            runner.run(Task(work(self._setup, state, *args, **kwargs)))

    def _guarded(
        self,
        kind: Call,
        work: Callable[Concatenate[Setup, StreamState, P], Work[None]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Work[None]:
        """The work of a call for a task that others carry on: takes the stream from its first step to its last."""
        with self._alone(kind) as state:
            yield from work(self._setup, state, *args, **kwargs)

    def _alone(self, kind: Call) -> AbstractContextManager[StreamState]:
        """Gives a call the state for itself, see engine/alone.py."""
        return self._calls.call(self._setup, self._current, kind)

    def _current(self) -> StreamState:
        """The state, as long as the stream is open."""
        if self._closed:
            raise InfinipotError("the stream is closed: open another one")
        return self._state
