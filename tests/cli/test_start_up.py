"""The command line and `import infinipot` start at once: what computes is imported when it is used, and not before."""

import copy
import gc
import json
import math
import pickle
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import infinipot
from infinipot.cli import main
from infinipot.cli.options import Seconds
from infinipot.cli.output import clock, load_quietly
from infinipot.embedded import scenery
from infinipot.evaluate import BENCHMARKS, PROTOCOLS, find_protocol
from support.places import ROOT

HEAVY: tuple[str, ...] = (
    "torch",
    "torchvision",
    "transformers",
    "tokenizers",
    "numpy",
    "matplotlib",
    "av",
    "PIL",
    "psutil",
    "ray",
)
HEAVY += ("fastapi", "uvicorn", "pydantic", "prometheus_client")
SECONDS = 0.6

# Runs each command of sys.argv[1] (JSON) in one process, and prints what each says and the heavy modules it brought in.
PROBE = f"""
import json, sys
from click.testing import CliRunner
from infinipot.cli import main
from infinipot.cli.output import load_quietly
said = []
for args in json.loads(sys.argv[1]):
    result = CliRunner().invoke(main, args)
    said.append([args, result.exit_code, result.output, [name for name in {HEAVY} if name in sys.modules]])
print(json.dumps(said))
"""


def commands(command: click.Command = main, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command that there is, by the words that call it."""
    below = command.commands if isinstance(command, click.Group) else {}
    return [path, *(words for name, each in below.items() for words in commands(each, (*path, name)))]


def python(*args: str) -> str:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=True).stdout


def test_no_help_imports_what_computes() -> None:
    asked = [[*words, "--help"] for words in commands()] + [["--version"], ["eval"], ["eval", "--list"], ["watch"]]
    assert len(asked) > 15
    for args, code, output, heavy in json.loads(python("-c", PROBE, json.dumps(asked))):
        assert not heavy, (args, heavy)
        assert code == (2 if args == ["watch"] else 0), (args, output)
        assert output.startswith(("Usage: ", "infinipot ", "mlvu ")), (args, output)


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["watch", "--help"], ["eval", "mlvu", "--help"]])
def test_help_is_there_at_once(args: list[str]) -> None:
    def took() -> float:
        """Seconds of processor time, which do not depend on what else the machine does."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python("-m", "infinipot", *args)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(took() < SECONDS for _ in range(3))


def test_ctrl_c_while_the_command_line_is_imported_is_one_line() -> None:
    probe = """
import os, signal, sys
wanted = sys.argv.pop(1)
class Finder:
    def find_spec(self, name, *_):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)
from infinipot.__main__ import main
sys.argv.append("--help")
main()
"""
    for module in ("click", "infinipot.cli", "infinipot.cli.watch"):
        result = subprocess.run([sys.executable, "-c", probe, module], capture_output=True, text=True)
        assert (result.returncode, result.stdout, result.stderr) == (130, "", "interrupted\n"), module


@given(st.floats(0, 1e6))
def test_a_time_that_is_shown_can_be_given(seconds: float) -> None:
    assert Seconds().convert(clock(seconds), None, None) == pytest.approx(seconds, abs=0.006)


def test_times_are_seconds_or_what_a_clock_shows() -> None:
    given = {"90": 90, " 1:30": 90, "1:02:03.5": 3723.5, "0:59.5": 59.5, "61:00": 3660, ".5": 0.5, "1e2": 100}
    assert {text: Seconds().convert(text, None, None) for text in given} == given
    assert Seconds(endless=True).convert("inf", None, None) == math.inf
    for text in ("1:60", "1:-5", "-1:30", "1:2:3:4", "1:60:00", ":30", "1:", "", "1:nan", "1:inf", "-1", "one", "٣:30"):
        with pytest.raises(click.BadParameter, match="is not a time: give seconds"):
            Seconds(endless=True).convert(text, None, None)
    for text in ("inf", "nan", "1e400"):
        with pytest.raises(click.BadParameter, match="is not a time"):
            Seconds().convert(text, None, None)


def test_importing_the_package_imports_nothing_that_computes() -> None:
    probe = f"import infinipot, sys; dir(infinipot); print([name for name in {HEAVY} if name in sys.modules])"
    assert python("-c", probe).strip() == "[]"


def test_every_public_name_is_there_when_it_is_used() -> None:
    names = [*infinipot.__all__, "__version__", "audio", "embedded", "memory", "models", "policies", "video"]
    probe = (
        "from infinipot import *; print(Model.__name__, load.__name__); import infinipot; "
        f"[getattr(infinipot, name) for name in {names}]; print(infinipot.policies.make('full').name)"
    )
    assert python("-c", probe).split() == ["Model", "load", "full"]
    assert set(names) <= set(dir(infinipot))
    with pytest.raises(AttributeError, match="no attribute 'Streams'"):
        getattr(infinipot, "Streams")  # noqa: B009  (a type checker knows that there is none)
    with pytest.raises(ImportError):
        exec("from infinipot import Streams")


def test_errors_are_one_class_however_they_are_reached() -> None:
    for name in (name for name in infinipot.__all__ if name.endswith("Error")):
        kind = getattr(infinipot, name)
        assert issubclass(kind, infinipot.InfinipotError)
        for error in (pickle.loads(pickle.dumps(kind("why"))), copy.deepcopy(kind("why"))):
            assert type(error) is kind
            assert str(error) == "why"


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    place = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{infinipot.__version__}"' in place.read_text()
    assert infinipot.__version__ in python("-m", "infinipot", "--version")


def choices(command: click.Command, name: str) -> list[str]:
    """What an option of a command takes."""
    (kind,) = [option.type for option in command.params if option.name == name]
    assert isinstance(kind, click.Choice)
    return list(kind.choices)


def all_of(command: click.Command) -> Iterator[click.Command]:
    """A command and those below it."""
    yield command
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from all_of(each)


def test_every_option_says_what_it_is() -> None:
    options = ((command, each) for command in all_of(main) for each in command.params if isinstance(each, click.Option))
    assert [f"{command.name} {each.name}" for command, each in options if not each.help] == []


def test_json_of_no_list_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["eval", "--json"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "needs --list" in result.stderr


def test_what_a_help_text_lists_is_what_there_is() -> None:
    for benchmark in BENCHMARKS.values():
        evaluate = main.commands["eval"]
        assert isinstance(evaluate, click.Group)
        choice = choices(evaluate.commands[benchmark.name], "protocol")
        assert choice == [name for name in PROTOCOLS if benchmark.name in PROTOCOLS[name].rules]
        for name in choice:
            assert find_protocol(name).average(benchmark) is not None
    for background in choices(main.commands["demo"], "background"):
        assert scenery.scenery(background, np.random.default_rng(0)).at(0.0).shape == (64, 64, 3)


def test_loading_looks_for_no_garbage_and_leaves_the_collector_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(infinipot, "load", lambda model, **_: seen.append(gc.isenabled()))
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            load_quietly("embedded", verbose=True)
            assert gc.isenabled() == enabled
        finally:
            gc.enable()
    assert seen == [False, False]
