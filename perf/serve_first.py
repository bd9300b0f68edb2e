"""How long a new user of docs/guides/serving.md takes from `pip install` to the first streamed answer about a frame.

    python perf/serve_first.py              in a new environment, which is deleted afterwards
    python perf/serve_first.py --python .venv/bin/python    in one that is there: without the installation

Runs the commands of the page's first section, one after the other and as they stand there, but for what is installed
(this checkout) and the port (a free one). Prints the seconds that each took, and up to which it was over; the server is
over with the line that says where it listens, the question with the first piece of its answer. The last lines part
what pip took, which is the network's and the disk's, from what came behind it.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE, SECTION = "docs/guides/serving.md", "## First answer"
ENDS = {"infinipot serve": "infinipot serves on ", "curl -N": "data: "}
"""Commands that are not waited for to their end, and how the line begins that is waited for."""


def commands() -> list[str]:
    """Those of the section, without what is said of them."""
    section = (ROOT / PAGE).read_text().partition(SECTION)[2].partition("\n## ")[0]
    return [line.partition("  #")[0].strip() for line in re.findall(r"^\$ (.*)$", section, re.MULTILINE)]


@contextmanager
def running(command: str, folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A command that runs in a shell of its own, and ends with this."""
    whole = ["bash", "-c", command]
    process = subprocess.Popen(
        whole, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate()


def awaited(process: subprocess.Popen[str], command: str, beginning: str | None) -> str:
    """What a line says that begins like this; without one, the command is waited for to its end."""
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if beginning is not None and line.startswith(beginning):
            return line.removeprefix(beginning).strip()
    _, errors = process.communicate()
    if process.returncode or beginning is not None:
        raise SystemExit(f"{command}: status {process.returncode}, {errors.strip()[-2000:]}")
    return ""


def walk(given: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
    """Runs commands, and prints what each took, and what pip did of it all."""
    begun, url = time.perf_counter(), "localhost:8000"
    installing = 0.0
    with ExitStack() as under_way:
        for command in given:
            started = time.perf_counter()
            meant = command.replace("'.[serve]'", shlex.quote(f"{ROOT}[serve]"))
            meant = meant.replace("localhost:8000", url).replace("curl ", "curl --silent --show-error --fail ")
            process = under_way.enter_context(running(meant, folder, environment))
            beginning = next((end for start, end in ENDS.items() if command.startswith(start)), None)
            said = awaited(process, command, beginning)
            url = said if command.startswith("infinipot serve") else url
            now = time.perf_counter()
            installing += now - started if command.startswith("pip ") else 0.0
            print(f"{now - started:7.2f} s  {now - begun:7.2f} s  {command}{said and f'  -> {said}'}", flush=True)
        print(f"{installing:7.2f} s  pip")
        print(f"{time.perf_counter() - begun - installing:7.2f} s  after it, to the first piece of the answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", type=Path, help="of an environment that has infinipot[serve]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "examples").symlink_to(ROOT / "examples")
        if given.python is None:
            venv.create(folder / "venv", with_pip=True)
        bin_ = (folder / "venv" / "bin") if given.python is None else given.python.absolute().parent
        environment = os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}", "INFINIPOT_SERVE_PORT": "0"}
        if given.python is None:
            environment.pop("PYTHONPATH", None)
        walk([each for each in commands() if given.python is None or not each.startswith("pip ")], folder, environment)


if __name__ == "__main__":
    sys.exit(main())
