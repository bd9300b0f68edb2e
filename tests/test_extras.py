"""What works without the extras, and what commands say that need one, where what they bring cannot be imported."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from infinipot import extras

# Runs each command of sys.argv[1] (JSON) where the modules of extras are not there.
PROBE = """
import json, sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("matplotlib", "psutil"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in ("matplotlib", "psutil") else found(name)

from click.testing import CliRunner
from infinipot.cli import main
said = []
for args in json.loads(sys.argv[1]):
    result = CliRunner().invoke(main, args)
    said.append([result.exit_code, result.stdout, result.stderr])
print(json.dumps(said))
"""


def test_without_extras_the_demo_runs_and_what_needs_one_names_it(tmp_path: Path) -> None:
    asked = [
        ["demo", "--minutes", "0.5", "--compare", "none"],
        ["demo", "--minutes", "0.5", "--plot", "a.png"],
        ["watch", "clip.mp4", "--model", "embedded", "--ask", "?", "--picture", "a.png"],
        ["bench", "needle", "--quick"],
    ]
    command = [sys.executable, "-c", PROBE, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    shown, *refused = json.loads(done.stdout)
    assert shown[0] == 0
    assert "A picture is drawn with: pip install 'infinipot[plots]'" in shown[1]
    for (code, _, said), option, extra in zip(
        refused, ("--plot", "--picture", "infinipot bench"), ("plots", "plots", "bench"), strict=True
    ):
        assert code == 1
        assert said.startswith(f"error: {option} needs matplotlib")
        assert said.endswith(f"pip install 'infinipot[{extra}]'\n")
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_extra_holds_what_is_asked_of_it() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for extra, modules in extras.NEEDS.items():
        listed = [requirement.partition(">")[0] for requirement in project["optional-dependencies"][extra]]
        assert sorted(listed) == sorted(modules)
        assert not {requirement.partition(">")[0] for requirement in project["dependencies"]} & set(modules)
