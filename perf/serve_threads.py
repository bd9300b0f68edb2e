"""What threads of the model cost on cores that others use, too: why a server leaves a core to requests and decoding.

    python perf/serve_threads.py [--busy 1] [--frames 40]

One stream watches beside so many processes that keep a core busy each, with one thread up to one for each core. Prints
the frames a second of each, and the CPU that the process took, which is more than it used where threads wait.
"""

import argparse
import os
import subprocess
import sys
import time

import torch

import infinipot
from infinipot.embedded.world import Clip


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--busy", type=int, default=1)
    parser.add_argument("--frames", type=int, default=40)
    given = parser.parse_args()
    model, cores = infinipot.load("embedded", device="cpu"), len(os.sched_getaffinity(0))
    clip = iter(Clip(1000, 600.0))
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(given.busy)]
    try:
        with model.stream(512) as stream:
            for threads in (1, *range(1, cores + 1)):  # the first one pays for a process's first passes
                torch.set_num_threads(threads)
                clock, cpu = time.perf_counter(), time.process_time()
                for _ in range(given.frames):
                    stream.watch(next(clip))
                clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
                rate, each = given.frames / clock, 1e3 * cpu / given.frames
                print(f"{threads} threads on {cores} cores: {rate:.1f} frames a second, {each:.1f} ms of CPU a frame")
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
