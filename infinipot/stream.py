"""One video being watched, or one sound being heard, by one model: watch -> prefill -> compress, and ask.

Reads like the design's diagram. Knows the order of things, not how a family encodes frames or sound, how the memory
stores tokens or how a policy chooses.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from infinipot.audio import GAP, SamplesLike, Sound, as_sound
from infinipot.budget import Budget, is_whole, make_budget, parse_memory, smallest_cap
from infinipot.errors import CapError, FrameError, InfinipotError, QuestionError
from infinipot.generate import greedy
from infinipot.intake import Intake
from infinipot.memory import Draft, Memory, allocated_bytes
from infinipot.models import Family, Patch
from infinipot.models.chat import ANSWER
from infinipot.policies.base import Grid, Policy
from infinipot.settings import check_settings
from infinipot.stats import Stats, Stopwatch
from infinipot.text import check_text
from infinipot.video import Frame, ImageLike, as_frame

_DEFAULT_CAP = 4096
_LONGEST_ANSWER = 256


class Stream:
    """A video in bounded memory: `watch` it frame by frame and `ask` at any moment. `Model.stream` opens one.

    Or sound: `listen` to it piece by piece.

    A call that raises, or that Ctrl-C ends, leaves the stream as it was before the call: at the most, frames that
    waited for their block have gone into the memory, or positions have been re-based. Asking changes nothing, unless
    the turn is to be remembered. One call at a time.

    Args:
        family: the model.
        policy: what stays when the memory is full.
        memory, fps, keep, block, reserve, dialogue, positions, system, pixels: see `Model.stream`.
    """

    def __init__(
        self,
        family: Family,
        policy: Policy,
        memory: int | str | None = None,
        *,
        fps: float = 2.0,
        keep: float = 0.75,
        block: int | None = None,
        reserve: int | None = None,
        dialogue: int | None = None,
        positions: str = "rebase",
        system: str | None = None,
        pixels: tuple[int, int] | None = None,
    ) -> None:
        check_settings(
            memory,
            fps=fps,
            keep=keep,
            block=block,
            reserve=reserve,
            dialogue=dialogue,
            positions=positions,
            pixels=pixels,
        )
        check_text(system or "", "the system message")
        self.policy = policy
        self._family = family
        self._fps = fps
        self._chat = family.chat(system)
        self._opening = family.tokenize(self._chat.opening, opens=True)
        self._reopening = family.tokenize(self._chat.reopening, behind=ANSWER)
        self._closing = family.closing()

        def budget_of(cap: int) -> Budget:
            texts = len(self._opening), len(self._reopening), family.caption_limit
            budget = make_budget(cap, *texts, reserve=reserve, dialogue=dialogue, keep=keep, block=block)
            return budget if policy.evicts else replace(budget, keep=0.0)

        shapes = family.layer_shapes()
        rule = family.position_rule()
        self._range = family.position_range if positions == "rebase" and policy.evicts else None
        largest = 3 * self._range // 4 if self._range else _DEFAULT_CAP
        beside = allocated_bytes(0, shapes)
        per_token = allocated_bytes(1, shapes) - beside
        cap = min(_DEFAULT_CAP, largest) if memory is None else parse_memory(memory, per_token, beside)
        self._budget_of = budget_of
        self._budget = budget_of(cap)
        self._intake = Intake(family.gather(pixels))
        self._asked_tokens = 0
        self._block_patches(cells=self._intake.open.steps)
        if self._range is not None:
            if cap > largest:
                raise CapError(
                    f"memory={cap} tokens may need more than the {self._range} positions that the model was trained "
                    f"on: give at most {largest}, or positions='native'"
                )
            rule = replace(rule, longest_gap=max(1, self._range // (8 * max(block or 0, 8))))
        try:
            self._memory = Memory(cap, shapes, family.rotary(), rule, self._budget.dialogue, family.ranks)
        except RuntimeError as error:
            if not _lacks_memory(error):
                why = str(error).partition("\n")[0]
                raise InfinipotError(f"the memory cannot be allocated: {why}") from error
            size = allocated_bytes(cap, shapes) / 2**20
            raise CapError(f"memory={cap} tokens takes {size:.0f} MiB, which the device does not have") from error
        self._stopwatch = Stopwatch()
        self._closed = False
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
        with self._alone("video"):
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
        with self._alone("audio"):
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
    ) -> str:
        """Answers a question about all frames given so far, by greedy decoding.

        Args:
            question: in words.
            max_new_tokens: the longest answer; left out, what the reserve has room for, 256 at the most.
            remember: whether question and answer become part of the memory, for later questions to refer to.
            on_text: called with each new piece of the answer.

        Returns:
            The answer.

        Raises:
            QuestionError: it is empty, or no frame was watched yet.
            CapError: question and answer do not fit the share of the memory that is reserved for them.
        """
        with self._alone():
            return self._answer(question, max_new_tokens, remember, on_text)

    def _answer(
        self,
        question: str,
        max_new_tokens: int | None,
        remember: bool,
        on_text: Callable[[str], None] | None,
    ) -> str:
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
                if follows_video and self._closing is not None:
                    parts.append((self._closing, draft.text(len(self._closing), self._intake.time)))
                parts.append(self._text(draft, prompt))
                tokens = greedy(
                    self._forward(parts),
                    lambda token: self._forward([self._text(draft, [token])]),
                    self._family.stop_ids,
                    limit,
                    feed_last=remember,
                )
                answer = self._spell(tokens, on_text)
            if remember:
                self._commit(draft, self._emptied(), turn=True)
        self._asked_tokens = seen
        if remember:
            self._stay_in_range(self._intake)
        return answer.strip()

    def check(self, question: str, *, max_new_tokens: int | None = None, remember: bool = False) -> None:
        """Raises what `ask` would raise for a question that cannot be asked at any moment, without asking it."""
        self._require_open()
        self._answer_limit(question, max_new_tokens, remember)

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

    def close(self) -> None:
        """Lets go of the memory. Closing twice is fine; any other use afterwards is an error."""
        if not self._closed:
            self._closed = True
            del self._memory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _alone(self, modality: str | None = None) -> Iterator[None]:
        """One call at a time: a stream has one memory, and a draft on it is not part of it yet.

        Args:
            modality: what the stream has to be of.
        """
        self._require_open()
        if modality not in (None, self._family.modality):
            raise InfinipotError(
                f"the stream is of {self._family.modality}: open one of {modality} with modality={modality!r}"
            )
        if not self._busy.acquire(blocking=False):
            raise InfinipotError(
                "the stream is in the middle of another call: one thread at a time, and no call inside"
            )
        try:
            yield
        finally:
            self._busy.release()

    def _require_open(self) -> None:
        if self._closed:
            raise InfinipotError("the stream is closed: open another one")

    # What goes in

    def _accept(self, frame: Frame | ImageLike, time: float | None) -> Frame:
        last = self._intake.time
        if time is None and not isinstance(frame, Frame):
            time = last + 1 / self._fps if self._intake.frames else 0.0
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
                if patches:
                    self._forward(self._lay_out(draft, patches, old))
                self._commit(draft, intake)
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
                self._forward(parts)
            self._commit(draft, replace(intake, pending=()))

    def _commit(self, draft: Draft, intake: Intake, *, turn: bool = False) -> None:
        """Makes a draft part of the memory, with room behind it for the next block."""
        cells = intake.grid.cells
        block = intake.block * intake.patch_tokens(self._family.caption_limit)

        def keep(text: int, video: int) -> int | None:
            if not self.policy.evicts or video + block <= self._budget.video(text):
                return None
            return self._budget.kept(text, cells, whole_patches=self.policy.whole_patches)

        def take() -> None:
            self._intake = intake

        with self._stopwatch.phase("compress"):
            evicted = self._memory.compressions
            self._memory.commit(draft, turn=turn, policy=self.policy, keep=keep, on_applied=take)
            if self.policy.dense_positions and self._memory.compressions > evicted:
                self._memory.rebase(target=0, limit=self._memory.cursor.next)

    # What the model sees

    def _lay_out(self, draft: Draft, patches: Sequence[Patch], grid: Grid | None = None) -> list[tuple[Tensor, Tensor]]:
        """Embeddings `[n, hidden]` and positions `[3, n]` of patches of one grid, behind the text that opens them."""
        if not patches:
            return []
        lead = self._lead(not draft.cursor.open)
        parts = [(self._family.embed(lead), draft.text(len(lead), patches[0].starts[0]))] if lead else []
        with self._stopwatch.phase("vision"):
            features = self._family.encode(patches).split([patch.tokens for patch in patches])
        for patch, tokens in zip(patches, features, strict=True):
            number, opens = draft.cursor.patch, not draft.cursor.open
            before, after = self._family.caption_ids(patch.times, number, opens=opens)
            rows = [self._family.embed(before), tokens, self._family.embed(after)]
            where = draft.video(grid or self._intake.grid, patch.starts, len(before), len(after))
            parts.append((self._family.join(rows), where))
        return parts

    def _lead(self, closed: bool) -> list[int]:
        """The text ahead of the next patch."""
        if not self._memory.held:
            return self._opening
        return self._reopening if closed else []

    def _text(self, draft: Draft, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self._family.embed(ids), draft.text(len(ids), self._intake.time)

    def _forward(self, parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Runs the model over parts in a row; returns the logits behind them, `[vocab]`."""
        embeddings = self._family.join([rows for rows, _ in parts])
        positions = torch.cat([where for _, where in parts], -1)
        return self._family.forward(embeddings, positions, self._memory.cache)

    def _spell(self, tokens: Iterable[int], on_text: Callable[[str], None] | None) -> str:
        """The text of tokens as they come, in pieces that end between letters."""
        if on_text is None:
            return self._family.detokenize(list(tokens))
        ids: list[int] = []
        text = shown = ""
        for token in tokens:
            ids.append(token)
            text = self._family.detokenize(ids)
            # A replacement character at the end is a letter whose last bytes are still to come.
            if not text.endswith("\ufffd"):
                on_text(text[len(shown) :])
                shown = text
        if text != shown:
            on_text(text[len(shown) :])
        return text

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
        if self._range is not None and least > 3 * self._range // 4:
            raise CapError(
                f"{message}, and {least} would leave the trained positions: give smaller frames (pixels=...)"
            )
        raise CapError(f"{message}: the smallest that works is {least}")

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


def _lacks_memory(error: RuntimeError) -> bool:
    """Whether a device had no memory left: on a CPU, and on Apple's GPUs, torch has no class of its own for that."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in said or "out of memory" in said
