"""How a server bears many streams: frames and questions at once, for a while, on one machine.

    python perf/serve_load.py [--streams 32] [--fps 2] [--askers 8] [--seconds 60]

Starts `infinipot serve --model embedded` with what is left of the command line. First one stream alone is asked. Then
so many streams are opened, their memories are filled, and each is fed so many frames a second, while askers ask them
one question after the other, each about a second apart. Every frame is of the synthetic world, and every answer is held
against the library's on the frames that it was asked on. Prints the time to first token (p50, p95, p99), frames taken,
dropped and watched, wrong answers, what of the machine each part took, and process memory by tenths of the time. Then
both ways of running eight streams: packed, and one by one.

Exits with 1 where a frame is lost that was not counted, an answer or a request fails, the p95 passes three times the
median alone, memory grows by more than 2%, or packing serves less than twice the frames where each patch goes through
the model by itself. Where a block of a stream is large, arithmetic takes the time, and less is to be had by packing.
"""

import argparse
import asyncio
import io
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
import psutil
import torch
from PIL import Image

import infinipot
from infinipot.embedded.world import Clip

QUESTIONS = ("What colour was the circle?", "How many shapes have appeared so far?", "Which shape was red?")
MEMORY = 512
CLIPS = 4  # different ones; a stream takes one of them
FILL = 80  # frames after which a memory has been full
ALONE = 60  # questions to one stream alone
FILLING = 20.0  # seconds that are given to that
PAUSE = 1.0  # seconds between two questions of an asker


@dataclass
class Seen:
    """What the clients saw."""

    first: list[float] = field(default_factory=list)
    answers: list[tuple[int, float, str, str]] = field(default_factory=list)  # clip, time, question, answer
    failed: Counter[str] = field(default_factory=Counter)
    taken: int = 0
    memory: list[int] = field(default_factory=list)
    cores: dict[str, float] = field(default_factory=dict)
    means: dict[str, float] = field(default_factory=dict)


def encoded(seconds: float, fps: float) -> list[list[bytes]]:
    """The frames of each clip as PNG files."""
    clips = []
    for seed in range(CLIPS):
        files = []
        for frame in Clip(1000 + seed, seconds, fps=fps):
            written = io.BytesIO()
            Image.fromarray(frame.image).save(written, "PNG")
            files.append(written.getvalue())
        clips.append(files)
    return clips


async def feed(client: httpx.AsyncClient, name: str, frames: list[bytes], fps: float, begin: float, seen: Seen) -> None:
    """Pushes frames: those that fill the memory as fast as they are watched, the others at their times."""
    for number, frame in enumerate(frames[:FILL]):
        given = {"time": number / fps, "wait": number % 8 == 7}
        (await client.post(f"/v1/streams/{name}/frames", params=given, content=frame)).raise_for_status()
    for number, frame in enumerate(frames[FILL:], FILL):
        await asyncio.sleep(begin + (number - FILL) / fps - time.monotonic())
        reply = await client.post(f"/v1/streams/{name}/frames", params={"time": number / fps}, content=frame)
        if reply.status_code == 200:
            seen.taken += reply.json()["accepted"]
        else:
            seen.failed[f"frame {reply.status_code}"] += 1


async def ask(client: httpx.AsyncClient, name: str, clip: int, question: str, seen: Seen) -> None:
    """Asks one question, and times its first token."""
    start, first, text, event = time.perf_counter(), None, "", ""
    body = {"question": question, "stream": True}
    async with client.stream("POST", f"/v1/streams/{name}/ask", json=body) as reply:
        if reply.status_code != 200:
            seen.failed[f"ask {reply.status_code}"] += 1
            return
        async for line in reply.aiter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: ") and event == "delta" and first is None:
                first = time.perf_counter() - start
            elif line.startswith("data: ") and event == "done":
                text = line.removeprefix("data: ")
    if first is None or not text:
        seen.failed["ask without an answer"] += 1
        return
    reply = httpx.Response(200, content=text).json()
    seen.first.append(first)
    seen.answers.append((clip, reply["time"], question, reply["answer"]))


async def asker(client: httpx.AsyncClient, number: int, streams: int, seconds: float, until: float, seen: Seen) -> None:
    """Asks streams by turns until it is time."""
    drawn = random.Random(number)
    await asyncio.sleep(until - seconds + number * PAUSE / 8 - time.monotonic())
    while time.monotonic() < until:
        which = drawn.randrange(streams)
        await ask(client, f"s{which}", which % CLIPS, drawn.choice(QUESTIONS), seen)
        await asyncio.sleep(PAUSE * drawn.uniform(0.5, 1.5))


async def watch_memory(process: psutil.Process, seconds: float, until: float, seen: Seen) -> None:
    """Notes the server's resident memory, ten times a second."""
    await asyncio.sleep(until - seconds - time.monotonic())
    while time.monotonic() < until:
        seen.memory.append(process.memory_info().rss)
        await asyncio.sleep(0.1)


