"""One video being watched, or one sound being heard, by one model: watch -> prefill -> compress, and ask.

Reads like the design's diagram. Knows the order of things, not how a family encodes frames or sound, how the memory
stores tokens or how a policy chooses.
"""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from infinipot import snapshot
from infinipot.audio import GAP, SamplesLike, Sound, as_sound
from infinipot.budget import Budget, default_cap, is_whole, make_budget, parse_memory, smallest_cap
from infinipot.config import StreamConfig
from infinipot.consistency import Bounds, State
from infinipot.errors import CapError, FrameError, InfinipotError, QuestionError
from infinipot.generate import Chooser, Sampling, are_numbers, decode, overflow, speak
from infinipot.intake import Intake, Transcript
from infinipot.memory import Contents, Draft, Memory, allocated_bytes, stored_columns
from infinipot.models import Family, Patch
from infinipot.models.chat import ANSWER
from infinipot.policies.base import Policy
from infinipot.snapshot import Snapshot
from infinipot.stats import Stats, Stopwatch
from infinipot.text import check_text
from infinipot.tokens import Grid
from infinipot.video import Frame, ImageLike, as_frame

_LONGEST_ANSWER = 256


class _Part(NamedTuple):
    """A piece of a prompt.

    Attributes:
        rows: embeddings, `[n, hidden]`.
        text, captions: the token ids in it, of the conversation and of patches' captions.
    """

    rows: Tensor
    text: Sequence[int] = ()
    captions: Sequence[int] = ()


