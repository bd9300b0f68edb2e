"""The benchmarks: one file each, and its line in `BENCHMARKS`."""

from difflib import get_close_matches

from infinipot.errors import BenchmarkError
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.benchmarks.egoschema import EgoSchema
from infinipot.evaluate.benchmarks.longvideobench import LongVideoBench
from infinipot.evaluate.benchmarks.mlvu import MLVU
from infinipot.evaluate.benchmarks.ovo_bench import OVOBench
from infinipot.evaluate.benchmarks.ovo_s_bench import OVOSBench
from infinipot.evaluate.benchmarks.rvs import RVS
from infinipot.evaluate.benchmarks.streaming_bench import StreamingBench
from infinipot.evaluate.benchmarks.video_mme import VideoMME
from infinipot.evaluate.benchmarks.video_mme_v2 import VideoMMEv2
from infinipot.evaluate.benchmarks.vsi_super import VSISuperCount, VSISuperRecall

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        *(MLVU(), VideoMME(), LongVideoBench(), EgoSchema(), RVS(), OVOBench(), StreamingBench()),
        *(VideoMMEv2(), VSISuperRecall(), VSISuperCount(), OVOSBench()),
    )
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name.

    Raises:
        BenchmarkError: there is none.
    """
    if name not in BENCHMARKS:
        near = get_close_matches(name.lower().replace("_", "-"), BENCHMARKS, 1)
        hint = f'did you mean "{near[0]}"? ' if near else ""
        raise BenchmarkError(f'unknown benchmark: "{name}"; {hint}Possible: {", ".join(BENCHMARKS)}')
    return BENCHMARKS[name]


__all__ = ["BENCHMARKS", "Benchmark", "find_benchmark"]
