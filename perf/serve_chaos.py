"""What a server remembers that is killed at any moment: kill -9, again and again, while frames and questions run.

    python perf/serve_chaos.py [--rounds 20] [--streams 4] [--seed 0]

Each round starts `infinipot serve --model embedded` on the same folder of snapshots, holds every stream that comes back
against the library (the answers of a stream that watched the frames up to its `restored_at`), goes on pushing from
there, asking and saving meanwhile, and kills the process after a random time. Prints a line a round.

Exits with 1 where a snapshot does not load, an answer is another one, a stream is lost that had been saved, a saved
turn or second is lost, or the folder holds more than one snapshot and one that is being written for each stream.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from io import BytesIO
from pathlib import Path

import httpx
from PIL import Image

import infinipot
from infinipot.embedded.world import Clip

QUESTIONS = ("What colour was the circle?", "How many shapes have appeared so far?", "Which shape was red?")
MEMORY, SECONDS = 512, 900.0  # long enough that frames run in every round


class Library:
    """What the library answers about the frames of a clip up to some second."""

    def __init__(self, model: infinipot.Model, seed: int) -> None:
        self.frames = list(Clip(seed, SECONDS))
        self._stream, self._watched = model.stream(MEMORY), 0

    def answers(self, time: float) -> list[str]:
        """At a second that does not come before those that were asked for earlier."""
        while self._watched < len(self.frames) and self.frames[self._watched].time <= time:
            self._stream.watch(self.frames[self._watched])
            self._watched += 1
        return [self._stream.ask(question) for question in QUESTIONS]


class Feeder(threading.Thread):
    """Pushes the frames of one stream from where it is, asks now and then, and notes what it was told was saved."""

    def __init__(self, url: str, name: str, frames: list[infinipot.Frame], seed: int) -> None:
        super().__init__(daemon=True)
        self._url, self._name, self._frames, self._drawn = url, name, frames, random.Random(seed)
        self.saved = -1.0

    def run(self) -> None:
        path = f"{self._url}/v1/streams/{self._name}"
        try:
            with httpx.Client(timeout=30) as client:
                for frame in self._frames:
                    written = BytesIO()
                    Image.fromarray(frame.image).save(written, "PNG")
                    client.post(f"{path}/frames", params={"time": frame.time}, content=written.getvalue())
                    if self._drawn.random() < 0.1:
                        client.post(f"{path}/ask", json={"question": self._drawn.choice(QUESTIONS)})
                    if self._drawn.random() < 0.05:
                        self.saved = client.post(f"{path}/snapshot").json()["time"]
                    time.sleep(0.01)
        except (httpx.HTTPError, json.JSONDecodeError):
            pass  # the server was killed


def start(folder: Path, log: Path) -> tuple[subprocess.Popen, str]:
    """A server on a folder of snapshots."""
    command = [sys.executable, "-m", "infinipot", "serve", "--model", "embedded", "--device", "cpu", "--port", "0"]
    more = ["--snapshots", str(folder), "--snapshot-seconds", "0.3", "--memory", str(MEMORY)]
    with log.open("a") as written:
        server = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=written, text=True)
    said = re.search(r"http://\S+", server.stdout.readline() if server.stdout else "")
    if said is None:
        raise SystemExit(f"the server did not start:\n{log.read_text()[-3000:]}")
    return server, said[0]


def faults(folder: Path, streams: int) -> list[str]:
    """What lies in the folder that should not."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = []
    if len([path for path in files if path.suffix == ".safetensors"]) > 2 * streams:
        found.append("more than two snapshots a stream")
    if len(files) > 5 * streams:
        found.append(f"{len(files)} files")
    return found


def check(url: str, saved: dict[str, float], libraries: dict[str, Library]) -> tuple[dict[str, float], list[str]]:
    """Up to which second each stream came back, and what is wrong with them."""
    found: list[str] = []
    seconds = {}
    with httpx.Client(base_url=url, timeout=60) as client:
        there = {state["id"]: state for state in client.get("/v1/streams").json()["data"]}
        found += [f"{name} is lost" for name, time in saved.items() if time >= 0 and name not in there]
        for name, library in libraries.items():
            if name not in there:
                client.post("/v1/streams", json={"id": name}).raise_for_status()
                continue
            state = there[name]
            if state["restored_at"] < saved[name]:
                found.append(f"{name} came back at {state['restored_at']}, and {saved[name]} had been saved")
            if state["frames"] == 0:
                continue
            seconds[name] = state["restored_at"]
            asked = [
                client.post(f"/v1/streams/{name}/ask", json={"question": question}).json().get("answer")
                for question in QUESTIONS
            ]
            if asked != (right := library.answers(state["restored_at"])):
                found.append(f"{name} answers {asked}, not {right}")
    return seconds, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    drawn, model, wrong = random.Random(given.seed), infinipot.load("embedded", device="cpu"), 0
    libraries = {f"s{number}": Library(model, 1000 + number) for number in range(given.streams)}
    saved = dict.fromkeys(libraries, -1.0)
    with tempfile.TemporaryDirectory() as place:
        folder, log = Path(place) / "snapshots", Path(place) / "log"
        for number in range(given.rounds):
            server, url = start(folder, log)
            seconds, found = check(url, saved, libraries)
            feeders = {}
            for name, library in libraries.items():
                left = [frame for frame in library.frames if frame.time > seconds.get(name, -1.0)]
                feeders[name] = Feeder(url, name, left, drawn.randrange(1 << 30))
                feeders[name].start()
            lived = drawn.uniform(0.0, 6.0)
            time.sleep(lived)
            server.kill()
            server.wait()
            if server.stdout:
                server.stdout.close()
            for name, feeder in feeders.items():
                feeder.join()
                saved[name] = max(saved[name], feeder.saved)
            found += faults(folder, given.streams)
            told = " ".join(f"{seconds.get(name, 0):g}" for name in libraries)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
            print(f"round {number + 1}: came back at {told} s; killed after {lived:.2f} s; {size:.1f} MiB", flush=True)
            for each in found:
                print(f"  {each}")
            wrong += len(found)
        lost = log.read_text().count("was not restored")
    print(f"{given.rounds} rounds: {wrong} faults, {lost} snapshots that did not load")
    return int(bool(wrong or lost))


if __name__ == "__main__":
    sys.exit(main())
