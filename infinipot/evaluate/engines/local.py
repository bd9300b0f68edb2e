"""One model in this process, which watches one video after the other, each once for all its questions, and for all
policies that are asked side by side.

The cache does not depend on a question, and asking does not disturb watching: so every question is asked on one and the
same stream, at its moment or after the whole video, and is answered as if it had been the only one. Knows no result
file or score.
"""

import gc
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from infinipot import CapError, Frame, InfinipotError, Model, Sound, Stream, VideoError
from infinipot.evaluate.benchmarks import find_benchmark
from infinipot.evaluate.core.machine import device_name, forget_peak, peak_allocated
from infinipot.evaluate.core.plugins import code_of_adapter
from infinipot.evaluate.engines.base import Engine, EvalAnswer, Event, Provenance, RunConfig, WatchTime, policy_settings
from infinipot.evaluate.protocols import find_protocol
from infinipot.evaluate.records import Item, Problem, Question
from infinipot.playing import END, play
from infinipot.versions import digest_of_model


@dataclass(frozen=True, slots=True)
class LocalEngine(Engine):
    """A model that watches videos and answers their questions.

    Attributes:
        time_limit: seconds after which a video is given up, at its next frame or question; None: never. A decoder
            that gives no frame any more is not noticed here.
    """

    model: Model
    setup: RunConfig
    time_limit: float | None = None

    def origin(self) -> Provenance:
        """The origin of the answers, for a run's header.

        Raises:
            CapError: the stream cannot be opened.
        """
        with self.setup.stream(self.model) as stream:
            policy, stats = stream.policy, stream.stats()
        settings = {
            "model": self.model.name,
            "commit": self.model.commit,
            "weights": None if self.model.commit else digest_of_model(self.model.name),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            **policy_settings(policy),
            "cap": stats.cap,
            "cache_bytes": stats.bytes,
        }
        if code := code_of_adapter(type(self.model.adapter)):
            settings["adapter_code"] = code
        return Provenance(settings, device_name(self.model.device))

    def run(self, items: Sequence[Item]) -> Iterator[Event]:
        for item in items:
            yield from self.watch(item)

    def run_with(self, others: Sequence[Engine], items: Sequence[Sequence[Item]]) -> Iterator[tuple[int, Event]]:
        """As `Engine.run_with`; each video is decoded once, and its streams watch it side by side in packed steps, in
        which a frame is encoded once."""
        engines = [engine for engine in (self, *others) if isinstance(engine, LocalEngine)]
        if len(engines) <= len(others):
            yield from Engine.run_with(self, others, items)
            return
        seats: dict[str, list[_Seat]] = {}
        for number, (engine, its) in enumerate(zip(engines, items, strict=True)):
            for item in its:
                seats.setdefault(item.id, []).append(_Seat(number, engine, item))
        for of_video in seats.values():
            yield from _watch(of_video)

    def watch(self, item: Item) -> Iterator[Event]:
        """Watches a video once and yields the answers as they come, in the order of their moments.

        A question with a moment sees the frames up to it and none after it. Whatever befalls the video, or a single
        question, is yielded as `Problem`, with the questions that are left unasked by it: a file may make a library
        raise anything, and a run over many videos goes on.
        """
        for _, event in _watch([_Seat(0, self, item)]):
            yield event


