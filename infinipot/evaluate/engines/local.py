"""One model in this process, which watches one video after the other, each once for all its questions.

The cache does not depend on a question, and asking does not disturb watching: so every question is asked on one and the
same stream, at its moment or after the whole video, and is answered as if it had been the only one. Knows no result
file or score.
"""

import gc
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from infinipot import CapError, Frame, InfinipotError, Model, Sound, Stream, VideoError
from infinipot.evaluate.benchmarks import find_benchmark
from infinipot.evaluate.core.machine import device_name, forget_peak, peak_allocated
from infinipot.evaluate.core.plugins import code_of_adapter
from infinipot.evaluate.engines.base import Answer, Engine, Event, Provenance, RunConfig, Watched, policy_settings
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
        """What the answers come from, for a run's header.

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

    def watch(self, item: Item) -> Iterator[Event]:
        """Watches a video once and yields the answers as they come, in the order of their moments.

        A question with a moment sees the frames up to it and none after it. Whatever befalls the video, or a single
        question, is yielded as `Problem`, with the questions that are left unasked by it: a file may make a library
        raise anything, and a run over many videos goes on.
        """
        due = deque(sorted(item.questions, key=_moment))
        begun = time.perf_counter()
        times: list[float] = []

        def note(frame: Frame | Sound) -> None:
            self._require_time(begun)
            times.append(frame.time)

        forget_peak()
        try:
            with (
                self.setup.stream(self.model) as stream,
                self.setup.sampling.open(item.video) as video,
            ):
                for _ in play(video, [stream], map(_moment, due), note):
                    self._require_time(begun)
                    yield self._ask(stream, item, due.popleft(), times)
                    if not due:
                        break
                spent = {"wall": time.perf_counter() - begun, **stream.stats().seconds}
                seconds = {name: round(each, 4) for name, each in spent.items()}
                device = device_name(self.model.device)
                yield Watched(device, item.id, seconds, peak_allocated(), video.incomplete)
        except Exception as error:
            yield Problem(item.id, _in_a_line(error), tuple(question.id for question in due))
        finally:
            _let_go()

    def _require_time(self, begun: float) -> None:
        if self.time_limit is not None and time.perf_counter() - begun > self.time_limit:
            raise VideoError(f"given up: it takes longer than the {self.time_limit:g} s of --time-limit")

    def _ask(self, stream: Stream, item: Item, question: Question, times: list[float]) -> Answer | Problem:
        if not times:
            return Problem(
                item.id, f"no frame has come by {question.at:g} s, when the question is asked", (question.id,)
            )
        benchmark, protocol = find_benchmark(self.setup.benchmark), find_protocol(self.setup.protocol)
        begun = time.perf_counter()
        try:
            prompt = protocol.prompt(benchmark, item, question, times)
            limit = protocol.max_new_tokens(benchmark, question)
            look = self.setup.look_again
            text = stream.ask(prompt, max_new_tokens=limit, temperature=0, look_again=look)  # measured runs do not draw
        except Exception as error:
            needed = error.reserve if isinstance(error, CapError) else None
            what = _in_a_line(error) if needed is None else f"{question.id} and its answer need --reserve {needed}"
            return Problem(item.id, what, (question.id,), needed)
        stats = stream.stats()
        return Answer(
            item=item.id,
            question=question.id,
            prompt=prompt,
            text=text,
            seen_until=times[-1],
            frames=stats.frames,
            patches=-(-stats.frames // self.model.adapter.patch_frames),
            tokens=stats.asked_tokens,
            full_tokens=stats.full_tokens + stats.asked_tokens - stats.tokens,
            seconds=round(time.perf_counter() - begun, 4),
        )


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
