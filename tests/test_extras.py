"""What works without the extras, and what commands say that need one."""

import ast
import importlib.util
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import infinipot
from infinipot import extras
from infinipot.cli import main
from support.places import ROOT

MODULES = {module for modules in extras.NEEDS.values() for module in modules}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, to work in where nothing that an extra brings can be found or imported."""
    found = importlib.util.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in MODULES else found(name))
    for name in [*MODULES, *(name for name in sys.modules if name.partition(".")[0] in MODULES)]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_matplotlib_the_demo_runs_and_says_how_there_would_be_a_picture(bare: Path) -> None:
    result = CliRunner().invoke(main, ["demo", "--minutes", "0.5", "--compare", "none"])
    assert result.exit_code == 0, result.output
    assert "For a picture of the memory: pip install matplotlib (the extra `plots`)" in result.stdout
    assert not list(bare.iterdir())


@pytest.mark.parametrize(
    ("args", "what", "extra"),
    [
        ("demo --plot a.png", "--plot", "plots"),
        ("watch clip.mp4 --model embedded --ask ? --picture a.png", "--picture", "plots"),
        ("bench needle --quick", "infinipot bench", "bench"),
        ("serve --model embedded", "the server", "serve"),
    ],
)
@pytest.mark.usefixtures("bare")
def test_a_command_that_needs_an_extra_names_it_before_it_begins(args: str, what: str, extra: str) -> None:
    result = CliRunner().invoke(main, args.split())
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {what} needs {', '.join(extras.NEEDS[extra])}, which ")
    packages = " ".join(extras.NEEDS[extra]).replace("_", "-")
    assert result.stderr.endswith(f"not installed: pip install {packages} (the extra `{extra}`)\n")
    assert result.stderr.count("\n") == 1


def test_the_server_says_that_windows_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    result = CliRunner().invoke(main, ["serve", "--model", "no/such/folder"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the server needs Linux or macOS")


def test_what_an_extra_brings_is_imported_when_it_is_used() -> None:
    package = Path(infinipot.__file__).parent
    for path in package.rglob("*.py"):
        if {"needle", "serve", "ray.py"} & set(path.relative_to(package).parts):  # of which the command asks first
            continue
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & MODULES, path


def test_an_extra_holds_what_is_asked_of_it_and_a_plain_install_does_not() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra, modules in extras.NEEDS.items():
        listed = [each.partition(">")[0].replace("-", "_") for each in project["optional-dependencies"][extra]]
        assert sorted(listed) == sorted(modules)
        assert not {requirement.partition(">")[0] for requirement in project["dependencies"]} & set(modules)
