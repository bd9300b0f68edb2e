"""Metrics for Prometheus, with vLLM's meanings under `infinipot_`. No label names a stream, a key or an address.

Label sets are bounded: reasons, routes and statuses are the server's own.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from infinipot.serve.lane import Answered, AskJob, FrameJob, Lane
from infinipot.stats import Stats

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (*_FAST, 60, 120, 300, 600)


class Metrics:
    """Counts what happens; may be told from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, histogram = partial(Counter, registry=self.registry), partial(Histogram, registry=self.registry)
        self.first_token = histogram(
            "infinipot_time_to_first_token_seconds",
            "Seconds from a question to the first token of its answer.",
            buckets=_FAST,
        )
        self.inter_token = histogram(
            "infinipot_inter_token_latency_seconds", "Seconds from one token of an answer to the next.", buckets=_FAST
        )
        self.queue_time = histogram(
            "infinipot_request_queue_time_seconds", "Seconds that a question waited for its turn.", buckets=_FAST
        )
        self.answer_time = histogram(
            "infinipot_e2e_request_latency_seconds", "Seconds from a question to the end of its answer.", buckets=_LONG
        )
        self.prompt_tokens = counter(
            "infinipot_prompt_tokens_total", "Tokens that questions were asked on, and their own."
        )
        self.answer_tokens = counter("infinipot_generation_tokens_total", "Tokens of answers.")
        self.frames = counter("infinipot_frames_watched_total", "Frames that streams took in.")
        self.frame_delay = histogram(
            "infinipot_frame_queue_time_seconds",
            "Seconds from the arrival of a frame until its stream took it in.",
            buckets=_FAST,
        )
        self.evicted = counter("infinipot_evicted_tokens_total", "Tokens that streams took in and no longer hold.")
        self.gated = counter(
            "infinipot_gated_tokens_total", "Tokens that gates left out, since what they show had not changed."
        )
        self.compress_seconds = counter(
            "infinipot_compress_seconds_total", "Seconds that compressions of memories took."
        )
        self.frames_dropped = counter(
            "infinipot_frames_dropped_total", "Frames that no stream will take in, by reason.", ["reason"]
        )
        self.step_seconds = histogram(
            "infinipot_step_seconds",
            "Seconds that the model's thread took for one packed step; a GPU may be at work for longer.",
            buckets=_FAST,
        )
        self.step_tasks = histogram(
            "infinipot_step_tasks",
            "Frames and questions that one packed step carried on.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
        )
        self.requests = counter(
            "infinipot_http_requests_total",
            "HTTP requests, by method, route and status.",
            ["method", "route", "status"],
        )
        self.websockets = Gauge(
            "infinipot_websocket_connections_active", "WebSockets that are open.", registry=self.registry
        )
        self.snapshots = counter("infinipot_snapshots_total", "Snapshots of streams, by outcome.", ["outcome"])
        self.snapshot_seconds = histogram(
            "infinipot_snapshot_seconds", "Seconds that saving a stream took.", buckets=_FAST
        )

    def watch(self, collect: Callable[[], Iterable[Metric]]) -> None:
        """Adds what is looked up when someone asks."""

        class Looked(Collector):
            def collect(self) -> Iterable[Metric]:
                return collect()

        self.registry.register(Looked())

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)

    # What the worker tells

    def changed(self, before: Stats, after: Stats) -> None:
        """A stream took in a frame, or was asked; what counts over all streams must not fall where one is closed."""
        self.evicted.inc(max((after.full_tokens - after.tokens) - (before.full_tokens - before.tokens), 0))
        self.gated.inc(max(after.gated_tokens - before.gated_tokens, 0))
        self.compress_seconds.inc(max(after.seconds["compress"] - before.seconds["compress"], 0.0))

    def watched(self, job: FrameJob, lane: Lane, seconds: float) -> None:
        """A frame went into a stream, so many seconds after it came."""
        self.frames.inc()
        self.frame_delay.observe(seconds)

    def answered(self, job: AskJob, answer: Answered) -> None:
        """Observes the times and tokens of an answer."""
        reply, spoke = answer.answer, job.spoke or job.ended
        self.queue_time.observe(job.began - job.came)
        self.first_token.observe(spoke - job.came)
        self.answer_time.observe(job.ended - job.came)
        if reply.tokens > 1:
            self.inter_token.observe((job.ended - spoke) / (reply.tokens - 1))
        self.prompt_tokens.inc(reply.prompt_tokens)
        self.answer_tokens.inc(reply.tokens)

    def stepped(self, tasks: int, seconds: float) -> None:
        """Observes the time and size of a step."""
        self.step_seconds.observe(seconds)
        self.step_tasks.observe(tasks)

    def dropped(self, reason: str, frames: int) -> None:
        """Frames will not be watched."""
        self.frames_dropped.labels(reason).inc(frames)


def levels(name: str, about: str, values: Mapping[str, float]) -> Metric:
    """Numbers as they are now, by state."""
    family = GaugeMetricFamily(f"infinipot_{name}", about, labels=["state"])
    for state, value in values.items():
        family.add_metric([state], value)
    return family


def gauge(name: str, about: str, value: float) -> Metric:
    """A gauge: the current value of one number."""
    return GaugeMetricFamily(f"infinipot_{name}", about, value=value)