class Stream:
    """A video in bounded memory: `watch` it frame by frame and `ask` at any moment. `Model.stream` opens one.

    Or sound: `listen` to it piece by piece.

    A call that raises, or that Ctrl-C ends, leaves the stream as it was before the call: at the most, frames that
    waited for their block have gone into the memory, or positions have been re-based. What interrupts a call when its
    frame, or its turn, is already part of the memory does not end that call: the next one raises it, or `close` does.
    Asking changes nothing, unless the turn is to be remembered. One call at a time.

    Args:
        family: the model.
        policy: what stays when the memory is full.
        memory, settings: the other fields of `StreamConfig`.

    Attributes:
        policy: what stays when the memory is full.
        config: the settings, as they were given.
    """

    def __init__(self, family: Family, policy: Policy, memory: int | str | None = None, **settings: Any) -> None:
        self.config = config = StreamConfig(memory=memory, **settings)
        self.policy = policy
        self._family = family
        self._chat = family.chat(config.system)
        self._opening = family.tokenize(self._chat.opening, opens=True)
        self._reopening = family.tokenize(self._chat.reopening, behind=ANSWER)
        self._closing = family.closing()

        texts = len(self._opening), len(self._reopening), family.caption_limit

        shares = {name: getattr(config, name) for name in ("reserve", "dialogue", "keep", "block")}

        def budget_of(cap: int) -> Budget:
            # Nothing here is the stream's: one that refers to itself would wait for the garbage collector.
            budget = make_budget(cap, *texts, **shares)
            return budget if policy.evicts else replace(budget, keep=0.0)

        shapes = family.layer_shapes()
        rule = family.position_rule()
        self._range = family.position_range if config.positions == "rebase" and policy.evicts else None
        largest = 3 * self._range // 4 if self._range else None
        columns = stored_columns(rule, policy.columns)
        beside = allocated_bytes(0, shapes, columns)
        per_token = allocated_bytes(1, shapes, columns) - beside
        if memory is None:  # what is not given gives way to what is: the cap to frames, and frames to the cap
            cap = default_cap(budget_of, family.frame_cells(config.pixels or family.frame_pixels()), largest)
        else:
            cap = parse_memory(memory, per_token, beside)
        self._budget_of = budget_of
        self._budget = budget_of(cap)
        self._pixels = config.pixels or family.frame_pixels(self._budget.largest_patch())
        self._intake = Intake(family.gather(self._pixels))
        self._asked_tokens = 0
        self._block_patches(cells=self._intake.open.steps)
        if self._range is not None and largest is not None:
            if cap > largest:
                raise CapError(
                    f"memory={cap} tokens may need more than the {self._range} positions that the model was trained "
                    f"on: give at most {largest}, or positions='native'"
                )
            rule = replace(rule, longest_gap=max(1, self._range // (8 * max(config.block or 0, 8))))
        with _reserving(cap, allocated_bytes(cap, shapes, columns)):
            self._memory = Memory(
                cap, shapes, family.shared_rotary, rule, self._budget.dialogue, family.ranks, policy.columns
            )
        self._stopwatch = Stopwatch()
        self._closed = False
        self._deferred: BaseException | None = None
        self._dense_after = 0  # compressions
        self._busy = threading.Lock()

    @torch.inference_mode()
    def watch(self, frame: Frame | ImageLike, time: float | None = None) -> None:
        """Takes in one frame; runs the model whenever a block is full, and compresses when the memory is.

        Args:
            frame: a `Frame`, or a picture: NumPy `[height, width, 3]`, torch `[3, height, width]` or PIL.
            time: of the frame in seconds, above that of the last one. Left out: the frame's own time, or one period
                of `fps` behind the last one.

        Raises:
            FrameError: it is not a picture, or not later than the last frame.
            CapError: the memory is too small for frames of this size, or full and the policy never evicts.
        """
        with self._alone(self._frames, "video"):
            self._take_in(self._accept(frame, time))

    @torch.inference_mode()
    def listen(self, sound: Sound | SamplesLike, time: float | None = None) -> None:
        """Takes in a piece of sound; runs the model and compresses as `watch` does.

        Args:
            sound: a `Sound`, or samples of one channel, NumPy or torch `[n]`, 16,000 a second; 2 s at the most.
            time: of the first sample in seconds, not before the end of the last piece, give or take 0.04 s. Left out:
                the sound's own time, or right behind the last piece. Sound that comes later than that has paused: it
                begins a chunk.

        Raises:
            FrameError: it is no sound, too long, or not behind the last piece.
            CapError: the memory is too small, or full and the policy never evicts.
        """
        with self._alone(self._frames, "audio"):
            self._take_in(self._accept_sound(sound, time))

    def _take_in(self, given: Frame | Sound) -> None:
        gathered = self._intake.open.after(given)
        if given.size != self._intake.size:
            self._change_size(given)
            gathered = self._intake.open.after(given)
        intake = replace(self._intake, open=gathered, frames=self._intake.frames + 1, time=given.end)
        self._require_slots(intake)
        self._require_positions(intake)
        self._stay_in_range(intake)
        with self._encoding():
            full, rest = gathered.split()
        intake = replace(intake, pending=(*intake.pending, full) if full else intake.pending, open=rest)
        if len(intake.pending) == intake.block:
            self._prefill(intake)
        else:
            self._intake = intake

    @torch.inference_mode()
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
    ) -> str:
        """Answers a question about all frames given so far.

        Each token is chosen as `generate` of transformers would by the checkpoint's generation config and what is said
        here: the likeliest one, where neither says anything else. See `Sampling`.

        Args:
            question: in words.
            max_new_tokens: the longest answer; left out, what the reserve has room for, 256 at the most.
            remember: whether question and answer become part of the memory, for later questions to refer to.
            on_text: called with each new piece of the answer, never with the beginning of a `stop`.
            temperature: 0 for the likeliest tokens; above it tokens are drawn, the more freely the higher it is.
            top_p, top_k: draws among the likeliest tokens: those of this probability together, or so many.
            repetition_penalty: makes tokens that were said before less likely, 1 for nothing.
            seed: of what is drawn: the same question at the same moment has the same answer, another seed another.
            stop: a text, or texts, at which the answer ends; it is what stands before the first of them.

        Returns:
            The answer.

        Raises:
            QuestionError: it is empty, no frame was watched yet, or a value is out of range.
            CapError: question and answer do not fit the share of the memory that is reserved for them.
            NumericalError: what the model computes overflows.
        """
        sampling = Sampling(temperature, top_p, top_k, repetition_penalty, seed, stop)
        answers: list[str] = []
        with self._alone(self._turns):
            self._answer(question, max_new_tokens, remember, on_text, sampling, answers)
        return answers[0]

    def _answer(
        self,
        question: str,
        max_new_tokens: int | None,
        remember: bool,
        on_text: Callable[[str], None] | None,
        sampling: Sampling,
        answers: list[str],
    ) -> None:
        if not self._memory.held and not self._intake.starts():
            raise QuestionError("there is nothing to ask about yet: watch a frame, or listen, first")
        limit = self._answer_limit(question, max_new_tokens, remember)
        self._require_positions(self._intake)
        patches = self._patches(self._intake)
        follows_video = bool(patches) or self._memory.cursor.open
        prompt = self._prompt(question, follows_video=follows_video)

        with self._memory.draft() as draft:
            parts = self._lay_out(draft, patches)
            seen = self._memory.held + draft.tokens
            with self._stopwatch.phase("answer"):
                parts += self._asked(draft, prompt, follows_video=follows_video)
                logits = self._forward(draft, parts)
                tokens = decode(
                    logits,
                    lambda token: self._forward(draft, [self._text(draft, [token])]),
                    self._chooser(sampling, parts, limit, logits.device),
                    self._family.stop_ids,
                    limit,
                    feed_last=remember,
                )
                said, answer, cut = speak(tokens, self._family.detokenize, sampling.stop, on_text)
                answers.append(answer.strip())
            if remember and not cut:
                self._commit(draft, self._emptied(), parts, said, turn=True)
        if remember and cut:
            self._remember(patches, prompt, self._said(said, answer)[:limit], follows_video=follows_video)
        self._asked_tokens = seen
        if remember:
            self._stay_in_range(self._intake)

    def _remember(
        self, patches: Sequence[Patch], prompt: Sequence[int], answer: Sequence[int], *, follows_video: bool
    ) -> None:
        """Makes a turn part of the memory whose answer was cut, of which the model has run over too much."""
        with self._memory.draft() as draft:
            parts = self._lay_out(draft, patches)
            parts += self._asked(draft, [*prompt, *answer], follows_video=follows_video)
            self._run(draft, parts)
            self._commit(draft, self._emptied(), parts, turn=True)

    def _said(self, tokens: Sequence[int], text: str) -> list[int]:
        """Those of an answer's tokens that make its text, and what it takes to spell the rest of it."""
        family = self._family
        whole = next(
            (count for count in range(len(tokens), 0, -1) if text.startswith(family.detokenize(tokens[:count]))), 0
        )
        rest = text[len(family.detokenize(tokens[:whole])) :]
        return [*tokens[:whole], *(family.tokenize(rest, plain=True, behind=ANSWER) if rest else ())]

    def _asked(self, draft: Draft, prompt: Sequence[int], *, follows_video: bool) -> list[_Part]:
        """A question behind what is held and what waits."""
        parts = []
        if follows_video and self._closing is not None:
            draft.text(len(self._closing), self._intake.time)
            parts.append(_Part(self._closing))
        return [*parts, self._text(draft, prompt)]

    def _chooser(self, sampling: Sampling, parts: Sequence[_Part], limit: int, device: torch.device) -> Chooser:
        """Chooses the tokens of an answer behind what is held and these parts."""
        before = [*self._opening, *self._told(parts, turn=True).ids(self._family.cell_id)]
        scores, drawn = self._family.scores(sampling.said(), before, limit, device)
        return Chooser(scores, before, limit, sampling.seed if drawn else None, device)

    def check(self, question: str, *, max_new_tokens: int | None = None, remember: bool = False) -> None:
        """Raises what `ask` would raise for a question that cannot be asked at any moment, without asking it."""
        self._require_open()
        self._answer_limit(question, max_new_tokens, remember)
        self._family.scores({}, self._opening, 1, torch.device("cpu"))

    def stats(self) -> Stats:
        """What is held, and what it cost so far."""
        self._require_open()
        memory, intake = self._memory, self._intake
        return Stats(
            modality=self._family.modality,
            frames=intake.frames,
            patches=memory.cursor.patch,
            time=max(intake.time, 0.0),
            tokens=memory.held,
            text_tokens=memory.text,
            video_tokens=memory.video,
            asked_tokens=self._asked_tokens,
            turns=len(memory.turns),
            cap=memory.cap,
            peak_tokens=memory.peak,
            full_tokens=memory.seen,
            bytes=memory.bytes,
            compressions=memory.compressions,
            rebases=memory.rebases,
            seconds=dict(self._stopwatch.seconds),
        )

    def contents(self) -> Contents:
        """Which patches and cells of the video are held: see `Contents`. Frames that wait for their block are not."""
        with self._alone(self._frames):
            return Contents.of(self._memory)

    @torch.inference_mode()
    def fork(self) -> Self:
        """Opens another stream with the same past on the same model: ask it while this one watches on.

        What is held is copied once, into a memory of the same cap; neither stream changes the other from then on.

        Raises:
            CapError: the device has no room for a second memory.
        """
        with self._alone(self._frames), _reserving(self._memory.cap, self._memory.bytes):
            other = copy.copy(self)
            other._memory = self._memory.fork()
            other._stopwatch = Stopwatch(dict(self._stopwatch.seconds))
            other._busy = threading.Lock()
            return other

    @torch.inference_mode()
    def save(self, path: str | Path) -> None:
        """Saves the stream to one file, from which `Model.restore` makes it again, in another process too.

        A file that is there is replaced when the new one is whole and on the disk, never before.

        Raises:
            SnapshotError: the file cannot be written, or the policy is none that infinipot knows by name.
        """
        with self._alone(self._frames):
            state = State(
                held=self._memory.state,
                grids=self._memory.grids,
                peak=self._memory.peak,
                intake=self._intake,
                asked_tokens=self._asked_tokens,
                dense_after=self._dense_after,
                seconds=dict(self._stopwatch.seconds),
            )
            snapshot.save(Path(path), self._memory, state, self.config, self._bounds())

    @torch.inference_mode()
    def take_up(self, saved: Snapshot) -> None:
        """Has a stream that was just opened go on where a saved one was; `Model.restore` opens such a one.

        Raises:
            SnapshotError: what was saved is not what this stream could have come to.
        """
        state = saved.restore(self._memory, self._intake, self._bounds())
        self._intake = state.intake
        self._asked_tokens, self._dense_after = state.asked_tokens, state.dense_after
        self._stopwatch = Stopwatch(state.seconds)

    def _bounds(self) -> Bounds:
        return Bounds(self._family, self.policy, self._budget, len(self._opening), self._memory.rule, self._pixels)

    def close(self) -> None:
        """Lets go of the memory and of waiting frames. Closing twice is fine; any other use afterwards is an error."""
        if not self._closed:
            self._closed = True
            del self._memory, self._intake
        self._raise_deferred()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._deferred = None
        self.close()

    @contextmanager
    def _alone(self, done: Callable[[], int], modality: str | None = None) -> Iterator[None]:
        """One call at a time: a stream has one memory, and a draft on it is not part of it yet.

        What interrupts a call once its change of the memory has begun is deferred: the change is finished, and there is
        no way back from it.

        Args:
            done: a number that the call's change changes.
            modality: what the stream has to be of.
        """
        self._require_open()
        if modality not in (None, self._family.modality):
            raise InfinipotError(
                f"the stream is of {self._family.modality}: open one of {modality} with modality={modality!r}"
            )
        if self._busy.locked():
            raise InfinipotError(
                "the stream is in the middle of another call: one thread at a time, and no call inside"
            )
        with self._busy:
            self._memory.settle()
            self._close_ranks()
            self._raise_deferred()
            before = done()
            try:
                yield
            except BaseException as error:
                with suppress(BaseException):  # one is enough
                    self._memory.settle()
                if done() == before:
                    raise
                self._deferred = error

    def _frames(self) -> int:
        return self._intake.frames

    def _turns(self) -> int:
        return self._memory.turns_ever

    def _raise_deferred(self) -> None:
        """Raises what interrupted the last call when that could no longer end."""
        error, self._deferred = self._deferred, None
        if error is not None:
            raise error

    def _require_open(self) -> None:
        if self._closed:
            raise InfinipotError("the stream is closed: open another one")

    # What goes in

    def _accept(self, frame: Frame | ImageLike, time: float | None) -> Frame:
        last = self._intake.time
        if time is None and not isinstance(frame, Frame):
            time = last + 1 / self.config.fps if self._intake.frames else 0.0
        accepted = as_frame(frame, time)
        if accepted.time <= last:
            raise FrameError(f"frames come in order of time: {accepted.time:g} s is not after {last:g} s")
        limit = self._family.caption_limit
        if limit and sum(map(len, self._family.caption_ids([accepted.time], self._intake.frames, opens=True))) > limit:
            raise FrameError(f"the time {accepted.time:g} s takes more tokens than the {limit} set aside for a caption")
        return accepted

    def _accept_sound(self, sound: Sound | SamplesLike, time: float | None) -> Sound:
        last = max(self._intake.time, 0.0)
        if time is None and not isinstance(sound, Sound):
            time = last
        accepted = as_sound(sound, time)
        if accepted.time < last - GAP:
            raise FrameError(f"sound comes in order of time: {accepted.time:g} s is before {last:g} s, where it was")
        return accepted

    def _change_size(self, given: Frame | Sound) -> None:
        """Enters the grid of a frame of another size: what waits in the old one goes into the memory first."""
        with self._encoding():
            rows, columns = self._intake.open.grid(given)
        cells, steps = rows * columns, self._intake.open.steps
        block, old, grids = self._block_patches(steps * cells), self._intake.grid, self._memory.grids
        if self.policy.whole_patches and grids and cells != old.cells:
            raise FrameError(
                f"frames changed from {old.rows} x {old.columns} to {rows} x {columns} cells, but policy "
                f"{self.policy.name!r} reads the memory as patches of one size"
            )
        self._require_slots(self._intake, more=steps * (cells + self._family.caption_limit))
        patches = self._patches(self._intake)
        try:
            grid = self._memory.use_grid(rows, columns)
            intake = replace(self._emptied(), size=given.size, grid=grid, block=block)
            with self._memory.draft() as draft:
                parts = self._lay_out(draft, patches, old)
                if parts:
                    self._run(draft, parts)
                self._commit(draft, intake, parts)
        except BaseException:
            if self._intake.grid is old:
                self._memory.grids = grids
            raise

    def _emptied(self) -> Intake:
        """The intake once all that waits has gone into the memory."""
        return replace(self._intake, pending=(), open=self._intake.open.cleared())

    def _patches(self, intake: Intake) -> tuple[Patch, ...]:
        """The patches that wait, one that is not full included."""
        with self._encoding():
            last = intake.open.patch()
        return intake.pending if last is None else (*intake.pending, last)

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        """Inside, what was given becomes what the encoder takes."""
        with self._stopwatch.phase("vision"):
            try:
                yield
            except ValueError as error:  # such as a picture that is 200 times as wide as high
                raise FrameError(f"the model cannot take a frame of this size: {error}") from error

    def _prefill(self, intake: Intake) -> None:
        """Runs a block through the model and makes it part of the memory."""
        with self._memory.draft() as draft:
            parts = self._lay_out(draft, intake.pending)
            with self._stopwatch.phase("prefill"):
                self._run(draft, parts)
            self._commit(draft, replace(intake, pending=()), parts)

    def _commit(
        self, draft: Draft, intake: Intake, parts: Sequence[_Part], answer: Sequence[int] = (), *, turn: bool = False
    ) -> None:
        """Makes a draft part of the memory, with room behind it for the next block."""
        said = self._told(parts, answer, turn=turn)
        cells = intake.grid.cells
        block = intake.block * intake.patch_tokens(self._family.caption_limit)

        def keep(text: int, video: int) -> int | None:
            if not self.policy.evicts or video + block <= self._budget.video(text):
                return None
            return self._budget.kept(text, cells, whole_patches=self.policy.whole_patches)

        def take() -> None:
            self._intake = replace(intake, said=said.held(len(self._memory.turns)))

        with self._stopwatch.phase("compress"):
            self._memory.commit(draft, turn=turn, policy=self.policy, keep=keep, on_applied=take)
            self._close_ranks()

    def _close_ranks(self) -> None:
        """Re-assigns positions without gaps after a compression, where the policy is one that does."""
        if self.policy.dense_positions and self._dense_after != self._memory.compressions:
            self._memory.rebase(target=0, limit=self._memory.cursor.next)
            self._dense_after = self._memory.compressions

    # What the model sees

    def _lay_out(self, draft: Draft, patches: Sequence[Patch], grid: Grid | None = None) -> list[_Part]:
        """Patches of one grid, behind the text that opens them; the draft takes them up."""
        if not patches:
            return []
        lead, begun = self._lead(not draft.cursor.open), self._memory.held
        parts = []
        if lead:
            draft.text(len(lead), patches[0].starts[0])
            parts.append(_Part(self._family.embed(lead), lead if begun else ()))
        with self._stopwatch.phase("vision"):
            features = self._family.encode(patches).split([patch.tokens for patch in patches])
        for patch, tokens in zip(patches, features, strict=True):
            number, opens = draft.cursor.patch, not draft.cursor.open
            before, after = self._family.caption_ids(patch.times, number, opens=opens)
            rows = [self._family.embed(before), tokens, self._family.embed(after)]
            draft.video(grid or self._intake.grid, patch.starts, len(before), len(after))
            parts.append(_Part(self._family.join(rows), captions=(*before, *after)))
        return parts

    def _lead(self, closed: bool) -> list[int]:
        """The text ahead of the next patch."""
        if not self._memory.held:
            return self._opening
        return self._reopening if closed else []

    def _text(self, draft: Draft, ids: Sequence[int]) -> _Part:
        draft.text(len(ids), self._intake.time)
        return _Part(self._family.embed(ids), ids)

    def _told(self, parts: Sequence[_Part], answer: Sequence[int] = (), *, turn: bool) -> Transcript:
        """What was said once these parts and an answer are part of the memory."""
        text = [token for part in parts for token in part.text]
        return self._intake.said.after(
            [*text, *answer], (token for part in parts for token in part.captions), turn=turn
        )

    def _forward(self, draft: Draft, parts: Sequence[_Part]) -> Tensor:
        """Runs the model over what a draft took up last, parts in a row; returns the logits behind, `[vocab]`."""
        embeddings = self._family.join([part.rows for part in parts])
        return self._family.forward(embeddings, self._memory.step(draft))

    def _run(self, draft: Draft, parts: Sequence[_Part]) -> None:
        """Runs the model over parts that are to become part of the memory.

        Whatever is no number in the memory makes the logits behind it none. Looking at them costs nothing on a CPU; a
        GPU would have to be waited for, which is done once, for the first block, so that a type that overflows is told
        at once. From then on it is told when a question is asked, whose answer is waited for anyway.
        """
        logits = self._forward(draft, parts)
        if (logits.device.type == "cpu" or not self._memory.held) and not are_numbers(logits):
            raise overflow(logits.dtype)

    # What must fit

    def _block_patches(self, cells: int) -> int:
        """Temporal patches of `cells` tokens in a block, or an error that names the memory that would do."""
        patches = self._budget.block_patches(cells)
        if patches:
            return patches
        least = smallest_cap(self._budget_of, cells)
        budget = self._budget
        aside = f"reserve={budget.reserve}" + (f", dialogue={budget.dialogue}" if budget.dialogue else "")
        message = f"memory={budget.cap} tokens is too small for this prompt, {aside}"
        if cells == 1:
            raise CapError(f"{message} and any video at all: give {least} and more")
        message = f"{message} and {self._intake.open.unit} of {cells} tokens"
        message += self._smaller_frames()
        if self._range is not None and least > 3 * self._range // 4:
            raise CapError(f"{message}; {least} tokens would do, but leave the trained positions")
        raise CapError(f"{message}: the smallest that works is {least}")

    def _smaller_frames(self) -> str:
        """Says what frames would fit, if frames can be smaller."""
        most = 0 if self._pixels is None else self._budget.largest_patch() * self._family.cell_pixels
        if not self._pixels or not most:
            return ""
        least = max(1, min(self._pixels[0], most // 3))
        return (
            f". Frames of at most {most} pixels fit, pixels=({least}, {most}) or --min-pixels {least} "
            f"--max-pixels {most}; or give more memory"
        )

    def _require_slots(self, intake: Intake, more: int = 0) -> None:
        """A policy that never evicts is full when what waits, and `more` tokens, find no room beside the dialogue."""
        waiting = len(intake.starts()) * (intake.grid.cells + self._family.caption_limit) + more
        text = len(self._opening) + self._budget.dialogue
        if not self.policy.evicts and self._memory.video + waiting > self._budget.video(text):
            raise CapError(
                f"the memory of {self._budget.cap} tokens is full at {max(intake.time, 0.0):g} s, and policy "
                f"{self.policy.name!r} never evicts: give more memory, or another policy"
            )

    def _stay_in_range(self, intake: Intake) -> None:
        """Re-bases the memory if what waits, a question and its answer would leave the trained positions.

        A little at a time, since until the next time the newest patches take more positions than their time's share.
        """
        if self._range is None:
            return
        for _ in range(2):  # re-based, what waits may count otherwise
            after = self._position_after(intake)
            if after > self._range:
                limit = self._range - (after - self._memory.cursor.next)
                self._memory.rebase(target=7 * limit // 8, limit=limit, slow=True)

    def _require_positions(self, intake: Intake) -> None:
        """Where a stream does not re-base, a family may work up to some position only."""
        limit = self._family.position_limit
        if self._range is None and limit is not None and self._position_after(intake) > limit:
            raise CapError(
                f"{self._family.title} rotates keys by the length of the prompt beyond {limit} positions, which this "
                "stream would reach: open it with positions='rebase' and a policy that evicts"
            )

    def _position_after(self, intake: Intake) -> int:
        """The next position behind what waits, and the reserve for a question and its answer."""
        here, starts = self._memory.cursor, intake.starts()
        if not starts:
            return here.after_text(len(self._reopening) + self._budget.reserve).next
        cursor = here if here.open else here.after_text(len(self._lead(True)))
        for start in starts:
            cursor = cursor.after_caption(self._family.caption_limit)
            cursor = cursor.after_patch(intake.grid, start, self._memory.rule)
        return cursor.after_text(self._budget.reserve).next

    def _prompt(self, question: str, *, follows_video: bool) -> list[int]:
        """A question and the texts around it, as token ids."""
        if not isinstance(question, str):
            raise QuestionError(f"a question is a text, not {type(question).__name__}: {question!r}")
        if not question.strip():
            raise QuestionError("the question is empty")
        check_text(question, "the question", QuestionError)
        chat, family = self._chat, self._family
        if follows_video:
            return family.prompt(chat.before_question, question, chat.after_question, behind=family.placeholder)
        return family.prompt(chat.follow_up, question, chat.after_question, behind=ANSWER)

    def _answer_limit(self, question: str, asked: int | None, remember: bool) -> int:
        """Tokens that an answer may take, the same at every moment of the stream."""
        if asked is not None and not is_whole(asked):
            raise QuestionError(f"max_new_tokens={asked!r}: give a whole number")
        prompt = max(len(self._prompt(question, follows_video=follows)) for follows in (True, False))
        prompt += 0 if self._closing is None else len(self._closing)
        room = self._budget.reserve
        if remember:
            # A turn may stand behind one reopening of the video, and the next one behind the turn.
            room = min(room, self._budget.dialogue - 2 * len(self._reopening))
        limit = min(room - prompt, _LONGEST_ANSWER) if asked is None else asked
        if asked is not None and limit < 1:
            raise QuestionError(f"max_new_tokens={asked}: an answer has at least one token")
        if limit < 1 or prompt + limit > room:
            needed = prompt + max(limit, 1)
            share = f"dialogue={needed + 2 * len(self._reopening)}" if remember else f"reserve={needed}"
            raise CapError(
                f"the question takes {prompt} tokens and its answer up to {max(limit, 1)}, but only {room} are set "
                f"aside for both: open the stream with {share} or more, or with more memory",
                reserve=None if remember else needed,
            )
        return limit


@contextmanager
def _reserving(cap: int, size: int) -> Iterator[None]:
    """Inside, a memory of `cap` tokens and `size` bytes is allocated."""
    try:
        yield
    except RuntimeError as error:
        if not _lacks_memory(error):
            why = str(error).partition("\n")[0]
            raise InfinipotError(f"the memory cannot be allocated: {why}") from error
        raise CapError(f"memory={cap} tokens takes {size / 2**20:.0f} MiB, which the device does not have") from error


def _lacks_memory(error: RuntimeError) -> bool:
    """Whether a device had no memory left: on a CPU, and on Apple's GPUs, torch has no class of its own for that."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in said or "out of memory" in said