def busy(server: psutil.Process) -> dict[str, float]:
    """CPU seconds so far of each part: the server's event loop is its first thread, the model is run by others."""
    threads = {each.id: each.user_time + each.system_time for each in server.threads()}
    children = [each.cpu_times() for each in server.children()]
    loop, own = threads.pop(server.pid), psutil.Process().cpu_times()
    return {
        "the model": sum(threads.values()),
        "the event loop": loop,
        "decoding": sum(each.user + each.system for each in children),
        "the clients": own.user + own.system,
    }


async def told(client: httpx.AsyncClient) -> dict[str, tuple[float, float]]:
    """Sums and counts of the server's histograms."""
    lines = dict(line.rsplit(" ", 1) for line in (await client.get("/metrics")).text.splitlines())
    names = ("time_to_first_token", "request_queue_time", "step", "frame_queue_time")
    return {
        name: (float(lines[f"infinipot_{name}_seconds_sum"]), float(lines[f"infinipot_{name}_seconds_count"]))
        for name in names
    }


async def account(client: httpx.AsyncClient, server: psutil.Process, seconds: float, until: float, seen: Seen) -> None:
    """Notes what the parts of the machine did while frames came at their times, and what the server says it took."""
    await asyncio.sleep(until - seconds - time.monotonic())
    begun, before = time.perf_counter(), (busy(server), await told(client))
    await asyncio.sleep(until - time.monotonic())
    lasted, after = time.perf_counter() - begun, (busy(server), await told(client))
    seen.cores = {name: (after[0][name] - each) / lasted for name, each in before[0].items()}
    for name, (total, count) in before[1].items():
        more = after[1][name]
        seen.means[name] = (more[0] - total) / max(more[1] - count, 1)


async def alone(client: httpx.AsyncClient, frames: list[bytes]) -> float:
    """The median time to first token of one stream that nobody else shares the server with.

    Its memory is full, and it is asked behind each further frame: of those that wait for their block there are as many
    as under load, but all of them but the newest were run over for the question before.
    """
    seen = Seen()
    await client.post("/v1/streams", json={"id": "alone", "memory": MEMORY})
    for number, frame in enumerate(frames[: FILL + ALONE]):
        await client.post("/v1/streams/alone/frames", params={"time": number / 2, "wait": True}, content=frame)
        if number >= FILL:
            await ask(client, "alone", 0, QUESTIONS[number % len(QUESTIONS)], seen)
    await client.delete("/v1/streams/alone")
    return statistics.median(seen.first)


async def load(url: str, process: psutil.Process, given: argparse.Namespace) -> tuple[float, Seen, int, int]:
    """All of it: the median alone, what was seen, and frames watched and dropped."""
    clips, seen = encoded(given.seconds + FILL / given.fps, given.fps), Seen()
    limits = httpx.Limits(max_connections=given.streams + given.askers + 4)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        median = await alone(client, clips[0])
        names = [f"s{number}" for number in range(given.streams)]
        for name in names:
            (await client.post("/v1/streams", json={"id": name, "memory": MEMORY})).raise_for_status()
        begin = time.monotonic() + FILLING
        until = begin + given.seconds
        await asyncio.gather(
            *(
                feed(client, name, clips[number % CLIPS], given.fps, begin + number / given.fps / given.streams, seen)
                for number, name in enumerate(names)
            ),
            *(asker(client, number, given.streams, given.seconds, until, seen) for number in range(given.askers)),
            watch_memory(process, given.seconds, until, seen),
            account(client, process, given.seconds, until, seen),
        )
        states = [(await client.get(f"/v1/streams/{name}")).json() for name in names]
        while any(state["waiting"] for state in states):
            states = [(await client.get(f"/v1/streams/{name}")).json() for name in names]
    dropped = sum(sum(state["dropped"].values()) for state in states)
    return median, seen, sum(state["frames"] for state in states), dropped


def wrong(seen: Seen, given: argparse.Namespace) -> int:
    """How many answers are not the library's on the same frames."""
    model, found = infinipot.load("embedded", device="cpu"), 0
    for clip in range(CLIPS):
        due = sorted({each for each in seen.answers if each[0] == clip}, key=lambda each: each[1])
        with model.stream(MEMORY, fps=given.fps) as stream:
            for frame in Clip(1000 + clip, given.seconds + FILL / given.fps, fps=given.fps):
                while due and due[0][1] < frame.time:
                    found += _differs(stream, due.pop(0))
                stream.watch(frame)
            found += sum(_differs(stream, each) for each in due)
    return found


def _differs(stream: infinipot.Stream, asked: tuple[int, float, str, str]) -> bool:
    return stream.ask(asked[2]) != asked[3]