class _Seat:
    """A run in front of a video.

    Attributes:
        number: of the run.
        due: the questions that are still to be asked, by their moments.
        stream: what watches.
        error: why it cannot go on; None where it can.
    """

    def __init__(self, number: int, engine: LocalEngine, item: Item) -> None:
        self.number, self.engine, self.item = number, engine, item
        self.due = deque(sorted(item.questions, key=_moment))
        self.stream: Stream | None = None
        self.error: Exception | None = None

    def open(self, opened: ExitStack) -> None:
        """Opens its stream, which `opened` closes, or keeps why it cannot be opened."""
        try:
            self.stream = opened.enter_context(self.engine.setup.stream(self.engine.model))
        except Exception as error:
            self.error = error

    def require_time(self, begun: float, beside: int) -> None:
        """Raises VideoError where the video has taken longer than it may, for this run and so many beside it."""
        limit = self.engine.time_limit
        if limit is not None and time.perf_counter() - begun > limit * (1 + beside):
            raise VideoError(f"given up: it takes longer than the {limit:g} s of --time-limit")

    def problem(self, error: Exception) -> Problem:
        """The problem of the video, with the questions that are not asked because of it."""
        return Problem(self.item.id, _in_a_line(error), tuple(question.id for question in self.due))

    def watched(self, begun: float, incomplete: bool, beside: int) -> WatchTime:
        """The time and memory since a value of `time.perf_counter`, with so many runs beside it."""
        assert self.stream is not None, "it has watched"
        spent = {"wall": time.perf_counter() - begun, **self.stream.stats().seconds}
        seconds = {name: round(each, 4) for name, each in spent.items()}
        device = device_name(self.engine.model.device)
        return WatchTime(device, self.item.id, seconds, peak_allocated(), incomplete, beside)

    def ask(self, times: Sequence[float]) -> EvalAnswer | Problem:
        """Asks the question that is due.

        Args:
            times: of the frames that were watched, in seconds.
        """
        assert self.stream is not None, "it is watching"
        question, setup, stream = self.due.popleft(), self.engine.setup, self.stream
        if not times:
            return Problem(
                self.item.id, f"no frame has come by {question.at:g} s, when the question is asked", (question.id,)
            )
        benchmark, protocol = find_benchmark(setup.benchmark), find_protocol(setup.protocol)
        begun = time.perf_counter()
        try:
            prompt = protocol.prompt(benchmark, self.item, question, times)
            limit = protocol.max_new_tokens(benchmark, question)
            look = setup.config.look_again
            text = stream.ask(prompt, max_new_tokens=limit, temperature=0, look_again=look)  # measured runs do not draw
        except Exception as error:
            needed = error.reserve if isinstance(error, CapError) else None
            what = _in_a_line(error) if needed is None else f"{question.id} and its answer need --reserve {needed}"
            return Problem(self.item.id, what, (question.id,), needed)
        stats = stream.stats()
        return EvalAnswer(
            item=self.item.id,
            question=question.id,
            prompt=prompt,
            text=text,
            seen_until=times[-1],
            frames=stats.frames,
            patches=-(-stats.frames // self.engine.model.adapter.patch_frames),
            tokens=stats.asked_tokens,
            full_tokens=stats.full_tokens + stats.asked_tokens - stats.tokens,
            seconds=round(time.perf_counter() - begun, 4),
        )


def _watch(seats: Sequence[_Seat]) -> Iterator[tuple[int, Event]]:
    """Has runs of one model watch a video side by side, and yields what comes of each, see `LocalEngine.watch`.

    A stream that fails is given up, and the others go on; a video that fails is given up by all.
    """
    left, streams = list(seats), list[Stream]()  # the runs that still have questions
    begun, times, beside = time.perf_counter(), list[float](), len(seats) - 1

    def note(frame: Frame | Sound) -> None:
        left[0].require_time(begun, beside)
        times.append(frame.time)

    def fail(stream: Stream, error: Exception) -> None:
        streams.remove(stream)
        next(seat for seat in left if seat.stream is stream).error = error

    def given_up() -> Iterator[tuple[int, Event]]:
        for seat in [seat for seat in left if seat.error is not None]:
            left.remove(seat)
            error, seat.error = seat.error, None  # which keeps alive what the stream had at hand
            assert error is not None, "it was chosen by that"
            yield seat.number, seat.problem(error)

    forget_peak()
    try:
        with ExitStack() as opened:
            for seat in left:
                seat.open(opened)
            yield from given_up()
            if not left:
                return
            streams += [seat.stream for seat in left if seat.stream is not None]
            video = opened.enter_context(left[0].engine.setup.sampling.open(left[0].item.video))
            moments = {_moment(question) for seat in left for question in seat.due}
            for moment in play(video, streams, moments, note, fail):
                yield from given_up()
                for seat in list(left):
                    while seat.due and _moment(seat.due[0]) <= moment.time:
                        seat.require_time(begun, beside)
                        yield seat.number, seat.ask(times)
                    if not seat.due:
                        left.remove(seat)
                        streams[:] = [stream for stream in streams if stream is not seat.stream]
                        yield seat.number, seat.watched(begun, video.incomplete, beside)
                if not left:
                    break
            yield from given_up()
    except Exception as error:
        for seat in left:
            yield seat.number, seat.problem(seat.error or error)
    finally:
        _let_go()


def _moment(question: Question) -> float:
    """When it is asked, in seconds."""
    return END if question.at is None else question.at


def _in_a_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"out of memory: {text or type(error).__name__}"
    if isinstance(error, InfinipotError | OSError) and text:
        return text
    return f"{type(error).__name__}: {text}".rstrip(": ")  # raised by a library, and not for a reader


def _let_go() -> None:
    """After a video: what an error kept alive is freed before the next one opens its stream."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
