"""The field's benchmarks, run on infinipot's public names alone."""

from infinipot.evaluate.benchmarks import BENCHMARKS, Benchmark, find_benchmark
from infinipot.evaluate.protocols import PROTOCOLS, Protocol, find_protocol
from infinipot.evaluate.records import Item, Problem, Question, Sampling, Scored, Subtitle

__all__ = [
    "BENCHMARKS",
    "PROTOCOLS",
    "Benchmark",
    "Item",
    "Problem",
    "Protocol",
    "Question",
    "Sampling",
    "Scored",
    "Subtitle",
    "find_benchmark",
    "find_protocol",
]
