"""The field's benchmarks, run on infinipot's public names alone."""

from infinipot.evaluate.benchmarks import BENCHMARKS, Benchmark, find_benchmark
from infinipot.evaluate.protocols import PROTOCOLS, Protocol, find_protocol
from infinipot.evaluate.records import FrameSampling, Item, Problem, Question, Scored, Subtitle

__all__ = [
    "BENCHMARKS",
    "PROTOCOLS",
    "Benchmark",
    "FrameSampling",
    "Item",
    "Problem",
    "Protocol",
    "Question",
    "Scored",
    "Subtitle",
    "find_benchmark",
    "find_protocol",
]