def packed(block: int | None, streams: int = 8, seconds: float = 24.0, repeats: int = 3) -> tuple[float, float]:
    """Frames that are watched in a second of one thread of the CPU, of so many streams: packed, and one by one.

    Args:
        block: temporal patches that go through the model at once; None for as many as the memory has room for.
        streams: how many.
        seconds: of video.
        repeats: of which the best counts.
    """
    model = infinipot.load("embedded", device="cpu")
    torch.set_num_threads(1)
    frames = [list(Clip(1000 + number % CLIPS, seconds)) for number in range(streams)]
    rates = {True: 0.0, False: 0.0}
    for together in (True, False) * repeats:
        opened = [model.stream(MEMORY, block=block) for _ in range(streams)]
        start = time.process_time()
        for at in zip(*frames, strict=True):
            if together:
                model.watch(zip(opened, at, strict=True))
            else:
                for stream, frame in zip(opened, at, strict=True):
                    stream.watch(frame)
        rates[together] = max(rates[together], streams * len(frames[0]) / (time.process_time() - start))
        for stream in opened:
            stream.close()
    return rates[True], rates[False]


def asked_of_a_fork(questions: int = 40) -> str:
    """What a stream's frames wait for while it answers, beside what asking a fork of it would take."""
    model = infinipot.load("embedded", device="cpu")
    answers, forks = [], []
    with model.stream(MEMORY) as stream:
        for frame in Clip(1000, 60.0):
            stream.watch(frame)
        size = stream.stats().bytes
        for number in range(questions):
            start = time.perf_counter()
            stream.ask(QUESTIONS[number % len(QUESTIONS)], temperature=8.0, top_k=50, seed=number)  # long ones
            answers.append(time.perf_counter() - start)
            start = time.perf_counter()
            stream.fork().close()
            forks.append(time.perf_counter() - start)
    typical, longest, fork = 1e3 * statistics.median(answers), 1e3 * max(answers), 1e3 * statistics.median(forks)
    waits = f"a stream's frames wait for its answer: {typical:.0f} ms, {longest:.0f} at the most"
    return f"{waits}; a fork takes {fork:.1f} ms and {size / 2**20:.1f} MiB again"


def share(values: list[float], part: float) -> float:
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--askers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    given, more = parser.parse_known_args()
    quick = ["--limit", "frames_per_second=1000"]
    command = [sys.executable, "-m", "infinipot", "serve", "--model", "embedded", "--device", "cpu", "--port", "0"]
    server = subprocess.Popen([*command, *quick, *more], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said = re.search(r"http://\S+", server.stdout.readline() if server.stdout else "")
        if said is None:
            raise SystemExit("the server did not start")
        median, seen, watched, dropped = asyncio.run(load(said[0], psutil.Process(server.pid), given))
    finally:
        server.terminate()
        server.wait(60)
    tenth = max(1, len(seen.memory) // 10)
    peaks = [max(seen.memory[at : at + tenth]) / 2**20 for at in range(0, 10 * tenth, tenth)]
    first, p95, pushed = seen.first, share(seen.first, 0.95), given.streams * round(given.seconds * given.fps)
    print(f"{given.streams} streams at {given.fps:g} frames a second, {given.askers} askers, {given.seconds:g} s")
    print(f"frames: {FILL * given.streams} to fill memories and {pushed} at their times; of these {seen.taken} taken")
    print(f"watched {watched} of all, {dropped} dropped and told")
    print(f"requests that failed: {dict(seen.failed) or 'none'}")
    times = ", ".join(f"{name} {1e3 * share(first, part):.0f}" for name, part in (("p50", 0.5), ("p99", 0.99)))
    print(f"time to first token: alone {1e3 * median:.0f} ms; of {len(first)}: {times}, p95 {1e3 * p95:.0f} ms")
    print(f"p95 against the median alone: {p95 / median:.2f}")
    means = {name: 1e3 * each for name, each in seen.means.items()}
    print(
        f"means: {1e3 * statistics.mean(first):.0f} ms, of which by the server's clock "
        f"{means['time_to_first_token']:.0f}, {means['request_queue_time']:.0f} of them in the queue; "
        f"a step {means['step']:.1f}, a frame's wait {means['frame_queue_time']:.0f}"
    )
    parts = ", ".join(f"{name} {each:.2f}" for name, each in seen.cores.items())
    print(f"cores busy: {sum(seen.cores.values()):.2f} of {psutil.cpu_count()}: {parts}")
    print("resident MiB by tenths: " + " ".join(f"{peak:.0f}" for peak in peaks))
    print(f"last tenth against the second: {peaks[-1] / peaks[1]:.4f}")
    errors = wrong(seen, given)
    print(f"answers unlike the library's: {errors} of {len(seen.answers)}")
    print(asked_of_a_fork())
    gains = []
    for block, name in ((1, "blocks of a patch"), (None, "blocks as large as the memory takes")):
        together, single = packed(block)
        gains.append(together / single)
        print(
            f"eight streams, {name}: {together:.0f} frames a second of CPU packed, {single:.0f} one by one: "
            f"{gains[-1]:.2f} times"
        )
    lost = pushed + FILL * given.streams - watched - dropped
    bad = lost or seen.failed or errors or p95 > 3 * median or peaks[-1] > 1.02 * peaks[1] or gains[0] < 2
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
