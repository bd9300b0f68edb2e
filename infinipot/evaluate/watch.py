"""One video, watched once on one stream for all its questions. Knows no result file, engine or score.

The cache does not depend on a question, and asking does not disturb watching: so every question is asked on one and the
same stream, at its moment or behind the whole video, and is answered as if it had been the only one.
"""

import gc
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from infinipot import CapError, Frame, InfinipotError, Model, Sound, Stream, VideoError, open_video
from infinipot.evaluate.benchmarks import find_benchmark
from infinipot.evaluate.protocols import find_protocol
from infinipot.evaluate.records import Item, Question, Sampling
from infinipot.evaluate.setup import Answer, Event, Origin, Setup, Trouble, Watched
from infinipot.playing import END, play

try:
    import resource
except ImportError:  # Windows does not count this way
    resource = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Watcher:
    """A model that watches videos and answers their questions.

    Attributes:
        time_limit: seconds after which a video is given up, at its next frame or question; None: never. A decoder
            that gives no frame any more is not noticed here.
    """

    model: Model
    setup: Setup
    time_limit: float | None = None

    def origin(self) -> Origin:
        """What the answers come from, for a run's header.

        Raises:
            CapError: the stream cannot be opened.
        """
        with self.setup.stream(self.model) as stream:
            policy, stats = stream.policy, stream.stats()
        settings = {
            "model": self.model.name,
            "commit": self.model.commit,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "policy": policy.spec,
            "policy_options": asdict(policy),
            "cap": stats.cap,
            "cache_bytes": stats.bytes,
        }
        return Origin(settings, _device_name(self.model))

    def watch(self, item: Item, questions: tuple[Question, ...]) -> Iterator[Event]:
        """Watches a video once and yields the answers as they come, in the order of their moments.

        A question with a moment sees the frames up to it and none behind it. Whatever befalls the video, or a single
        question, is yielded as `Trouble`, with the questions that are left unasked by it: a file may make a library
        raise anything, and a run over many videos goes on.
        """
        due = deque(sorted(questions, key=_moment))
        begun = time.perf_counter()
        times: list[float] = []

        def note(frame: Frame | Sound) -> None:
            self._require_time(begun)
            times.append(frame.time)

        _forget_peak()
        try:
            with self.setup.stream(self.model) as stream, _open(item, self.setup.sampling) as video:
                for _ in play(video, [stream], map(_moment, due), note):
                    self._require_time(begun)
                    yield self._ask(stream, item, due.popleft(), times)
                    if not due:
                        break
                seconds = {"wall": time.perf_counter() - begun, **stream.stats().seconds}
                yield Watched({name: round(spent, 4) for name, spent in seconds.items()}, _peak(), video.incomplete)
        except Exception as error:
            yield Trouble(_in_a_line(error), tuple(question.id for question in due))
        finally:
            _let_go()

    def _require_time(self, begun: float) -> None:
        if self.time_limit is not None and time.perf_counter() - begun > self.time_limit:
            raise VideoError(f"given up: it takes longer than the {self.time_limit:g} s of --time-limit")

    def _ask(self, stream: Stream, item: Item, question: Question, times: list[float]) -> Answer | Trouble:
        if not times:
            return Trouble(f"there is no frame until {question.at:g} s", (question.id,))
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
            return Trouble(what, (question.id,), needed)
        stats = stream.stats()
        return Answer(
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


def _device_name(model: Model) -> str:
    """What the model computes on, in words."""
    device = model.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _open(item: Item, sampling: Sampling) -> Any:
    return open_video(item.video, fps=sampling.fps, frames=sampling.frames, start=item.start, end=item.end)


def _in_a_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"out of memory: {text or type(error).__name__}"
    if isinstance(error, InfinipotError | OSError) and text:
        return text
    return f"{type(error).__name__}: {text}".rstrip(": ")  # raised by a library, and not for a reader


def _forget_peak() -> None:
    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)


def _peak() -> int:
    """The most bytes that were allocated on all accelerators together; of the process, where there are none."""
    if torch.cuda.is_available():
        return sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _let_go() -> None:
    """After a video: what an error kept alive is freed before the next one opens its stream."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
