"""A standing question over an hour of demo video at sixty times its speed, on a real server that is killed in the end.

Prints recall and precision: how many of the world's events were told, and how many of those told are of an event that
was not told before. Then whether any that was told is lost after `kill -9`. The world waits where the machine does not
keep up: how fast it went is printed, too. Exits with 1 where either is below 95%, or one is lost.

    python perf/watches.py [--minutes 60] [--speed 60] [--policy infinipot-v] [--about now]
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from infinipot.camera.demo import World
from infinipot.config import POLICY

ENOUGH = 0.95
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
        for _ in range(3000):
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
        with urllib.request.urlopen(request, timeout=120) as reply:
            return json.loads(reply.read() or b"null")

    def events(self) -> list[dict]:
        """All events of the stream, oldest first."""
        return self.call("GET", "/v1/streams/world/events?limit=1000")["data"][::-1]


def match(told: list[float], truth: list[tuple[float, float]]) -> tuple[int, int, int]:
    """How many events there are to tell, how many of them were, and how many told are of none, or of one told before.

    Events that are less apart than two questions are one to tell: no answer lies between them for sure.
    """
    left, wrong = list(truth), 0
    for time_told in told:
        found = next((each for each in left if each[0] <= time_told <= each[1] + LATE), None)
        if found is None:
            wrong += 1
        else:
            left.remove(found)
    groups = [[truth[0]]]
    for event in truth[1:]:
        if event[0] - groups[-1][-1][1] < EVERY:
            groups[-1].append(event)
        else:
            groups.append([event])
    return len(groups), sum(any(event not in left for event in group) for group in groups), wrong


def main() -> int:
    """Prints what was measured; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60, help="of the world")
    parser.add_argument("--speed", type=float, default=60, help="of the world, times that of the clock")
    parser.add_argument("--policy", default=POLICY)
    parser.add_argument(
        "--about", choices=("now", "all"), default="now", help="what is asked about, see `WatchRequest`"
    )
    given = parser.parse_args()
    minutes, speed, policy, about = given.minutes, given.speed, given.policy, given.about
    address = f"demo://still?seed=10005&minutes={minutes:g}&events={round(minutes / 2)}&speed={speed:g}"
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        began = time.monotonic()
        server.call("POST", "/v1/streams", {"id": "world", "source": address, "policy": policy})
        watch = {"question": "Is there a shape now?", "every_s": EVERY, "max_tokens": 1, "about": about}
        made = server.call("POST", "/v1/streams/world/watches", watch)
        watched = f"/v1/streams/world/watches/{made['id']}"
        state = lambda: server.call("GET", "/v1/streams/world")  # noqa: E731
        while state()["time"] < 60 * minutes:
            time.sleep(0.2)
        took = time.monotonic() - began
        asked_for = 60 * minutes / speed
        until(lambda: server.call("GET", watched)["last_time"] >= 60 * minutes - EVERY)
        told = [event["time"] for event in server.events()]
        asked = server.call("GET", watched)
        truth = [(event.start, event.end) for event in World.of(address).clip.events]
        due, right, wrong = match(told, truth)
        camera = state()["source"]["camera"]
        print(
            f"{policy}, about {about}: {minutes:g} minutes in {took:.0f} s, {asked_for:.0f} at {speed:g} times their "
            f"speed; asked every {asked['asked_every_s']:.2f} s of them; {camera['pictures']} pictures, "
            f"{camera['dropped']} dropped"
        )
        recall, precision = right / due, 1 - wrong / max(len(told), 1)
        print(f"recall {recall:.1%}: {right} of {due} events were told")
        print(f"precision {precision:.1%}: {wrong} of {len(told)} told were of none, or of one told before")
        before = server.events()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        server.start()
        after = server.events()
        lost = [event for event in before if event not in after]
        print(f"kill -9: {len(before)} events were told, {len(lost)} of them are lost")
        server.process.terminate()
        server.process.wait()
    return int(min(recall, precision) < ENOUGH or bool(lost))


def until(met: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits until a condition is met, for so many seconds at the most."""
    end = time.monotonic() + seconds
    while not met() and time.monotonic() < end:
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
