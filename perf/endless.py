"""Whether process memory stays flat over a stream without end, and what compression costs in it.

    python perf/endless.py
    python perf/endless.py --patches 40000 --memory 512 --policy infinipot-v:combine=union

Streams random frames through the embedded model, asking now and then, and prints for every tenth of the stream the
peak of the process's resident memory, the tokens held and the time a temporal patch takes. The last tenth's peak
against the second tenth's is the figure that matters: the first tenth still fills the memory.
"""

import argparse
import time

import numpy as np
import psutil

import infinipot
from infinipot.config import POLICY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--patches", type=int, default=20_000, help="temporal patches, two frames each")
    parser.add_argument("--memory", type=int, default=512)
    parser.add_argument("--policy", default=POLICY)
    parser.add_argument("--ask-every", type=int, default=500, help="temporal patches between questions")
    arguments = parser.parse_args()

    process = psutil.Process()
    scenery = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), dtype=np.uint8)
    tenth = max(1, arguments.patches // 10)
    peaks: list[int] = []
    print(f"{arguments.patches} temporal patches, memory {arguments.memory}, policy {arguments.policy}")
    print("tenth   peak MiB   tokens held   ms a patch")
    with infinipot.load("embedded").stream(arguments.memory, arguments.policy) as stream:
        for part in range(10):
            peak, start = 0, time.perf_counter()
            for patch in range(part * tenth, (part + 1) * tenth):
                for frame in (2 * patch, 2 * patch + 1):
                    stream.watch(infinipot.Frame(scenery[frame % len(scenery)], frame / 2))
                if patch % arguments.ask_every == 0:
                    stream.ask("How many shapes have appeared so far?", max_new_tokens=8)
                if patch % 20 == 0:
                    peak = max(peak, process.memory_info().rss)
            peaks.append(peak)
            took = 1e3 * (time.perf_counter() - start) / tenth
            print(f"{part + 1:5d}   {peak / 2**20:8.1f}   {stream.stats().tokens:11d}   {took:10.2f}", flush=True)
        stats = stream.stats()
    spent = sum(stats.seconds.values())
    shares = ", ".join(f"{phase} {100 * seconds / spent:.1f}%" for phase, seconds in stats.seconds.items())
    print(f"last tenth's peak against the second tenth's: {peaks[-1] / peaks[1]:.4f}")
    print(f"{stats.compressions} compressions, {stats.rebases} re-basings; a full cache: {stats.full_tokens} tokens")
    print(f"share of the time: {shares}")


if __name__ == "__main__":
    main()
