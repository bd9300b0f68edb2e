"""A standing question over an hour of demo video at sixty times its speed, on a real server that is killed in between.

Prints how many of the world's events were told, how many that it has not, whether any was told twice, and whether any
that was told is lost after `kill -9`.

    python perf/watches.py [MINUTES [SPEED]]
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from infinipot.camera.demo import World

EVERY, LATE = 1.5, 3.0  # seconds of the world between two questions, and by which an event may be told late


class Server:
    """A server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            self.port = trial.getsockname()[1]
        self.folder = folder
        self.start()

    def start(self) -> None:
        options = ["--model", "embedded", "--memory", "512", "--port", str(self.port), "--snapshot-seconds", "2"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infinipot", "serve", *options, "--snapshots", str(self.folder / "kept")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(600):
            try:
                self.call("GET", "/ready")
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("the server did not start")

    def call(self, method: str, path: str, body: object = None) -> dict:
        """The JSON that a request is answered with."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read() or b"null")

    def events(self) -> list[dict]:
        """All events of the stream, oldest first."""
        return self.call("GET", "/v1/streams/world/events?limit=1000")["data"][::-1]


def match(told: list[float], truth: list[tuple[float, float]]) -> tuple[int, int]:
    """How many of the true events were told, and how many of those told are of none, or of one told before."""
    left = list(truth)
    wrong = 0
    for time_told in told:
        found = next((each for each in left if each[0] <= time_told <= each[1] + LATE), None)
        if found is None:
            wrong += 1
        else:
            left.remove(found)
    return len(truth) - len(left), wrong


def main() -> None:
    """Prints what was measured."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    speed = float(sys.argv[2]) if len(sys.argv) > 2 else 60
    address = f"demo://still?seed=10005&minutes={minutes:g}&events={round(minutes / 2)}&speed={speed:g}"
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.call("POST", "/v1/streams", {"id": "world", "source": address})
        watch = {"question": "Is there a shape now?", "every_s": EVERY, "max_tokens": 1}
        made = server.call("POST", "/v1/streams/world/watches", watch)
        state = lambda: server.call("GET", "/v1/streams/world")  # noqa: E731
        while state()["time"] < 60 * minutes:
            time.sleep(0.2)
        told = [event["time"] for event in server.events()]
        asked = server.call("GET", f"/v1/streams/world/watches/{made['id']}")
        truth = [(event.start, event.end) for event in World.of(address).clip.events]
        right, wrong = match(told, truth)
        camera = state()["source"]["camera"]
        print(
            f"{minutes:g} minutes at {speed:g} times their speed: asked every {asked['asked_every_s']:.2f} s of them",
            end="; ",
        )
        print(f"{camera['pictures']} pictures, {camera['dropped']} dropped")
        print(f"{right} of {len(truth)} events told, {wrong} told that were none or were told before")
        before = server.events()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        server.start()
        after = server.events()
        lost = [event for event in before if event not in after]
        print(f"kill -9: {len(before)} events were told, {len(lost)} of them are lost")
        server.process.terminate()
        server.process.wait()


if __name__ == "__main__":
    main()
