"""The examples of docs/guides/serving.md do what they say, and the page's own commands are those of the server."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from infinipot.cli import main
from support.places import ROOT
from support.serving import KEYS, Running, alone, clip

COUNT = "How many shapes have appeared so far?"


# Debian 11, Ubuntu 22.04 and so JetPack 6 have curls without these.
OLD_CURL = """#!/bin/sh
for word; do case $word in --json|--fail-with-body) echo "curl: option $word: is unknown" >&2; exit 2;; esac; done
exec {curl} "$@"
"""


def example(served: Running, *words: object, **variables: str) -> str:
    environment = {**os.environ, "INFINIPOT_URL": served.url, "INFINIPOT_KEY": KEYS["alice"], "PYTHONPATH": str(ROOT)}
    environment |= variables
    done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def frames(served: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    said = example(served, sys.executable, "examples/serve/frames.py", folder)
    assert said.startswith(f"{len(clip())} frames")
    return folder


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_curl(served: Running, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "curl").write_text(OLD_CURL.format(curl=shutil.which("curl")))
    (tmp_path / "curl").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    said = example(served, "bash", "examples/serve/ask.sh", frames, COUNT, PATH=path)
    state, *events = said.splitlines()
    assert json.loads(state)["time"] <= clip()[-1].time
    done = json.loads([line for line in events if line.startswith("data: ")][-1].removeprefix("data: "))
    assert (done["time"], done["answer"]) == (clip()[-1].time, alone(clip(), COUNT)[0])


@pytest.mark.parametrize("page", ["serving.md", "live.md"])
def test_commands_of_the_pages_run_with_an_old_curl(page: str) -> None:
    commands = re.findall(r"^\$ (curl .*)", (ROOT / "docs" / "guides" / page).read_text(), re.MULTILINE)
    assert commands
    assert not [command for command in commands if "--json" in command or "--fail-with-body" in command]
    assert all("Content-Type:application/json" in command for command in commands if " -d " in command)


def test_the_openai_client(served: Running, frames: Path) -> None:
    said = example(served, sys.executable, "examples/serve/chat.py", frames)
    assert f"{COUNT} {alone(clip(), COUNT)[0]}" in said
    assert re.search(r"\d+ of \d+ tokens were in memory", said)


def test_a_pusher(served: Running) -> None:
    said = example(served, sys.executable, "examples/serve/push.py", "--fast").splitlines()
    assert [line.partition("]")[0] for line in said] == ["[5 s", "[10 s", "[15 s"]
    half = [frame for frame in clip() if frame.time <= 15]
    assert said[-1].endswith(f"{COUNT} {alone(tuple(half), COUNT)[0]}")


def test_the_page_names_commands_routes_and_limits_that_there_are(served: Running) -> None:
    page = (ROOT / "docs" / "guides" / "serving.md").read_text()
    known = CliRunner().invoke(main, ["serve", "--help"]).output
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page)):
        assert option in known or f"`{option}`" not in page, option
    routes = {re.sub(r"{\w+(:\w+)?}", "{}", path) for path in served.described}
    routes |= {re.sub(r"{\w+}", "{}", route.path) for route in served.sockets()}
    for path in set(re.findall(r"`(?:GET|POST|DELETE|WS) (/[\w/{}-]+)", page)):
        assert re.sub(r"{\w+}", "{}", path) in routes, path
    for name, value in re.findall(r"^\| `(\w+)` \| ([\d,.]+)", page, re.MULTILINE):
        found = type(served.server.settings.limits)().model_dump()[name]
        assert float(value.replace(",", "")) == float(found), name


def test_openapi_says_what_bodies_there_are(served: Running) -> None:
    described = served.as_("alice").get("/openapi.json").json()
    push = described["paths"]["/v1/streams/{name}/frames"]["post"]["requestBody"]["content"]
    assert set(push) == {"image/jpeg", "image/png", "multipart/form-data"}
    asked = described["paths"]["/v1/streams/{name}/ask"]["post"]
    assert asked["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/AskReply")
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
