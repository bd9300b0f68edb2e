"""A loaded model, and opening streams on it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack, overload

import torch

from infinipot import policies
from infinipot.config import POLICY, StreamConfig
from infinipot.engine import runner
from infinipot.engine.evidence import Answer
from infinipot.engine.opening import open_state
from infinipot.engine.question import AskOptions
from infinipot.engine.setup import Setup
from infinipot.engine.task import Task
from infinipot.errors import InfinipotError, ModelError, SettingError, SnapshotError
from infinipot.models import Adapter, adapters
from infinipot.numbers import is_whole
from infinipot.policies import Policy
from infinipot.snapshot import Snapshot
from infinipot.stream import Stream
from infinipot.video import Frame, ImageLike

T = TypeVar("T")


class Model:
    """A loaded model: stateless and shared; every stream on it has a memory of its own.

    Attributes:
        name: the id or folder it was loaded from.
        adapter: its adapter, for streams of its modality.
    """

    def __init__(self, name: str, adapter: Adapter) -> None:
        self.name = name
        self.adapter = adapter
        self._others: dict[str, Adapter] = {}

    @property
    def device(self) -> torch.device:
        """The device it computes on; where its layers are spread over several, the first of them."""
        return torch.device(self.adapter.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """The type of its weights."""
        dtype: torch.dtype = self.adapter.model.dtype
        return dtype

    @property
    def commit(self) -> str | None:
        """The revision that was loaded from a hub, as its hash; None for a folder."""
        commit: str | None = getattr(self.adapter.model.config, "_commit_hash", None)
        return commit

    @property
    def answer_scratch(self) -> int:
        """Bytes that answers under way may take together, beside what streams hold, to read their keys faster.

        It is taken when an answer begins and given back at its end: as much as the stream's keys, about two fifths of
        its memory. An answer that finds no room there is the same, but slower. The default is 256 MiB; 0 is for none.
        """
        return self.adapter.scratch.limit

    @answer_scratch.setter
    def answer_scratch(self, limit: int) -> None:
        if not is_whole(limit) or limit < 0:
            raise SettingError(f"answer_scratch={limit!r}: give a whole number of bytes, 0 or more")
        self.adapter.scratch.limit = int(limit)

    def stream(
        self,
        memory: int | str | None = None,
        policy: str | Policy = POLICY,
        *,
        modality: str | None = None,
        fps: float = 2.0,
        keep: float = 0.75,
        block: int | None = None,
        reserve: int | None = None,
        dialogue: int | None = None,
        positions: str = "rebase",
        gate: float | str | None = None,
        look_again: int = 0,
        system: str | None = None,
        pixels: tuple[int, int] | None = None,
    ) -> Stream:
        """Opens a stream, whose whole memory is allocated here.

        Args:
            memory: the cap |M|: tokens per layer and KV head that the stream may ever hold, or an amount in bytes over
                all layers, such as "256MiB". By default 4096 tokens, or as many more as the model's largest frames (or
                those of `pixels`) need, and what the model's positions allow.
            policy: a name, a name with options ("infinipot-v:combine=union,alpha=0.4"), or a `Policy`.
            modality: "video" to watch, or "audio" to listen, where the model can hear; by default video.
            fps: frames per second, where frames come without a time.
            keep: |C| as a share of the video's part of the cap: what a compression leaves.
            block: temporal patches, or chunks of sound (2 s), that go through the model at once; by default as many as
                fit, 8 at the most.
            reserve: tokens kept free for a question and its answer; by default an eighth of the cap, 64 to 512.
            dialogue: tokens that remembered turns may take from the video; by default an eighth of the cap, up to 512.
            positions: "rebase" keeps endless streams inside the positions that the model was trained on, in proportion
                to time; "native" lets positions grow with the video.
            gate: leaves out what stands still, so that watching it costs little: "patches" in which nothing changes;
                with "otsu" cells that do not, too; or how far a cell must change to be given to the model again, as a
                share of black to white; None for no gate. See engine/gating.py.
            look_again: frames that are kept as pictures, so that `Stream.ask` can look at the last of them again.
            system: a system message; by default the chat template's own.
            pixels: least and most pixels of a resized frame. By default the processor's, but no more than the family
                has for a frame of a video, and smaller ones (of 128 tokens at the least) where `memory` is small.

        Raises:
            SettingError: a setting is wrong in itself, or the model or the policy cannot do what it asks for.
            CapError: the cap is too small for the prompt, or too large for the model's positions or the device.
            PolicyError: an unknown policy or option.
            ModelError: the model does not take this modality.
        """
        config = StreamConfig(
            memory=memory,
            fps=fps,
            keep=keep,
            block=block,
            reserve=reserve,
            dialogue=dialogue,
            positions=positions,
            gate=gate,
            look_again=look_again,
            system=system,
            pixels=pixels,
        )
        setup = self._setup(modality, policy, config)
        return Stream(setup, open_state(setup))

    def stream_bytes(
        self,
        memory: int | str | None = None,
        policy: str | Policy = POLICY,
        *,
        modality: str | None = None,
        **settings: Any,
    ) -> int:
        """The bytes that a stream with these settings, which are those of `stream`, would allocate.

        Raises:
            What `stream` raises for them, except where the memory is too small for any video: only opening one tells
            that.
        """
        return self._setup(modality, policy, StreamConfig(memory=memory, **settings)).bytes

    def _setup(self, modality: str | None, policy: str | Policy, config: StreamConfig) -> Setup:
        """What settings come to with this model, for streams of the modality, or of its own."""
        adapter = self._adapter_for(self.adapter.modality if modality is None else modality)
        return Setup.of(adapter, policies.make(policy), config)

    def step(self, tasks: Iterable[Task[Any]], max_tokens: int | None = None) -> int:
        """Carries calls of different streams on, all together, by one run of the network: see `Stream.begin_watch`.

        Frames are encoded together, and blocks of frames, questions and tokens of answers share one packed sequence,
        of which each stream's part attends to its own memory. Of families with recurrent layers one stream runs after
        the other.

        Args:
            tasks: calls on streams of this model, at most one a stream; those that are done are passed over.
            max_tokens: how many tokens the step runs over at the most, encoder and decoder together; None for all there
                are. Single tokens of answers always go. Then come the others, in the order of `tasks`, as far as there
                is room; the first of them goes in any case, so a task that is named first never waits.

        Returns:
            The tokens that the encoder and the decoder ran over.
        """
        return runner.step(tasks, max_tokens)

    @overload
    def watch(self, frames: Iterable[tuple[Stream, Frame | ImageLike]]) -> None: ...

    @overload
    def watch(
        self, frames: Iterable[tuple[Stream, Frame | ImageLike]], *, return_exceptions: Literal[True]
    ) -> list[Exception | None]: ...

    def watch(
        self, frames: Iterable[tuple[Stream, Frame | ImageLike]], *, return_exceptions: bool = False
    ) -> list[Exception | None] | None:
        """Has streams take in a frame each, in packed steps: what `Stream.watch` does for one.

        Args:
            frames: each stream with its frame.
            return_exceptions: whether errors are returned rather than raised: a list with the error of each stream,
                None for one that has taken its frame. It tells which streams failed.

        Raises:
            The first error of any stream, in their order, once the others have taken their frames.
        """
        tasks = [stream.begin_watch(frame) for stream, frame in frames]
        results = _results(tasks, return_exceptions=return_exceptions)
        return results if return_exceptions else None

    @overload
    def ask(self, questions: Iterable[tuple[Stream, str]], **options: Unpack[AskOptions]) -> list[Answer]: ...

    @overload
    def ask(
        self,
        questions: Iterable[tuple[Stream, str]],
        *,
        return_exceptions: Literal[True],
        **options: Unpack[AskOptions],
    ) -> list[Answer | Exception]: ...

    def ask(
        self,
        questions: Iterable[tuple[Stream, str]],
        *,
        return_exceptions: bool = False,
        **options: Unpack[AskOptions],
    ) -> list[Answer] | list[Answer | Exception]:
        """Asks a question of each stream, in packed steps, with the options of `Stream.ask`; returns the answers.

        Args:
            questions: each stream with its question.
            return_exceptions: whether errors are returned rather than raised: the error of a stream then stands in
                place of its answer, and no other answer is lost.
            options: see `Stream.ask`.

        Raises:
            QuestionError: an option is out of range, before any stream is asked.
            The first error of any stream, in their order, once the others have answered. Their turns have been
            remembered, where that was asked for.
        """
        tasks = [stream.begin_ask(question, **options) for stream, question in questions]
        return _results(tasks, return_exceptions=return_exceptions)

    def restore(self, path: str | Path) -> Stream:
        """Opens a stream that goes on where a saved one was, see `Stream.save`: with its policy and its settings.

        The whole memory is allocated before anything is read into it.

        Raises:
            SnapshotError: the file is not that of a stream, is damaged, or is of another model, policy or version.
        """
        saved = Snapshot(Path(path))
        try:
            adapter = self._adapter_for(saved.model.modality)
            saved.check_model(adapter)
            setup = Setup.of(adapter, saved.policy, saved.config)
            state = open_state(setup)
        except SnapshotError:
            raise
        except InfinipotError as error:
            raise saved.error(f"cannot be restored: {error}") from error
        with torch.inference_mode():
            saved.restore(setup, state)
        return Stream(setup, state)

    def _adapter_for(self, modality: str) -> Adapter:
        """The adapter of the same network for streams of this modality."""
        if modality == self.adapter.modality:
            return self.adapter
        if modality not in self._others:
            alike = [adapter for adapter in adapters() if set(adapter.model_types) & set(self.adapter.model_types)]
            possible = {adapter.modality: adapter for adapter in reversed(alike)}  # the first, as for loading
            if modality not in possible:
                taken = " or ".join(repr(each) for each in sorted({self.adapter.modality, *possible}))
                raise ModelError(f"modality={modality!r}: {self.adapter.title} takes {taken}")
            other = self._others[modality] = possible[modality](self.adapter.model, self.adapter.processor)
            other.scratch = self.adapter.scratch
        return self._others[modality]


def _results(tasks: list[Task[T]], *, return_exceptions: bool) -> list[T | Exception]:
    """Carries calls on until all are done; returns what each of them returns.

    Args:
        tasks: the calls.
        return_exceptions: whether what a call raises is returned in its place, rather than raised.
    """
    runner.finish(*tasks)
    read: Callable[[Task[T]], T | Exception] = _outcome if return_exceptions else Task.result
    return [read(task) for task in tasks]


def _outcome(task: Task[T]) -> T | Exception:
    """What a call returned, or raised."""
    try:
        return task.result()
    except Exception as error:
        return error
